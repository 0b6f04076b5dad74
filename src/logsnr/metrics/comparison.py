"""What is compared with what, and what a metric answers.

A `Metric` is a function of a `Comparison` alone. It reads the images (model units) or their features, and answers with
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
    """One set. images: float32 (N, *shape) in model units. features: float32 (N, D)."""

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

    @property
    def reference_count(self) -> int:
        """Examples of the reference, or those that its moments are of."""
        return self.statistics.count if self.statistics is not None else len(self.real)

    def instead(self, samples: Examples) -> Comparison:
        """The same question about other samples: real ones, to give a figure its scale."""
        return replace(self, samples=samples, train=None, heldout=None)


@dataclass(frozen=True)
class Metric:
    """A function of a comparison, and the number of examples in either set below which its figures mislead."""

    measure: Callable[[Comparison], Measurement]
    fewest: int = 2

    def __call__(self, compared: Comparison) -> Measurement:
        """The figures. ValueError for sets that are too small, unless forced, or that it cannot be asked of."""
        self.check(len(compared.samples), compared.reference_count, force=compared.force)
        return self.measure(compared)

    def check(self, samples: int, reference: int, *, force: bool) -> None:
        """ValueError for so many samples and reference examples, unless forced."""
        for count, of in ((samples, "samples"), (reference, "reference examples")):
            if count < self.fewest and not force:
                name = self.measure.__name__
                raise ValueError(f"{name} of {count} {of}; allowed: at least {self.fewest}, or --force")


def chosen(total: int, count: int, seed: int) -> np.ndarray:
    """`count` of the positions 0 … total − 1, in random order and without repetition."""
    return np.random.default_rng(seed).permutation(total)[:count]


def blocks(x: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """Rows of x as float64, as many at once as make 64 MiB with `width` numbers a row."""
    rows = max(1, CHUNK_NUMBERS // max(width, x[:1].size, 1))
    for start in range(0, len(x), rows):
        yield x[start : start + rows].astype(np.float64)
