"""IDX files, the format of MNIST: two zero bytes, a type code, the number of axes, big-endian sizes, then the
values.

Name the images file or its folder. The other files are found beside it by their names:
``train-images-idx3-ubyte`` has labels in ``train-labels-idx1-ubyte`` and a test split in
``t10k-images-idx3-ubyte`` (or ``test-…``), each with or without ``.gz``. Either of the pair stands for both.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from logsnr.data.record import Block, Source, Wish

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_TEST = ("t10k", "test")


def is_idx(source: str) -> bool:
    """Whether it is an IDX file, packed or not, or a folder that holds one with images."""
    path = Path(source)
    if path.is_dir():
        return _images_in(path) is not None
    if not path.is_file():
        return False
    try:
        head = _read(path, 4)
    except (OSError, EOFError):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 5


def read_idx(source: str, wish: Wish) -> Source:
    """Return the images with their labels, and the sibling split where there is one.

    Raises:
        ValueError: if a file is cut short, or a labels file was named.
    """
    path = Path(source)
    named = _images_in(path) if path.is_dir() else path
    assert named is not None
    train, test = _pair(named)
    if train is None or test is None:
        return Source({"": _block(named)})
    return Source({"train": _block(train), "test": _block(test)})


def _pair(named: Path) -> tuple[Path | None, Path | None]:
    """The images files of the training and the test split, None for one that is not there."""
    for word in _TEST:
        if word in named.name:
            return _beside(named, word, "train"), named
    return named, _beside(named, "train", _TEST[0]) or _beside(named, "train", _TEST[1])


def _block(path: Path) -> Block:
    examples = _array(path)
    if examples.ndim < 2:
        raise ValueError(f"{path} holds one number per example (labels?); name the images file")
    labels = _beside(path.with_name(path.name.replace("idx3", "idx1")), "images", "labels")
    return Block(examples, None if labels is None else _array(labels))


def _array(path: Path) -> np.ndarray:
    data = _read(path)
    dtype, start = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{path} ends within its header")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    wanted, given = math.prod(shape) * dtype.itemsize, len(data) - start
    if wanted != given:
        raise ValueError(f"{path} has {given} bytes of values; its header {shape} needs {wanted}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def _read(path: Path, size: int = -1) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    if packed:
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(size)
    with path.open("rb") as file:
        return file.read(size)


def _images_in(folder: Path) -> Path | None:
    """The images file of a folder, that of the training split first."""
    found = [path for path in sorted(folder.glob("*images*idx*")) if is_idx(str(path))]
    return min(found, key=lambda path: "train" not in path.name, default=None)


def _beside(path: Path, old: str, new: str) -> Path | None:
    return _either(path.with_name(path.name.replace(old, new, 1))) if old in path.name else None


def _either(path: Path) -> Path | None:
    """The path as it is, without .gz or with it; None if there is no such file."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    return next((each for each in (path, plain, Path(f"{plain}.gz")) if each.is_file()), None)
