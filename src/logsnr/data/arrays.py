"""NumPy files: ``x.npy``, memory-mapped, and ``x.npz``.

An .npz holds one array, or ``images`` and ``labels`` (also x/y, data/targets, arr_0/arr_1), or the same per
split: ``x_train, y_train, x_test, y_test``, ``train_images, train_labels, val_images, …``. Beside them may stand
what else conditions the examples, row by row: ``vectors`` (N, F) and ``conditions`` (N, C', *spatial), spelt per split
in the same ways. Nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from logsnr.data.record import Block, Source, Wish
from logsnr.data.split import NAMES

EXAMPLES = ("images", "x", "data", "arr_0")
SPLITS = ("", *dict.fromkeys(NAMES.values()))
LABELS = ("labels", "y", "targets", "target", "arr_1")
BESIDE = {"vector": ("vectors",), "image": ("conditions",)}
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


def is_npy(source: str) -> bool:
    """Whether the file begins like a .npy file."""
    return _begins(source, _NPY)


def is_npz(source: str) -> bool:
    """Whether the file is a zip archive named .npz."""
    return Path(source).suffix.lower() == ".npz" and _begins(source, _ZIP)


def read_npy(source: str, wish: Wish) -> Source:
    """Return the array, memory-mapped."""
    try:
        examples = np.load(source, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _refusal(error) from error
    return Source({"": Block(examples)})


def read_npz(source: str, wish: Wish) -> Source:
    """Return the arrays by split, with their labels where there are any.

    Raises:
        ValueError: if no array has a known name, or splits differ in shape or dtype.
    """
    with np.load(source, allow_pickle=False) as archive:
        keys = {key.lower(): key for key in archive.files}
        names = {split: (_key(keys, split, EXAMPLES), _key(keys, split, LABELS)) for split in SPLITS}
        if len(keys) == 1:
            names = {"": (archive.files[0], None)}
        try:
            blocks = {
                split: Block(archive[examples], archive[labels] if labels else None, _beside(archive, keys, split))
                for split, (examples, labels) in names.items()
                if examples
            }
        except ValueError as error:
            raise _refusal(error) from error
    if not blocks or ("" in blocks and len(blocks) > 1):
        raise ValueError(
            f"arrays {', '.join(keys.values())}; known: images, labels, or x_train, x_test, or a single array"
        )
    return Source(blocks)


def _beside(archive: Any, keys: dict[str, str], split: str) -> dict[str, np.ndarray]:
    found = {name: _key(keys, split, parts) for name, parts in BESIDE.items()}
    return {name: archive[key] for name, key in found.items() if key}


def read_conditions(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that condition examples, by keyword (labels as "classes"); "" for a single array.

    Raises:
        ValueError: in one line, if it is no .npy or .npz file, or no array has a known name.
    """
    if is_npy(str(path)):
        return {"": np.load(path, allow_pickle=False)}
    if not is_npz(str(path)):
        raise ValueError(f"{path} is no .npy or .npz file; allowed: arrays vectors, conditions or labels")
    with np.load(path, allow_pickle=False) as archive:
        keys = {key.lower(): key for key in archive.files}
        known = {"classes": LABELS[:1], **BESIDE}
        found = {name: archive[key] for name, parts in known.items() if (key := _key(keys, "", parts))}
    if not found:
        raise ValueError(f"{path} has the arrays {', '.join(keys.values())}; known: vectors, conditions, labels")
    return found


def _key(keys: dict[str, str], split: str, parts: tuple[str, ...]) -> str | None:
    """Return the archive's name of the first of these parts that the split has, in any usual spelling."""
    spellings = [name for name, meaning in NAMES.items() if meaning == split] or [""]
    candidates = (
        f"{a}_{b}".strip("_") for part in parts for name in spellings for a, b in ((part, name), (name, part))
    )
    return next((keys[candidate] for candidate in candidates if candidate in keys), None)


def _refusal(error: ValueError) -> ValueError:
    if "object" in str(error).lower():
        return ValueError("dtype object is refused (it would be unpickled); allowed: bool, integers, floats")
    return error


def _begins(source: str, magic: bytes) -> bool:
    path = Path(source)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
