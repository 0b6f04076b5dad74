"""NCSNv2's choices: which noise levels, how many, and how large a Langevin step, from the data alone (N6).

Song and Ermon 2020, "Improved Techniques for Training Score-Based Generative Models", in units where α = 1:

    technique 1   σ_1 is as large as the largest distance between two examples, so that the first level joins all modes
    technique 2   σ_i/σ_{i+1} = ρ with Φ(√(2D)(ρ − 1) + 3ρ) − Φ(√(2D)(ρ − 1) − 3ρ) ≈ ½: in D dimensions the noise of
                  a level is a shell of radius √D σ and thickness σ/√2, and half of it lies within reach of the next
    technique 4   with η = ε/σ_L² and T steps at a level, the variance of a chain that enters from the level above, at
                  one data point, ends at v_T σ_i² by proposition 3,
                      v_T = (1 − η)^{2T} (ρ² − c) + c,     c = 2η/(1 − (1 − η)²) = 2/(2 − η);
                  η is the one whose v_T is nearest to 1

(Technique 3 is the target `scaled_score`, technique 5 an average of weights.)
ε is that of our Langevin step, x + ε ŝ + √(2ε) z, as NCSNv2 writes it; NCSN's own ε is twice as large (N4).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Distance(NamedTuple):
    """value: the largest distance seen. pairs: how many were compared. exact: whether those are all pairs."""

    value: float
    pairs: int
    exact: bool


def largest_distance(x: Tensor, count: int | None = None, block: int = 1024) -> Distance:
    """The largest Euclidean distance between two rows of x (N, D), every pair compared, `block` rows at a time.

    count: how many examples the N rows are a sample of, N if None; of a sample the answer is a lower bound.
    ValueError for fewer than two rows.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} examples have no pairwise distance; allowed: at least 2")
    blocks = x.double().split(block)
    found = [torch.cdist(a, b).max() for i, a in enumerate(blocks) for b in blocks[i:]]
    return Distance(float(torch.stack(found).max()), len(x) * (len(x) - 1) // 2, count is None or count == len(x))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def overlap(ratio: float, dims: int) -> float:
    """Φ(√(2D)(ρ − 1) + 3ρ) − Φ(√(2D)(ρ − 1) − 3ρ): how much of one level's shell the next level knows."""
    apart = math.sqrt(2 * dims) * (ratio - 1)
    return _normal_cdf(apart + 3 * ratio) - _normal_cdf(apart - 3 * ratio)


def geometric_ratio(dims: int, wanted: float = 0.5) -> float:
    """ρ = σ_i/σ_{i+1} > 1 at which the overlap is `wanted` (technique 2).

    Infinite below 5 dimensions, where shells of any ratio overlap: 3ρ outgrows √(2D)(ρ − 1).
    """
    low, high = 1.0, 2.0
    while overlap(high, dims) > wanted:
        high *= 2
        if high > 1e9:
            return math.inf
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if overlap(middle, dims) > wanted else (low, middle)
    return low


def level_count(sigma_min: float, sigma_max: float, ratio: float) -> int:
    """The fewest geometric levels from σ_max to σ_min, both included, whose neighbours are at most `ratio` apart."""
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min={sigma_min}, sigma_max={sigma_max}; allowed: 0 < sigma_min < sigma_max")
    return math.ceil(math.log(sigma_max / sigma_min) / math.log(ratio) - 1e-9) + 1


def variance_ratio(eta: float, ratio: float, n_steps: int) -> float:
    """v_T: variance over σ_i² after T Langevin steps of size η σ_i², from that of the level above (proposition 3)."""
    limit = 2 / (2 - eta)
    return (1 - eta) ** (2 * n_steps) * (ratio**2 - limit) + limit


@lru_cache(maxsize=4096)
def relative_step(ratio: float, n_steps: int) -> float:
    """η in (0, 1) for which v_T is nearest to 1; it never falls below 1, so this is its minimum, by golden section."""
    golden = 0.5 * (math.sqrt(5) - 1)
    low, high = 0.0, 1.0
    for _ in range(80):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if variance_ratio(a, ratio, n_steps) < variance_ratio(b, ratio, n_steps) else (a, high)
    return 0.5 * (low + high)
