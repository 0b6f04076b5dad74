"""A folder of images, read recursively; sub-folders are classes, or splits if they have the names of splits.

* **Splits.** If every image lies under a top folder named train, test, val (or a synonym), those are the
  splits.
* **Classes.** The first folder below the split names the class, if every image has one and there are two or
  more.
* **Channels** are those of the files, which must all agree: 1-bit (2 levels), grey, grey + alpha, RGB, RGBA,
  16-bit grey (65,536 levels). Palettes count as RGB or RGBA, CMYK and YCbCr as RGB. ``--channels 1|3|4``
  converts 8-bit files; where that drops an alpha channel, the image is laid over white. 16-bit colour is
  refused: Pillow drops its low bytes.
* **EXIF orientation is applied** (JPEG, TIFF, WebP): the data is what a viewer shows.
* **Sizes** must agree, or ``--size`` resizes: see :mod:`logsnr.data.resize`. Of animations the first frame
  counts.

Headers are read at once, pixels when first needed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from logsnr.data.lazy import Lazy, workers
from logsnr.data.pixels import EXTENSIONS, decode, header, layout, lazy, one_mode, one_size
from logsnr.data.record import Block, Source, Wish
from logsnr.data.split import NAMES


def read_folder(source: str, wish: Wish) -> Source:
    """Return the images of a folder, decoded when first needed, by split.

    Raises:
        ValueError: if there are no images, a file cannot be read, or modes or sizes differ and no conversion
        is asked.
    """
    root = Path(source).expanduser()
    files = [path for path in _walk(root) if path.suffix.lower() in EXTENSIONS]
    if not files:
        raise ValueError(f"no images in the folder; extensions looked for: {' '.join(EXTENSIONS)}")
    with ThreadPoolExecutor(workers()) as pool:
        headers = dict(zip(map(str, files), pool.map(header, files, files), strict=True))
    mode = one_mode(headers, wish.channels)
    size = wish.size or one_size(headers)
    splits = _splits(root, files)
    labels = _labels(root, splits)
    blocks = {split: Block(_lazy(paths, mode, size), labels.get(split)) for split, paths in splits.items()}
    seen = {
        "modes": dict(Counter(header.mode for header in headers.values())),
        "sizes": dict(Counter(f"{header.height}x{header.width}" for header in headers.values()).most_common(10)),
    }
    return Source(blocks, layout=layout(mode), seen=seen)


def _walk(root: Path) -> Iterable[Path]:
    """Files in sorted order, without hidden ones and archive litter; links are followed, no folder is read twice."""
    visited = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        if (place := os.path.realpath(folder)) in visited:
            folders.clear()
            continue
        visited.add(place)
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _splits(root: Path, files: list[Path]) -> dict[str, list[Path]]:
    tops = [path.relative_to(root).parts[0].lower() for path in files]
    if not all(top in NAMES for top in tops):
        return {"": files}
    splits: dict[str, list[Path]] = {}
    for top, path in zip(tops, files, strict=True):
        splits.setdefault(NAMES[top], []).append(path)
    return splits


def _labels(root: Path, splits: dict[str, list[Path]]) -> dict[str, np.ndarray]:
    """Class names by split, the first folder below it; nothing if an image has none or all have one."""
    folders = {
        split: [path.relative_to(root).parts[1 if split else 0 : -1][:1] for path in paths]
        for split, paths in splits.items()
    }
    distinct = {folder for names in folders.values() for folder in names}
    if () in distinct or len(distinct) < 2:
        return {}
    return {split: np.array([name for (name,) in names]) for split, names in folders.items()}


def _lazy(paths: list[Path], mode: str, size: tuple[int, int]) -> Lazy:
    return lazy(len(paths), mode, size, lambda row: decode(paths[row], mode, paths[row]))
