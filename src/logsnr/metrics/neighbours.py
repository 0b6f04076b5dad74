"""Nearest neighbours, density and coverage (Naeem et al. 2020), and copies.

Around each real example lies the ball that reaches its k-th nearest real neighbour.

    density    1/(kM) Σ_j #{i : y_j in ball i}     how much the samples lie where the data is; 1 for the data itself
    coverage   share of balls with a sample in     how much of the data the samples reach

Distances come from |x − y|² = |x|² + |y|² − 2 x·y, a matrix product. It loses the digits of small distances, so those
are taken again by differences: equal examples are at exactly 0, and all others have eight digits and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from logsnr.metrics.comparison import CHUNK_NUMBERS

_CLOSE = 1e-6
"""Share of |x|² + |y|² below which a squared distance is computed by differences; the product has about 1e-15 of it."""
_TIE = 1 + 1e-8
"""What is as far as the edge of a ball is in it, whichever way the two distances were rounded."""


def distance_blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows of the Euclidean distances (N, M) of x (N, D) and y (M, D), float64, about 64 MiB at a time."""
    y = y.astype(np.float64)
    # the common part of all examples has no share in a distance, and a large one in the rounding of the product
    centre = y.mean(0)
    shifted = y - centre
    norms = (shifted**2).sum(1)
    rows = max(1, CHUNK_NUMBERS // max(len(y), x.shape[1]))
    for start in range(0, len(x), rows):
        chosen = slice(start, min(start + rows, len(x)))
        part = x[chosen].astype(np.float64)
        moved = part - centre
        sizes = (moved**2).sum(1)[:, None] + norms
        square = sizes - 2 * (moved @ shifted.T)
        close = np.argwhere(square < _CLOSE * sizes)
        step = max(1, CHUNK_NUMBERS // x.shape[1])
        for i, j in (each.T for each in np.split(close, range(step, len(close), step))):
            square[i, j] = ((part[i] - y[j]) ** 2).sum(1)
        yield chosen, np.sqrt(square)


def nearest(x: np.ndarray, y: np.ndarray, k: int = 1) -> np.ndarray:
    """Distances (N, k) of each row of x (N, D) to its k nearest rows of y (M, D), ascending. M >= k."""
    found = np.empty((len(x), k))
    for rows, block in distance_blocks(x, y):
        found[rows] = np.sort(np.partition(block, k - 1, axis=1)[:, :k], axis=1)
    return found


@dataclass(frozen=True)
class Neighbourhoods:
    """The balls of a real set (N, D). radii: (N,) to the k-th nearest other real example."""

    reals: np.ndarray
    radii: np.ndarray
    k: int

    @classmethod
    def of(cls, reals: np.ndarray, k: int = 5) -> Neighbourhoods:
        """The balls of `reals` (N, D). ValueError unless N > k."""
        return cls.nested(reals, (k,))[0]

    @classmethod
    def nested(cls, reals: np.ndarray, ks: Sequence[int]) -> list[Neighbourhoods]:
        """The balls of each of several k, from one table of distances. ValueError unless N > k."""
        most = max(ks)
        if len(reals) <= most:
            raise ValueError(f"{len(reals)} real examples for k = {most} neighbours; allowed: more than k")
        near = nearest(reals, reals, most + 1)
        return [cls(reals, near[:, k], k) for k in ks]

    def hits(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In how many balls each of the samples (M, D) is, (M,), and whether each ball has one, (N,)."""
        balls, reached = np.empty(len(samples), np.int64), np.zeros(len(self.reals), bool)
        for rows, block in distance_blocks(samples, self.reals):
            inside = block <= self.radii * _TIE
            balls[rows] = inside.sum(1)
            reached |= inside.any(0)
        return balls, reached

    def density_coverage(self, samples: np.ndarray) -> tuple[float, float]:
        """(density, coverage) of samples (M, D)."""
        balls, reached = self.hits(samples)
        return float(balls.sum() / (self.k * len(samples))), float(reached.mean())


def copies(samples: np.ndarray, train: np.ndarray, heldout: np.ndarray, quantile: float = 0.01) -> float:
    """Share of samples nearer to a training example than that quantile of held-out examples is."""
    near = np.quantile(nearest(heldout, train)[:, 0], quantile)
    return float((nearest(samples, train)[:, 0] < near).mean())
