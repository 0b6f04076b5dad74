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
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from logsnr.data.lazy import Lazy
from logsnr.data.record import Block, Source, Wish
from logsnr.data.resize import resize
from logsnr.data.split import NAMES

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_CONVERTED = {1: "L", 3: "RGB", 4: "RGBA"}
_AS = {mode: mode for mode in ("1", "L", "LA", "RGB", "RGBA")}
_AS |= {"I": "I;16", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16"}
_AS |= {"CMYK": "RGB", "YCbCr": "RGB", "PA": "RGBA"}
_CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_TRANSPOSED = range(5, 9)
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What a file says before its pixels are read."""

    mode: str
    height: int
    width: int


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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers = dict(zip(files, pool.map(_header, files), strict=True))
    mode = _one_mode(headers, wish.channels)
    size = wish.size or _one_size(headers)
    splits = _splits(root, files)
    labels = _labels(root, splits)
    blocks = {split: Block(_lazy(paths, mode, size), labels.get(split)) for split, paths in splits.items()}
    seen = {
        "modes": dict(Counter(header.mode for header in headers.values())),
        "sizes": dict(Counter(f"{header.height}x{header.width}" for header in headers.values()).most_common(10)),
    }
    return Source(blocks, layout="grey" if _CHANNELS[mode] == 1 else "channels_last", seen=seen)


def decode(path: Path, mode: str) -> np.ndarray:
    """Return the pixels (H, W) or (H, W, C) of an image in one of the modes 1, L, LA, RGB, RGBA, I;16.

    Raises:
        ValueError: naming the file, whatever is wrong with it.
    """
    try:
        with Image.open(path) as file:
            image = file if file.format == "PNG" else ImageOps.exif_transpose(file)
            if mode == "I;16":
                wide = np.asarray(image)
                if wide.min() < 0 or wide.max() > 65535:
                    raise ValueError(f"values from {wide.min()} to {wide.max()}; allowed: 0 to 65535")
                return wide.astype(np.uint16)
            if _effective_mode(image) in ("LA", "RGBA") and mode in ("1", "L", "RGB"):
                opaque = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
            return np.array(image.convert(mode))
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise ValueError(f"cannot decode {path}: {error}") from error


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


def _header(path: Path) -> Header:
    try:
        with Image.open(path) as image:
            mode = _effective_mode(image)
            # A PNG would be decoded to look for its orientation, which PNGs do not have in practice.
            turned = image.format != "PNG" and image.getexif().get(_ORIENTATION) in _TRANSPOSED
            width, height = image.size
    except Exception as error:  # as in decode
        raise ValueError(f"cannot read {path}: {error}") from error
    return Header(mode, *((width, height) if turned else (height, width)))


def _effective_mode(image: Image.Image) -> str:
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    if image.mode not in _AS:
        raise ValueError(f"mode {image.mode} is not known; known: {' '.join(_AS)} P")
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise ValueError("16-bit colour, of which only 8 bits would be read; store it as a uint16 .npy")
    return _AS[image.mode]


def _one_mode(headers: dict[Path, Header], channels: int | None) -> str:
    first = next(iter(headers))
    mode = headers[first].mode
    odd = next((path for path in headers if headers[path].mode != mode), None)
    wide = next((path for path in headers if headers[path].mode == "I;16"), None)
    if wide and (odd or channels not in (None, 1)):
        raise ValueError(f"{wide} is 16-bit grey: such files are neither mixed with others nor converted to colour")
    if channels is not None and not wide:
        return _CONVERTED[channels]
    if odd:
        raise ValueError(
            f"{odd} is {headers[odd].mode} but {first} is {mode}; convert all with --channels 3 (or 1, or 4)"
        )
    return mode


def _one_size(headers: dict[Path, Header]) -> tuple[int, int]:
    (first, (_, height, width)), *others = headers.items()
    for path, (_, other_height, other_width) in others:
        if (other_height, other_width) != (height, width):
            raise ValueError(
                f"images of several sizes: {first} is {height}x{width}, "
                f"{path} is {other_height}x{other_width}; give --size N or --size HxW"
            )
    return height, width


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
    channels = _CHANNELS[mode]
    shape = size if channels == 1 else (*size, channels)
    dtype = np.dtype({"1": bool, "I;16": np.uint16}.get(mode, np.uint8))
    levels = {"1": 2, "I;16": 65536}.get(mode, 256)
    return Lazy(len(paths), shape, dtype, lambda row: resize(decode(paths[row], mode), size, levels))
