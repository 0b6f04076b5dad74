"""Fréchet distance of two sets, each taken for a Gaussian (Dowson and Landau 1982; Heusel et al. 2017).

    d² = |m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½)

The matrix under the root is symmetric, so its trace is a sum of square roots of eigenvalues: no complex numbers, no
iteration, never negative beyond rounding. Eigenvalues below the rounding of the largest are 0: the root of noise at
1e-16 would be 1e-8, for each of the directions that the data has not got.

**Its error.** d² is a smooth function of the law of the samples, away from d² = 0: one more example at x moves it by

    2 (m₁ − m₂)·(x − m₁) + (x − m₁)ᵀ (1 − T)(x − m₁) − its mean,   T = C₁^{-½} (C₁^½ C₂ C₁^½)^½ C₁^{-½}

to first order, T being the optimal map of the one Gaussian to the other. The variance of this over the samples, divided
by N, is the squared standard error; the reference is taken as given.

**Its bias** is positive and of order 1/N, with a constant of its own for every model, so figures of different N cannot
be compared. `extrapolated` takes it off; what is left is that of the reference, of order 1/M for its M examples.
"""

from __future__ import annotations

import numpy as np

from logsnr.metrics import bootstrap
from logsnr.metrics.comparison import Comparison, Figure, Measurement, blocks, chosen
from logsnr.metrics.moments import Moments

FEWEST = 2048
FEW = 10_000
MOST_FEATURES = 4096
"""A covariance of more costs gigabytes and hours; the pixels of large images are no features for it."""
SIZES = 10
MOST_FEATURES_RESAMPLED = 256
"""Resampling costs N D² + D³ a set: beyond this the interval is left to the standard error."""


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """d² between the sets x (N, D) and y (M, D)."""
    return between(Moments.of(x), Moments.of(y))


def between(x: Moments, y: Moments) -> float:
    """d² of two moments."""
    return Target(y).distance(x)


class Target:
    """What distances are measured to: m₂ and the root of C₂, found once."""

    def __init__(self, moments: Moments) -> None:
        self.mean, self.covariance = moments.mean, moments.covariance
        self.root = _root(self.covariance)[0]

    def distance(self, x: Moments) -> float:
        """d² of the moments x to the target's."""
        covariance = x.covariance
        cross = np.sqrt(_positive(np.linalg.eigvalsh(self.root @ covariance @ self.root))).sum()
        shift = ((x.mean - self.mean) ** 2).sum()
        return max(0.0, float(shift + np.trace(covariance) + np.trace(self.covariance) - 2 * cross))

    def influence(self, x: np.ndarray, moments: Moments) -> np.ndarray:
        """What each row of x (N, D), whose moments are given, adds to d² to first order, (N,) of mean 0."""
        root, whitening = _root(moments.covariance)
        values, vectors = np.linalg.eigh(root @ self.covariance @ root)
        # (x − m)ᵀ T (x − m) = |Λ^¼ Uᵀ C^{-½} (x − m)|²
        through = whitening @ (vectors * _positive(values) ** 0.25)
        parts = []
        for chunk in blocks(x, x.shape[1]):
            centred = chunk - moments.mean
            linear = 2 * centred @ (moments.mean - self.mean)
            parts.append(linear + (centred**2).sum(1) - ((centred @ through) ** 2).sum(1))
        found = np.concatenate(parts)
        return found - found.mean()


def fd(compared: Comparison) -> Measurement:
    """d² of the features, and d² at N = ∞. ValueError for moments of other features, or more than 4,096."""
    samples, width = compared.samples.features, compared.samples.features.shape[1]
    if width > MOST_FEATURES:
        raise ValueError(f"fd of {width} features; allowed: up to {MOST_FEATURES}, see --features")
    given = compared.statistics or Moments.over(blocks(compared.real.features, width))
    if len(given.mean) != width:
        raise ValueError(f"moments of {len(given.mean)} features for samples of {width}; allowed: the same features")
    target, moments = Target(given), Moments.over(blocks(samples, width))
    distance = target.distance(moments)
    error = float(target.influence(samples, moments).std() / np.sqrt(len(samples)))
    facts = {
        "samples": len(samples),
        "reference_samples": given.count,
        "features": width,
        "bias": f"upwards, of order 1/N; N = {len(samples)}",
        "comparable": min(len(samples), given.count) >= FEWEST,
    }
    if len(samples) < FEW:
        facts["note"] = f"fd is biased upwards, by much at {len(samples)} samples: compare equal numbers only"
    figures = {"fd": Figure(distance, error, _interval(samples, target, distance, compared))}
    figures["fd_infinity"] = extrapolated(samples, target, error, compared.seed)
    return Measurement(figures, facts)


def extrapolated(samples: np.ndarray, target: Target, error: float, seed: int, sizes: int = SIZES) -> Figure:
    """d² at N = ∞: the intercept of a line in 1/n through d² of subsamples, N/4 <= n <= N (Chong and Forsyth 2020).

    Its standard error has two parts: that of the intercept, from the residuals of the line, and `error`, that of d² of
    the samples themselves, which all subsamples share.
    """
    counts = np.linspace(len(samples) / 4, len(samples), sizes).round().astype(int)
    if counts[0] < 2:
        raise ValueError(f"{len(samples)} samples to extrapolate from; allowed: at least 8")
    distances = []
    for i, count in enumerate(counts):
        rows = samples[chosen(len(samples), count, seed + i)]
        distances.append(target.distance(Moments.over(blocks(rows, rows.shape[1]))))
    design = np.stack([np.ones(sizes), 1 / counts], axis=1)
    line, *_ = np.linalg.lstsq(design, np.array(distances), rcond=None)
    residual = ((np.array(distances) - design @ line) ** 2).sum() / (sizes - 2)
    own = residual * np.linalg.inv(design.T @ design)[0, 0]
    return Figure(float(line[0]), float(np.sqrt(own + error**2)))


def _interval(samples: np.ndarray, target: Target, distance: float, compared: Comparison) -> tuple[float, float] | None:
    """Of d² over resampled samples; None where it would cost too much or was not asked for."""
    if not compared.bootstrap or samples.shape[1] > MOST_FEATURES_RESAMPLED:
        return None
    x = samples.astype(np.float64)
    centre = x.mean(0)
    x -= centre

    def statistic(weight: np.ndarray) -> float:
        shift = weight @ x / len(x)
        scatter = (x * weight.reshape(-1, 1)).T @ x - len(x) * np.outer(shift, shift)
        return target.distance(Moments(len(x), centre + shift, scatter))

    drawn = bootstrap.weights(len(x), compared.bootstrap, compared.seed)
    return bootstrap.interval(distance, np.array([statistic(weight) for weight in drawn]), low=0.0)


def _root(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """C^½ and its pseudo-inverse."""
    values, vectors = np.linalg.eigh(covariance)
    roots = np.sqrt(_positive(values))
    inverse = np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T


def _positive(values: np.ndarray) -> np.ndarray:
    """Eigenvalues, those below the rounding of the largest replaced by 0."""
    return np.where(values > len(values) * np.finfo(np.float64).eps * values.max(initial=0), values, 0.0)
