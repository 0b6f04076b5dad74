"""From one string to a data set. What the string is follows from itself or from the file's content.

To read a new format write ``read(source, wish) -> Source`` and ``accepts(source) -> bool`` and add one line
to READERS.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple
from zipfile import BadZipFile

from logsnr.data.arrays import is_npy, is_npz, read_npy, read_npz
from logsnr.data.assemble import assemble
from logsnr.data.cifar import is_cifar, read_cifar
from logsnr.data.digits import read_digits
from logsnr.data.hf import is_hf, read_hf
from logsnr.data.idx import is_idx, read_idx
from logsnr.data.images import read_folder
from logsnr.data.record import Block, Dataset, Source, Wish
from logsnr.data.wds import is_wds, read_wds

TOY_TRAIN, TOY_TEST = 10_000, 2_000


def read_toy(source: str, wish: Wish) -> Source:
    """Return 10,000 training and 2,000 test points, (N, 2) float64, of a two-dimensional distribution."""
    from logsnr.data.toys import TOYS

    name = source.removeprefix("toy:")
    if name not in TOYS:
        raise ValueError(f"unknown toy {name!r}{_meant(name, list(TOYS))}; known: {', '.join(TOYS)}")
    toy = TOYS[name]()
    parts = {"train": toy.sample(TOY_TRAIN, 0), "test": toy.sample(TOY_TEST, 1)}
    return Source({split: Block(points.numpy()) for split, points in parts.items()})


class Reader(NamedTuple):
    """One way to say DATA: how it looks in a list, which strings it takes, and what reads them."""

    known_as: str
    accepts: Callable[[str], bool]
    read: Callable[[str, Wish], Source]


READERS = (
    Reader("digits", lambda source: source == "digits", read_digits),
    Reader("toy:NAME", lambda source: source.startswith("toy:"), read_toy),
    Reader("wds:SHARDS", is_wds, read_wds),
    Reader("hf:DATA", is_hf, read_hf),
    Reader("x.npy", is_npy, read_npy),
    Reader("x.npz", is_npz, read_npz),
    Reader("an IDX (MNIST) file or folder", is_idx, read_idx),
    Reader("a CIFAR-10 file or folder", is_cifar, read_cifar),
    Reader("a folder of images", lambda source: Path(source).is_dir(), read_folder),
)


def load(
    source: str,
    *,
    split: str = "train",
    size: tuple[int, int] | int | None = None,
    channels: Literal["auto"] | int = "auto",
) -> Dataset:
    """Return one split of the data that ``source`` names.

    Args:
        source: DATA, see :data:`READERS`.
        split: "train", "test", or another that the source names.
        size: images are resized to cover (height, width) and cropped at the centre; an int is a square.
        channels: 1, 3 or 4 converts image files; "auto" takes them as they are.

    Raises:
        ValueError: one line that names the source and what is wrong with it.
    """
    try:
        wish = _wish(size, channels)
        place = str(Path(source).expanduser()) if source.startswith("~") else source
        return assemble(source, _reader(place).read(place, wish), split, wish)
    except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(f"data {source!r}: {' '.join(str(error).split())}") from error


def _reader(source: str) -> Reader:
    for reader in READERS:
        if source and reader.accepts(source):
            return reader
    known = "; known: " + ", ".join(reader.known_as for reader in READERS)
    if source and Path(source).exists():
        raise ValueError("the content is not of a known kind" + known)
    raise ValueError("no such file, folder or name" + _meant(source, ["digits", "toy:"]) + known)


def _meant(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(given.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _wish(size: tuple[int, int] | int | None, channels: Literal["auto"] | int) -> Wish:
    square = (size, size) if isinstance(size, int) else size
    if square is not None and (len(square) != 2 or min(square) < 1):
        raise ValueError(f"size is {size}; a positive N or (height, width) is needed")
    if channels not in ("auto", 1, 3, 4):
        raise ValueError(f"channels is {channels!r}; allowed: auto, 1, 3, 4")
    return Wish(square, None if channels == "auto" else int(channels))
