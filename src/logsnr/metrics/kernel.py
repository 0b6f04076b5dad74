"""Kernel distance: the squared maximum mean discrepancy with the cubic kernel of KID (Bińkowski et al. 2018).

    k(x, y) = (x·y/D + 1)³
    MMD² = mean of k(x, x′) over x ≠ x′ + mean of k(y, y′) over y ≠ y′ − 2 mean of k(x, y)

(Gretton et al. 2012, eq. 3). It is unbiased for any number of examples, so it may be negative. Both sets are dealt at
random into as many disjoint blocks; the mean over blocks is unbiased too, and as blocks are independent, their spread
gives an honest standard error, for equal laws as for different ones.
"""

from __future__ import annotations

import numpy as np

from logsnr.metrics.comparison import Comparison, Figure, Measurement

BLOCK, FEWEST_BLOCKS = 1000, 10


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased MMD² of x (N, D) and y (M, D), N, M >= 2."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    return _off_diagonal(_kernel(x, x)) + _off_diagonal(_kernel(y, y)) - 2 * float(_kernel(x, y).mean())


def kd(compared: Comparison) -> Measurement:
    """MMD² of the features. ValueError for fewer than 20 examples in a set."""
    x, y = compared.samples.features, compared.real.features
    count = max(FEWEST_BLOCKS, min(len(x), len(y)) // BLOCK)
    if min(len(x), len(y)) < 2 * count:
        raise ValueError(f"kd of {len(x)} samples and {len(y)} reference examples; allowed: at least {2 * count}")
    rng = np.random.default_rng(compared.seed)
    # data that stands in the order of its classes would make blocks of one class
    deals = [np.array_split(rng.permutation(len(each)), count) for each in (x, y)]
    # blocks above the field's 1,000 are cut there: the cost is quadratic
    values = [kernel_distance(x[i[:BLOCK]], y[j[:BLOCK]]) for i, j in zip(*deals, strict=True)]
    figure = Figure(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count)))
    used = [sum(len(part[:BLOCK]) for part in deal) for deal in deals]
    return Measurement({"kd": figure}, {"samples": used[0], "reference_samples": used[1], "blocks": count})


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal(k: np.ndarray) -> float:
    return float((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)))
