"""The log: one JSON record a line, in step with the checkpoints.

A line is written in one call and is then safe from the death of the process; `sync` makes it safe from the
death of the machine and is called before a checkpoint is published. So the log of a checkpoint's step is
whole on disk, and what a killed run wrote after its last checkpoint, or tore in half, is what `keep_until`
drops on resume: the run writes it again. No record is missing and none comes twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from logsnr.files import sync_directory, whole


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole records of a log, in order; a torn or foreign line is passed over."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if line.endswith(b"\n") and isinstance(record, dict):
                yield record


class Journal:
    """Appends records to `path`; a context manager that closes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=0)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record. ValueError for numbers JSON cannot say; OSError in one line on a full disk."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror}") from None
        if written != len(line):
            raise OSError(f"cannot write {self.path}: only {written} of {len(line)} bytes fitted")

    def keep_until(self, step: int) -> None:
        """Drop what comes after `step` (and lines without one), whole or not at all."""
        with whole(self.path) as fresh, fresh.open("wb") as file:
            for record in read(self.path):
                if record.get("step", step + 1) <= step:
                    file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self.close()
        sync_directory(self.path.parent)
        self._file = self.path.open("ab", buffering=0)

    def sync(self) -> None:
        """Force the records to the disk; call it before the checkpoint of their step is published."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Unwritten(Journal):
    """The journal of a rank whose records another one writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None: ...

    def keep_until(self, step: int) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...
