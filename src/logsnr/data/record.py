"""What a reader returns (:class:`Source`) and what everybody else uses (:class:`Dataset`).

A reader knows one file format and nothing about models: it returns blocks of raw examples, in the data's own
layout and dtype, under the names of their splits. Everything else (held-out examples, grey levels,
standardisation, hash) is done once for all formats.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from logsnr.data.conditions import Conditions, marked
from logsnr.data.lazy import Lazy
from logsnr.data.transform import Transform

Examples = np.ndarray | Lazy
CHUNK_BYTES = 2**25
FEW = 1000


class Wish(NamedTuple):
    """What the user asked of image files: (height, width) and number of channels, None for as they are."""

    size: tuple[int, int] | None = None
    channels: int | None = None


class Shards(NamedTuple):
    """How examples lie that are not cheap to read at random, or too many to read at once.

    sizes: examples in each shard; the shards are consecutive rows.
    mixed: how many shards are permuted together (:mod:`logsnr.data.lanes`).
    identity: a hash that stands for the content of all of them, where reading it all is out of the question.
    """

    sizes: tuple[int, ...]
    mixed: int
    identity: str


class Block(NamedTuple):
    """Raw examples (N, *raw_shape) and what labels them, (N,) integers or strings, or None.

    beside: further arrays that condition the examples, row by row, by the keyword they become: "vector", "image".
    shards: how they lie, or None if any example is as cheap to read as any other, and all are read at once.
    """

    examples: Examples
    labels: np.ndarray | None = None
    beside: dict[str, np.ndarray] = {}  # noqa: RUF012 (never changed)
    shards: Shards | None = None


class Beside(NamedTuple):
    """The array of one keyword for a whole block, (N, *), and its transform."""

    raw: np.ndarray
    transform: Transform


@dataclass(frozen=True)
class Source:
    """What a reader found.

    Attributes:
        blocks: examples by split; one block alone is split by :mod:`logsnr.data.split`.
        classes: names of the labels 0 .. K−1; empty if the labels name themselves.
        levels, layout: where the format knows better than :mod:`logsnr.data.survey` can tell from an array.
        seen: further facts for the summary (modes and sizes of image files).
    """

    blocks: dict[str, Block]
    classes: tuple[str, ...] = ()
    levels: int | None = None
    layout: str | None = None
    seen: dict[str, Any] = field(default_factory=dict)


def chunks(examples: Examples, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the raw examples at the positions ``rows`` in order, 32 MiB (or one example) at a time."""
    example_bytes = math.prod(examples.shape[1:]) * examples.dtype.itemsize
    count = max(1, CHUNK_BYTES // example_bytes)
    for start in range(0, len(rows), count):
        yield np.asarray(examples[rows[start : start + count]])


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a source: N examples, their labels, and the transform between raw and model units.

    Attributes:
        source: the string that was loaded.
        split: name of this split.
        classes: names of the classes, empty if there are none.
        labels: (N,) int64, or None.
        transform: raw ↔ model units, fitted on the training split (levels: on all splits).
        facts: what the summary adds: examples by split, resize, modes and sizes of image files.
        shards: how the examples lie, None if they are cheap to read at random.
    """

    source: str
    split: str
    classes: tuple[str, ...]
    labels: Tensor | None
    transform: Transform
    facts: dict[str, Any]
    _examples: Examples = field(repr=False)
    _rows: np.ndarray = field(repr=False)
    _beside: dict[str, Beside] = field(repr=False, default_factory=dict)
    shards: Shards | None = field(repr=False, default=None)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """One example in model layout, (C, *spatial) or (D,)."""
        return self.transform.shape

    @property
    def splits(self) -> dict[str, int]:
        """Number of examples of each split of the source."""
        return dict(self.facts["splits"])

    @property
    def levels(self) -> int | None:
        """Number of grey levels, None for continuous data."""
        return self.transform.levels

    def raw(self, indices: Any) -> np.ndarray:
        """Return the examples ``indices`` (n,) in the data's own layout and dtype, shape (n, *raw_shape)."""
        return np.asarray(self._examples[self._rows[np.asarray(indices, dtype=np.intp)]])

    def batch(self, indices: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return x (n, *shape), float32, model units, and its conditions by keyword (:mod:`logsnr.data.conditions`)."""
        return self.transform.encode(self.raw(indices)), self.condition(indices)

    def condition(self, indices: Any) -> dict[str, Tensor]:
        """Return the conditions of the examples ``indices`` (n,) by keyword, {} if there are none."""
        rows = self._rows[np.asarray(indices, dtype=np.intp)]
        found = {} if self.labels is None else {"classes": self.labels[torch.as_tensor(indices, dtype=torch.int64)]}
        for name, (raw, transform) in self._beside.items():
            found[name] = marked(transform.encode(raw[rows]))
        return found

    @property
    def conditions(self) -> Conditions:
        """What the examples come with: class names and counts in this split, transforms of vectors and images."""
        labelled = self.labels is not None
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist() if self.labels is not None else []
        transforms = {name: transform for name, (_, transform) in self._beside.items()}
        return Conditions(self.classes if labelled else (), tuple(counts), **transforms)

    def conditioned_on(self, names: Collection[str]) -> Dataset:
        """Return the same examples with these conditions alone, by keyword.

        Raises:
            ValueError: if the data has no such condition, naming those it has.
        """
        have = self.conditions.names
        for name in names:
            if name not in have:
                raise ValueError(
                    f"data {self.source!r}, split {self.split!r}, has no {name} to condition on; "
                    f"it has: {', '.join(have) or 'none (labels, vectors and conditions are read beside the examples)'}"
                )
        beside = {name: found for name, found in self._beside.items() if name in names}
        return replace(self, labels=self.labels if "classes" in names else None, _beside=beside)

    @cached_property
    def condition_fingerprints(self) -> dict[str, str]:
        """SHA-256 of each condition by keyword: names and labels of the classes, the raw rows of the others."""
        digests = {}
        if self.labels is not None:
            text = json.dumps([self.classes, self.labels.tolist()])
            digests["classes"] = hashlib.sha256(text.encode()).hexdigest()
        for name, (raw, _) in self._beside.items():
            digest = hashlib.sha256(json.dumps([raw.shape[1:], raw.dtype.newbyteorder("<").str]).encode())
            for part in chunks(raw, self._rows):
                digest.update(np.ascontiguousarray(part, dtype=raw.dtype.newbyteorder("<")).tobytes())
            digests[name] = digest.hexdigest()
        return digests

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of count, shape, dtype, split and resize, then of the raw bytes in order.

        Neither path nor file format is part of it: equal data has equal fingerprints. Of data in shards, the reader's
        identity of them stands for the bytes.
        """
        return self._survey[0] if self.shards is None else self._digest(self.shards.identity).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return what there is to print about the data, as plain JSON values.

        Reads every example once, or the first `FEW` of data in shards.
        """
        _, low, high = self._survey
        return {
            "source": self.source,
            "split": self.split,
            "count": len(self),
            "shape": list(self.shape),
            "raw_shape": list(self.transform.raw_shape),
            "levels": self.levels,
            "classes": list(self.classes),
            **({"conditions": list(self.conditions.names)} if self._beside else {}),
            "range": [low, high],
            "fingerprint": self.fingerprint,
            **self.facts,
            "notes": self._notes(low, high),
        }

    def _digest(self, *more: str) -> hashlib._Hash:
        dtype = self._examples.dtype.newbyteorder("<")
        head = [len(self), *self.transform.raw_shape], dtype.str, self.split, self.facts["resize"], *more
        return hashlib.sha256(json.dumps(head).encode())

    @cached_property
    def _survey(self) -> tuple[str, float | int, float | int]:
        dtype, digest = self._examples.dtype.newbyteorder("<"), self._digest()
        lows, highs = [], []
        for raw in chunks(self._examples, self._rows if self.shards is None else self._rows[:FEW]):
            digest.update(np.ascontiguousarray(raw, dtype=dtype).tobytes())
            lows.append(raw.min().item())
            highs.append(raw.max().item())
        return digest.hexdigest(), min(lows), max(highs)

    def _notes(self, low: float, high: float) -> list[str]:
        notes = []
        if self.shards is not None and len(self) > FEW:
            notes.append(f"range: of the first {FEW} examples; fingerprint: of the shards' names, sizes and indices")
        if len(self) < FEW:
            notes.append(f"{len(self)} examples: expect memorisation; consider --flip and measure copies")
        if self.levels is None and low >= 0 and high <= 1 and len(self.shape) == 3:
            grey = 255 * self.raw(range(min(len(self), 64)))
            if np.abs(grey - grey.round()).max() < 1e-3:
                notes.append("values are multiples of 1/255: stored as uint8 the data would have a bits/dim")
        return notes
