"""Intervals: by resampling the samples (Efron 1979), the reference being given, and in closed form for shares.

A resampled set is a vector of weights: how often each of N examples is drawn in N draws. Statistics that are functions
of sums over examples then cost a product of the weights with what is summed, whatever they are.

The interval is the basic one, (2θ̂ − q₀.₉₅, 2θ̂ − q₀.₀₅) with the quantiles q of the resampled statistic: a distance is
biased upwards by as much when the set is resampled as when it was sampled, and this takes it off again. So the interval
of a distance need not hold the distance.

For a share of independent yes and no there is the score interval (Wilson 1927), which knows that none of 500 is not 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from logsnr.metrics.comparison import Figure

COVERAGE, NORMAL_QUANTILE = 0.90, 1.6448536269514722
FEWEST = 20
"""Resampled sets below which a 90 % interval is refused: its ends would be the extremes."""


def weights(count: int, sets: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `count` examples is in each of `sets` resampled sets, float64 (count,)."""
    rng = np.random.default_rng(seed)
    for _ in range(sets):
        yield np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


def interval(value: float, resampled: np.ndarray, low: float = -math.inf) -> tuple[float, float]:
    """The basic 90 % interval of a statistic that is `value` on the set itself and nowhere below `low`."""
    lower, upper = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return max(low, float(2 * value - upper)), max(low, float(2 * value - lower))


def figure(
    statistic: Callable[[np.ndarray], float], count: int, *, sets: int, seed: int, low: float = -math.inf
) -> Figure:
    """The statistic of weights (count,) at equal ones, its standard error and interval from `sets` resampled sets.

    ValueError for 1 to 19 sets. With 0 there is the value alone.
    """
    value = statistic(np.ones(count))
    if sets == 0:
        return Figure(value)
    if sets < FEWEST:
        raise ValueError(f"--bootstrap {sets}; allowed: 0, or at least {FEWEST}")
    resampled = np.array([statistic(w) for w in weights(count, sets, seed)])
    return Figure(value, float(resampled.std(ddof=1)), interval(value, resampled, low))


def mean_figure(values: np.ndarray, *, sets: int, seed: int) -> Figure:
    """The mean of one number an example, (N,)."""
    values = values.astype(np.float64)
    return figure(lambda w: float(w @ values / len(values)), len(values), sets=sets, seed=seed)


def share_figure(hits: np.ndarray) -> Figure:
    """The share of hits among independent ones, bool (N,), with its score interval."""
    count, share, z = len(hits), float(hits.mean()), NORMAL_QUANTILE
    error = math.sqrt(share * (1 - share) / count)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(error**2 + (z / (2 * count)) ** 2)
    return Figure(share, error, (max(0.0, centre - reach), min(1.0, centre + reach)))
