"""Shards for tests, written with the standard library."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def png(pixels: np.ndarray) -> bytes:
    """The pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A tar of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_shards(folder: Path, images: np.ndarray, labels: np.ndarray | None, count: int, name: str = "shard") -> None:
    """`count` shards of the images, with labels as .cls."""
    for shard, rows in enumerate(np.array_split(np.arange(len(images)), count)):
        members = []
        for row in rows.tolist():
            members.append((f"{row:06}.png", png(images[row])))
            if labels is not None:
                members.append((f"{row:06}.cls", str(labels[row]).encode()))
        write_tar(folder / f"{name}-{shard:06}.tar", members)
