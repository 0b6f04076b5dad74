"""Density and coverage (Naeem et al. 2020), and copies.

Around each real example lies the ball that reaches its k-th nearest real neighbour.

    density    1/(kM) Σ_j #{i : y_j in ball i}     how much the samples lie where the data is; 1 for the data itself
    coverage   share of balls with a sample in     how much of the data the samples reach
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M) of x (N, D) and y (M, D), by differences: equal examples are at exactly 0."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return np.stack([np.sqrt(((row - y) ** 2).sum(1)) for row in x])


@dataclass(frozen=True)
class Neighbourhoods:
    """The balls of a real set (N, D). radii: (N,) to the k-th nearest other real example."""

    reals: np.ndarray
    radii: np.ndarray
    k: int

    @classmethod
    def of(cls, reals: np.ndarray, k: int = 5) -> Neighbourhoods:
        """The balls of `reals` (N, D). ValueError unless N > k."""
        if len(reals) <= k:
            raise ValueError(f"{len(reals)} real examples for k = {k} neighbours; allowed: more than k")
        return cls(reals, np.sort(distances(reals, reals), axis=1)[:, k], k)

    def density_coverage(self, samples: np.ndarray) -> tuple[float, float]:
        """(density, coverage) of samples (M, D)."""
        inside = distances(samples, self.reals) <= self.radii
        return float(inside.sum() / (self.k * len(samples))), float(inside.any(0).mean())


def copies(samples: np.ndarray, train: np.ndarray, heldout: np.ndarray, quantile: float = 0.01) -> float:
    """Share of samples nearer to a training example than that quantile of held-out examples is."""
    near = np.quantile(distances(heldout, train).min(1), quantile)
    return float((distances(samples, train).min(1) < near).mean())
