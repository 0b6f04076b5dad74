"""A file from the network, once: checked by its SHA-256, and in the cache whole or not at all.

The cache is `$LOGSNR_CACHE`, else `~/.cache/logsnr`. Each process writes to a file of its own and renames it, so those
that fetch at the same time do not meet. A file there with another checksum was cut short or changed, and is fetched
again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Remote:
    """A file of the network: its name in the cache, where it is, and its SHA-256 (hex)."""

    name: str
    url: str
    sha256: str


def cache() -> Path:
    """The cache directory, which need not exist."""
    return Path(os.environ.get("LOGSNR_CACHE") or Path.home() / ".cache" / "logsnr")


def cached(remote: Remote) -> Path:
    """The path of the file, fetched if it is not there or not what it should be.

    OSError in one line that says what to do if it cannot be had; ValueError if what came has another checksum.
    """
    path = cache() / remote.name
    damaged = path.is_file() and _digest(path) != remote.sha256
    if path.is_file() and not damaged:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{remote.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(
            f"cannot write to the cache {path.parent}: {error.strerror} (LOGSNR_CACHE names another)"
        ) from None
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(remote, file)
        if (found := _digest(fresh)) != remote.sha256:
            raise ValueError(f"{remote.url} has SHA-256 {found}, not {remote.sha256}: cut short or changed; not used")
        os.replace(fresh, path)
    except (OSError, HTTPException) as error:
        there = "is damaged" if damaged else "is not there"
        raise OSError(
            f"{path} {there} and cannot be fetched from {remote.url} ({error}); "
            "put the file there, or give --feature-file PATH, or take --features pixels or classifier"
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _fetch(remote: Remote, file: BinaryIO) -> None:
    with urllib.request.urlopen(remote.url, timeout=TIMEOUT_SECONDS) as answer:
        shutil.copyfileobj(answer, file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
