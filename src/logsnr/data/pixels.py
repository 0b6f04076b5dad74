"""One image file: what its header says, its pixels, and whether many of them can be one data set.

The rules of channels and sizes are those of :mod:`logsnr.data.images`, wherever the files lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from logsnr.data.lazy import Lazy
from logsnr.data.resize import resize

File = Path | BinaryIO
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
_CONVERTED = {1: "L", 3: "RGB", 4: "RGBA"}
_AS = {mode: mode for mode in ("1", "L", "LA", "RGB", "RGBA")}
_AS |= {"I": "I;16", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16"}
_AS |= {"CMYK": "RGB", "YCbCr": "RGB", "PA": "RGBA"}
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_TRANSPOSED = range(5, 9)
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What a file says before its pixels are read."""

    mode: str
    height: int
    width: int


def decode(file: File, mode: str, name: object) -> np.ndarray:
    """Return the pixels (H, W) or (H, W, C) of an image in one of the modes 1, L, LA, RGB, RGBA, I;16.

    Raises:
        ValueError: naming the file, whatever is wrong with it.
    """
    try:
        with Image.open(file) as found:
            image = found if found.format == "PNG" else ImageOps.exif_transpose(found)
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
        raise ValueError(f"cannot decode {name}: {_said(error, file)}") from error


def header(file: File, name: object) -> Header:
    """Return what the header says.

    Raises:
        ValueError: naming the file, whatever is wrong with it.
    """
    try:
        with Image.open(file) as image:
            mode = _effective_mode(image)
            # A PNG would be decoded to look for its orientation, which PNGs do not have in practice.
            turned = image.format != "PNG" and image.getexif().get(_ORIENTATION) in _TRANSPOSED
            width, height = image.size
    except Exception as error:  # as in decode
        raise ValueError(f"cannot read {name}: {_said(error, file)}") from error
    return Header(mode, *((width, height) if turned else (height, width)))


def _effective_mode(image: Image.Image) -> str:
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    if image.mode not in _AS:
        raise ValueError(f"mode {image.mode} is not known; known: {' '.join(_AS)} P")
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise ValueError("16-bit colour, of which only 8 bits would be read; store it as a uint16 .npy")
    return _AS[image.mode]


def one_mode(headers: Mapping[str, Header], channels: int | None) -> str:
    """Return the mode that all files, by name, have or are converted to.

    Raises:
        ValueError: naming two files that differ, or one that cannot be converted.
    """
    first = next(iter(headers))
    mode = headers[first].mode
    odd = next((name for name in headers if headers[name].mode != mode), None)
    wide = next((name for name in headers if headers[name].mode == "I;16"), None)
    if wide and (odd or channels not in (None, 1)):
        raise ValueError(f"{wide} is 16-bit grey: such files are neither mixed with others nor converted to colour")
    if channels is not None and not wide:
        return _CONVERTED[channels]
    if odd:
        raise ValueError(
            f"{odd} is {headers[odd].mode} but {first} is {mode}; convert all with --channels 3 (or 1, or 4)"
        )
    return mode


def one_size(headers: Mapping[str, Header]) -> tuple[int, int]:
    """Return the height and width that all files, by name, have.

    Raises:
        ValueError: naming two files that differ.
    """
    (first, (_, height, width)), *others = headers.items()
    for name, (_, other_height, other_width) in others:
        if (other_height, other_width) != (height, width):
            raise ValueError(
                f"images of several sizes: {first} is {height}x{width}, "
                f"{name} is {other_height}x{other_width}; give --size N or --size HxW"
            )
    return height, width


def layout(mode: str) -> str:
    """Return the layout of pixels in this mode."""
    return "grey" if CHANNELS[mode] == 1 else "channels_last"


def lazy(count: int, mode: str, size: tuple[int, int], pixels: Callable[[int], np.ndarray]) -> Lazy:
    """Return `count` images, resized, whose pixels in this mode are read when first needed."""
    channels = CHANNELS[mode]
    shape = size if channels == 1 else (*size, channels)
    dtype = np.dtype({"1": bool, "I;16": np.uint16}.get(mode, np.uint8))
    levels = {"1": 2, "I;16": 65536}.get(mode, 256)
    return Lazy(count, shape, dtype, lambda row: resize(pixels(row), size, levels))


def _said(error: Exception, file: File) -> str:
    """What an error says, without the address of a file in memory."""
    return str(error).replace(repr(file), "the file")
