"""The order of data that lies in shards: a pure function of (seed, step), and each epoch has one reader for a shard.

The B positions of the global batch are cut into L contiguous lanes of B/L positions, L being the largest divisor of B
that is at most the number of shards and `MOST_LANES`. A lane reads its own endless tape of shards:

* Epoch e deals all shards, in a random order of (seed, e), each to the lane whose tape is the shortest (the lowest of
  those that tie). So an epoch holds every shard once, nothing is dropped, and the places where an epoch ends on the
  tapes of two lanes are never further apart than the largest shard has examples.
* A tape is read in windows, consecutive shards of one epoch (`mixed` of them, the last window of a lane's epoch may
  have fewer), whose examples are permuted together. Half of the draws are mirrored, if the data is.

Lanes whose epochs differ in length go on into the next one at once, at different steps; none waits. So where epochs
meet, two lanes may read the same shard, each for an epoch of its own, and a batch may hold an example twice. What this
is not: a uniform permutation of all examples. Two examples are in one batch if their shards are in windows read
together, so examples should be in shards at random, as every tool that writes shards has them.

As L follows from the data and B alone, so does the order: not from the number of ranks, which must divide L for each to
have whole lanes. Going on after step n needs nothing but n: the deals of the epochs before it are made again, S log L
operations each for S shards. What lies before the step that is drawn is forgotten; an earlier step begins again.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from heapq import heapify, heapreplace
from threading import Lock
from typing import NamedTuple

import numpy as np

MOST_LANES = 64


class Window(NamedTuple):
    """Shards of one epoch that are permuted together, and where on their lane's tape they begin."""

    start: int
    epoch: int
    shards: tuple[int, ...]


class Lanes:
    """The order of examples in shards of ``sizes`` examples, laid end to end, for batches of ``batch_size``."""

    def __init__(self, sizes: tuple[int, ...], batch_size: int, seed: int, *, mixed: int) -> None:
        most = min(len(sizes), MOST_LANES)
        self.count = max(lanes for lanes in range(1, most + 1) if batch_size % lanes == 0)
        self.batch_size, self.seed, self.mixed = batch_size, seed, mixed
        self._sizes, self._bounds = sizes, np.concatenate([[0], np.cumsum(sizes)])
        self._lock = Lock()
        self._begin()
        # the windows that the lanes are in, and those that reading ahead has come to
        self._permuted = lru_cache(maxsize=2 * self.count)(self._permutation)

    def refuse(self, ranks: int) -> None:
        """Raise ValueError unless each of the ranks has whole lanes."""
        if self.count % ranks:
            allowed = ", ".join(str(n) for n in range(1, self.count + 1) if self.count % n == 0)
            raise ValueError(
                f"{ranks} ranks for {len(self._bounds) - 1} shards and batch size {self.batch_size}, which are read in "
                f"{self.count} lanes; allowed: {allowed}, or more shards, or a batch size with other divisors"
            )

    def drawn(self, step: int, places: range) -> tuple[np.ndarray, np.ndarray]:
        """Which example each place (n,) of the global batch draws, int64, and whether it is mirrored, bool."""
        width = self.batch_size // self.count
        parts = []
        with self._lock:
            if step * width < self._floor:
                self._begin()
            for lane in range(places.start // width, -(-places.stop // width)):
                first, last = max(places.start, lane * width), min(places.stop, (lane + 1) * width)
                origin = (step - lane) * width
                while self._ends[lane] < origin + last:
                    self._deal(step * width)
                parts += self._read(lane, origin + first, origin + last)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _begin(self) -> None:
        """Tapes on which nothing lies; the windows before the floor are not on them."""
        self._tapes: list[list[Window]] = [[] for _ in range(self.count)]
        self._ends, self._epochs, self._floor = [0] * self.count, 0, 0

    def _read(self, lane: int, position: int, stop: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The draws at the positions position .. stop−1 of a lane's tape, in parts."""
        tape, parts = self._tapes[lane], []
        at = _at(tape, position)
        while position < stop:
            examples, mirrored = self._permuted(tape[at].epoch, tape[at].shards)
            part = slice(position - tape[at].start, stop - tape[at].start)
            parts.append((examples[part], mirrored[part]))
            position += len(parts[-1][0])
            at += 1
        return parts

    def _deal(self, floor: int) -> None:
        """Lay the shards of one more epoch on the tapes, and let go of the windows that end before the floor."""
        epoch, sizes, tapes = self._epochs, self._sizes, []
        order = np.argsort(_words(self.seed, epoch, 0, len(sizes)), kind="stable").tolist()
        shortest = [(end, lane) for lane, end in enumerate(self._ends)]
        heapify(shortest)
        dealt: list[list[int]] = [[] for _ in self._tapes]
        for shard in order:
            end, lane = shortest[0]
            dealt[lane].append(shard)
            heapreplace(shortest, (end + sizes[shard], lane))
        ends = [end for _, end in sorted((lane, end) for end, lane in shortest)]
        for tape, shards, start, end in zip(self._tapes, dealt, self._ends, ends, strict=True):
            kept = tape[max(_at(tape, floor), 0) :]
            for first in range(0, len(shards) if end > floor else 0, self.mixed):
                kept.append(Window(start, epoch, tuple(shards[first : first + self.mixed])))
                start += sum(sizes[shard] for shard in kept[-1].shards)
            tapes.append(kept)
        self._tapes, self._ends, self._epochs, self._floor = tapes, ends, epoch + 1, floor

    def _permutation(self, epoch: int, shards: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        examples = np.concatenate([np.arange(*self._bounds[shard : shard + 2]) for shard in shards])
        words = _words(self.seed, epoch, 1 + shards[0], 2 * len(examples))
        order = np.argsort(words[: len(examples)], kind="stable")
        return examples[order], words[len(examples) :] >= 2**63


def _at(tape: list[Window], position: int) -> int:
    """Which window of a tape a position lies in, -1 if none."""
    return bisect_right(tape, position, key=lambda window: window.start) - 1


def _words(seed: int, epoch: int, stream: int, count: int) -> np.ndarray:
    """Words of Philox with the key (seed, epoch); no two streams have a counter in common."""
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)
