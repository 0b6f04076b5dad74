"""Kernel distance: the squared maximum mean discrepancy with the cubic kernel of KID (Bińkowski et al. 2018).

    k(x, y) = (x·y/D + 1)³
    MMD² = mean of k(x, x′) over x ≠ x′ + mean of k(y, y′) over y ≠ y′ − 2 mean of k(x, y)

(Gretton et al. 2012, eq. 3). It is unbiased for any number of examples, so it may be negative. Its standard error is
that of the jackknife over blocks: both sets are dealt at random into 20, and the figure is found again without each.
Sums of k between blocks are all that takes. Between equal laws, where MMD² varies as 1/N and not as N^{-½}, the
jackknife has up to √2 times the truth.
"""

from __future__ import annotations

import numpy as np

from logsnr.metrics.comparison import Comparison, Figure, Measurement

BLOCKS, MOST = 20, 10_000
"""The cost is quadratic in the examples, of which at most 10,000 a set are taken."""


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased MMD² of x (N, D) and y (M, D), N, M >= 2."""
    return _Sums([x.astype(np.float64)], [y.astype(np.float64)]).distance(np.array([True]))


def kd(compared: Comparison) -> Measurement:
    """MMD² of the features. ValueError for fewer than 40 examples in a set."""
    x, y = (each.at_most(MOST, compared.seed).features for each in (compared.samples, compared.real))
    if min(len(x), len(y)) < 2 * BLOCKS:
        raise ValueError(f"kd of {len(x)} samples and {len(y)} reference examples; allowed: at least {2 * BLOCKS}")
    # data that stands in the order of its classes would make blocks of one class
    rng = np.random.default_rng(compared.seed)
    dealt = [np.array_split(each[rng.permutation(len(each))].astype(np.float64), BLOCKS) for each in (x, y)]
    sums, every = _Sums(*dealt), np.arange(BLOCKS)
    without = np.array([sums.distance(every != block) for block in every])
    error = np.sqrt((BLOCKS - 1) / BLOCKS * ((without - without.mean()) ** 2).sum())
    facts = {"samples": len(x), "reference_samples": len(y), "blocks": BLOCKS}
    return Measurement({"kd": Figure(sums.distance(every >= 0), float(error))}, facts)


class _Sums:
    """Sums of k between blocks: what MMD² of any of them is made of."""

    def __init__(self, x: list[np.ndarray], y: list[np.ndarray]) -> None:
        self.x, self.y = np.array([len(each) for each in x]), np.array([len(each) for each in y])
        self.xx, self.yy = _own_sums(x), _own_sums(y)
        self.xy = np.array([[_kernel_sum(a, b) for b in y] for a in x])

    def distance(self, kept: np.ndarray) -> float:
        """MMD² of the blocks `kept`, bool (blocks,)."""
        n, m = self.x[kept].sum(), self.y[kept].sum()
        xx, yy, xy = (sums[kept][:, kept].sum() for sums in (self.xx, self.yy, self.xy))
        return float(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m))


def _own_sums(x: list[np.ndarray]) -> np.ndarray:
    """Sums of k between the blocks of one set, without that of an example and itself."""
    sums = np.zeros((len(x), len(x)))
    for i, a in enumerate(x):
        for j in range(i):
            sums[i, j] = sums[j, i] = _kernel_sum(a, x[j])
        sums[i, i] = _kernel_sum(a, a) - (((a**2).sum(1) / a.shape[1] + 1) ** 3).sum()
    return sums


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    k = a @ b.T / a.shape[1] + 1
    return float((k * k * k).sum())
