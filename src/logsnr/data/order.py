"""Which examples an optimiser step sees: a pure function of (seed, step).

Epoch e of N examples is the permutation that sorts N words of the counter-based generator Philox with the key
(seed, e) [Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011]; the words themselves, not a
library's shuffle, so that the order stays the same in every version. The examples of step n are positions nB
.. (n+1)B−1 of all epochs laid end to end: nothing is dropped, a batch may span two epochs, and going on after
step n needs no state but n.

The next N words of the same stream decide, by their top bit, which draws are mirrored.

Data that lies in shards says so, and is drawn in the order of :mod:`logsnr.data.lanes` instead.

Of several ranks each reads its own share of every batch, a stretch of it, so that the batch is the same for any number
of ranks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from logsnr.data.lanes import Lanes
from logsnr.data.record import Dataset

PREFETCHED = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """The examples of one optimiser step, or one rank's n of its B.

    Attributes:
        step: the step n.
        x: (n, *shape) float32, model units.
        condition: keywords for the network (:mod:`logsnr.data.conditions`); images are mirrored with their example.
        index: (n,) int64, the position in the global batch, among 0 .. B−1.
        examples: (n,) int64, the position in the data set.
        global_batch: B.
    """

    step: int
    x: Tensor
    condition: dict[str, Tensor]
    index: Tensor
    examples: Tensor
    global_batch: int


def share(count: int, rank: int, ranks: int) -> range:
    """Rank's stretch of ``count`` things dealt to ``ranks``, ⌊count·rank/ranks⌋ and on; sizes differ by one at most."""
    return range(count * rank // ranks, count * (rank + 1) // ranks)


class Order(Protocol):
    """Which examples a step draws."""

    def refuse(self, ranks: int) -> None:
        """Raise ValueError unless this many ranks can share a batch."""

    def drawn(self, step: int, places: range) -> tuple[np.ndarray, np.ndarray]:
        """Which example each place (n,) of the global batch draws, int64, and whether it is mirrored, bool."""


class Permutations:
    """All ``count`` examples permuted anew each epoch, and the epochs end to end; any rank may read any example."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def refuse(self, ranks: int) -> None:
        """Any number of ranks is allowed."""

    def drawn(self, step: int, places: range) -> tuple[np.ndarray, np.ndarray]:
        """Which example each place (n,) of the global batch draws, int64, and whether it is mirrored, bool."""
        epochs, rows = np.divmod(step * self.batch_size + np.array(places), self.count)
        examples, mirrored = np.empty(len(rows), np.int64), np.empty(len(rows), bool)
        for epoch in np.unique(epochs).tolist():
            order, flips = _epoch(self.seed, epoch, self.count)
            now = epochs == epoch
            examples[now], mirrored[now] = order[rows[now]], flips[rows[now]]
        return examples, mirrored


def order_of(dataset: Dataset, batch_size: int, seed: int) -> Order:
    """The order that suits the data: in lanes if it lies in shards."""
    shards = dataset.shards
    if shards is None:
        return Permutations(len(dataset), batch_size, seed)
    return Lanes(shards.sizes, batch_size, seed, mixed=shards.mixed)


class Batches:
    """Batches of ``batch_size`` (B) examples in the order given by ``seed``; ``flip`` mirrors half of the
    draws. Of each, ``rank`` of ``ranks`` gets its `share`.

    Raises:
        ValueError: if the batch size, the seed, the rank or the number of ranks is not allowed, or the data to be
            mirrored are not images.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, seed: int, *, flip: bool = False, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size is {batch_size}; at least 1 is needed")
        if not 0 <= rank < ranks <= batch_size:
            raise ValueError(f"{ranks} ranks with batch size {batch_size}; allowed: at most a rank an example")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; allowed: 0 to 2**64 - 1")
        if flip and len(dataset.shape) != 3:
            raise ValueError(
                f"flip mirrors images, (C, H, W); examples of {dataset.source!r} have shape {dataset.shape}"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.share = share(batch_size, rank, ranks)
        self.order = order_of(dataset, batch_size, seed)
        self.order.refuse(ranks)

    def at(self, step: int) -> Batch:
        """Return the rank's share of the batch of optimiser step ``step`` >= 0."""
        examples, mirrored = self.order.drawn(step, self.share)
        x, condition = self.dataset.batch(examples)
        if self.flip:
            for image in (x, *(condition[name] for name in ("image",) if name in condition)):
                image[mirrored] = image[mirrored].flip(-1)
        index = torch.arange(self.share.start, self.share.stop)
        return Batch(step, x, condition, index, torch.from_numpy(examples), self.batch_size)

    def iterate(self, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of the steps start_step, start_step + 1, …, without end, two of them read ahead.

        The one reading thread ends when the iterator is closed or forgotten.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            ahead = deque(reader.submit(self.at, start_step + k) for k in range(PREFETCHED + 1))
            try:
                step = start_step + len(ahead)
                while True:
                    yield ahead.popleft().result()
                    ahead.append(reader.submit(self.at, step))
                    step += 1
            finally:
                reader.shutdown(cancel_futures=True)


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(2 * count)
    return np.argsort(words[:count], kind="stable"), words[count:] >= 2**63
