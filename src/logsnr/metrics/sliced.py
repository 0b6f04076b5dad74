"""Sliced Wasserstein distance (Rabin et al. 2012; Bonneel et al. 2015).

    SW² = E over directions θ of W₂²(θ·x, θ·y),     W₂² on the line = ∫₀¹ (F⁻¹(u) − G⁻¹(u))² du

uniform θ on the sphere. Both quantile functions are steps, so the integral is a finite sum, exact for sets of any two
sizes. A shift of a law by δ moves it by |δ|/√D. Of two samples of one law it is of order N^{-½}: read it beside the
figure of real examples. The standard error is that of finitely many directions.
"""

from __future__ import annotations

import numpy as np

from logsnr.metrics.comparison import Comparison, Figure, Measurement, blocks

DIRECTIONS, AT_ONCE = 512, 64


def directions(dims: int, count: int, seed: int) -> np.ndarray:
    """`count` uniform unit vectors, (dims, count)."""
    normals = np.random.default_rng(seed).normal(size=(dims, count))
    return normals / np.linalg.norm(normals, axis=0)


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """W₂² of each column of x (N, K) and y (M, K), (K,)."""
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    n, m = len(x), len(y)
    # the quantile functions step at multiples of m and n, counted in steps of 1/(nm)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    widths = np.diff(ends, prepend=0) / (n * m)
    return widths @ (x[(ends - 1) // m] - y[(ends - 1) // n]) ** 2


def sliced_wasserstein(compared: Comparison) -> Measurement:
    """SW of the features, in their units."""
    x, y = compared.samples.features, compared.real.features
    along = directions(x.shape[1], DIRECTIONS, compared.seed)
    shadows = [np.concatenate([chunk @ along for chunk in blocks(each, DIRECTIONS)]) for each in (x, y)]
    parts = range(0, DIRECTIONS, AT_ONCE)
    found = [squares(*(each[:, start : start + AT_ONCE] for each in shadows)) for start in parts]
    square = np.concatenate(found)
    value = float(np.sqrt(square.mean()))
    error = float(square.std(ddof=1) / np.sqrt(len(square)) / max(2 * value, 1e-30))
    facts = {"samples": len(x), "reference_samples": len(y), "directions": DIRECTIONS}
    return Measurement({"sliced_wasserstein": Figure(value, error)}, facts)
