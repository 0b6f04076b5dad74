"""Files that are there whole or not at all, and outlive the machine: data first, then the entry that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write to the hidden file this gives; it becomes `path` when the block ends well, and disappears when it does not.

    OSError in one line naming `path` when the disk does not take it.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        sync_file(fresh)
        os.replace(fresh, path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Force a file's content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Force the entries of a directory to the disk (systems other than POSIX offer no such call)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
