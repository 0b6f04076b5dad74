"""What is compared with what, and what a metric answers.

A metric is a function of a `Comparison` alone. It reads the images (model units) or their features, and answers with
figures. Everything random in it (subsamples, directions, resampling) follows from the comparison's seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from logsnr.metrics.moments import Moments

CHUNK_NUMBERS = 2**23
"""Float64 numbers held at once beside the sets: 64 MiB."""


@dataclass(frozen=True)
class Figure:
    """A number with what is known of its error, the reference being given.

    standard_error: over repetitions with other samples. interval: 90 %, by the bootstrap over samples.
    """

    value: float
    standard_error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Measurement:
    """Figures by name, and the facts that give them a meaning: numbers of examples, k, blocks, bias."""

    figures: dict[str, Figure]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """One set. images: float32 (N, *shape) in model units. features: float32 (N, D); those of `pixels` are a view."""

    images: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, chosen: np.ndarray) -> Examples:
        """The examples at the positions `chosen`."""
        return Examples(self.images[chosen], self.features[chosen])

    def at_most(self, count: int, seed: int) -> Examples:
        """A random choice of `count`, or all of fewer."""
        return self if len(self) <= count else self.rows(chosen(len(self), count, seed))


@dataclass(frozen=True)
class Comparison:
    """Samples beside a reference set of real examples.

    train, heldout: the splits that memorisation is told from; None where there are none.
    statistics: moments of the reference's features from a file, in place of `reference`.
    bootstrap: B, resampled sets for each interval; 0 for no intervals.
    force: compute figures of sets too small for them all the same.
    """

    samples: Examples
    reference: Examples | None
    train: Examples | None = None
    heldout: Examples | None = None
    statistics: Moments | None = None
    seed: int = 0
    bootstrap: int = 200
    force: bool = False

    @property
    def real(self) -> Examples:
        """The reference as examples. ValueError where there are but their moments."""
        if self.reference is None:
            raise ValueError("the reference is a file of moments; allowed: fd, or --data DATA with examples")
        return self.reference

    def instead(self, samples: Examples) -> Comparison:
        """The same question about other samples: real ones, to give a figure its scale."""
        return replace(self, samples=samples, train=None, heldout=None)


Metric = Callable[[Comparison], Measurement]


def chosen(total: int, count: int, seed: int) -> np.ndarray:
    """`count` of the positions 0 … total − 1, in random order and without repetition."""
    return np.random.default_rng(seed).permutation(total)[:count]


def blocks(x: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Rows of x as float64, as many at once as make 64 MiB with `width` numbers a row."""
    rows = max(1, CHUNK_NUMBERS // max(width, x[:1].size, 1))
    for start in range(0, len(x), rows):
        yield x[start : start + rows].astype(np.float64)
