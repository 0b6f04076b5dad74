"""Fréchet distance of two sets, each taken for a Gaussian (Dowson and Landau 1982; Heusel et al. 2017).

    d² = |m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½)

The matrix under the root is symmetric, so its trace is a sum of square roots of eigenvalues: no complex numbers, no
iteration, never negative beyond rounding.
"""

from __future__ import annotations

import numpy as np


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) with divisor N − 1 of x (N, D). ValueError for fewer than two rows."""
    if len(x) < 2:
        raise ValueError(f"{len(x)} examples; allowed: at least 2")
    x = x.astype(np.float64)
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """d² between the sets x (N, D) and y (M, D)."""
    (mean_x, cov_x), (mean_y, cov_y) = moments(x), moments(y)
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * np.sqrt(cross).sum())
