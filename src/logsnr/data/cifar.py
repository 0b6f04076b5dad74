"""CIFAR-10 as published: the binary version or the python version, a folder or one file.

Binary: ``data_batch_1.bin`` .. ``data_batch_5.bin``, ``test_batch.bin``; a record is one label byte and 3072
bytes of red, green and blue planes. Python: ``data_batch_1`` .., ``test_batch``, pickled by Python 2 and read
here without running them (:mod:`logsnr.data.unpickle`). Class names come from ``batches.meta.txt`` or
``batches.meta`` beside them. Both are handed on as (N, 32, 32, 3), so that they are the same data set (A.
Krizhevsky, "Learning multiple layers of features from tiny images", 2009).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from logsnr.data.record import Block, Source, Wish
from logsnr.data.unpickle import read_pickle, text

_NAME = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?")
_PIXELS = 3 * 32 * 32


def is_cifar(source: str) -> bool:
    """Whether it is a batch file, by its name, or a folder that holds one."""
    path = Path(source)
    return bool(_batches(path)) if path.is_dir() else path.is_file() and bool(_NAME.fullmatch(path.name))


def read_cifar(source: str, wish: Wish) -> Source:
    """Return the training batches, in order, and the test batch.

    Raises:
        ValueError: if a file is cut short, or a pickle holds more than data.
    """
    path = Path(source)
    if path.is_file():
        return Source({"": _joined([path])}, _classes(path.parent))
    batches = _batches(path)
    train, test = ([each for each in batches if each.name.startswith(word)] for word in ("data", "test"))
    blocks = {split: _joined(found) for split, found in (("train", train), ("test", test)) if found}
    return Source(blocks, _classes(path))


def _batches(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_file() and _NAME.fullmatch(path.name))
    binary = [path for path in found if path.suffix]
    return binary or found


def _joined(paths: list[Path]) -> Block:
    parts = [_binary(path) if path.suffix else _python(path) for path in paths]
    planes = np.concatenate([pixels for pixels, _ in parts]).reshape(-1, 3, 32, 32)
    return Block(np.moveaxis(planes, 1, -1), np.concatenate([labels for _, labels in parts]))


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % (1 + _PIXELS):
        raise ValueError(f"{path} has {data.size} bytes, which is not a multiple of {1 + _PIXELS}")
    records = data.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0]


def _python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    record = _record(path)
    pixels, labels = np.asarray(record.get("data")), np.asarray(record.get("labels"))
    if pixels.dtype != np.uint8 or pixels.shape != (labels.size, _PIXELS):
        keys = ", ".join(record)
        raise ValueError(f"{path} does not hold data (N, {_PIXELS}) uint8 and N labels; its keys: {keys}")
    return pixels, labels


def _record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        try:
            content = read_pickle(file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a dict is needed")
    return {text(key): value for key, value in content.items()}


def _classes(folder: Path) -> tuple[str, ...]:
    names = folder / "batches.meta.txt"
    if names.is_file():
        return tuple(names.read_text().split())
    meta = folder / "batches.meta"
    return tuple(text(name) for name in _record(meta).get("label_names", ())) if meta.is_file() else ()
