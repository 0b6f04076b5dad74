"""NCSNv2's choices against the numbers that its paper chose with them, and against brute force."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.techniques import (
    geometric_ratio,
    largest_distance,
    level_count,
    overlap,
    relative_step,
    variance_ratio,
)

X = torch.randn(37, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sigma_max", "levels", "n_steps", "step_size"),
    [(50, 232, 5, 6.2e-6), (90, 500, 5, 3.3e-6), (190, 1086, 3, 1.8e-6)],
    ids=["cifar10", "celeba", "lsun-bedroom"],
)
def test_the_paper_s_own_step_sizes(sigma_max: float, levels: int, n_steps: int, step_size: float) -> None:
    """σ_L = 0.01 with the published σ_1, L and T gives the published ε, to its two digits."""
    ratio = (sigma_max / 0.01) ** (1 / (levels - 1))
    assert relative_step(ratio, n_steps) * 0.01**2 == pytest.approx(step_size, rel=0.03)


@pytest.mark.parametrize(("ratio", "n_steps"), [(1.04, 5), (1.36, 1), (1.36, 5), (1.668, 100), (1000.0, 5)])
def test_the_step_is_the_best_one(ratio: float, n_steps: int) -> None:
    best = relative_step(ratio, n_steps)
    others = [variance_ratio(eta, ratio, n_steps) for eta in torch.linspace(0.001, 1, 2000).tolist()]
    assert 0 < best <= 1
    assert variance_ratio(best, ratio, n_steps) <= min(others) + 1e-9
    assert min(others) > 1


@pytest.mark.parametrize("eta", [0.05, 0.3, 1.2])
def test_the_variance_ratio_is_that_of_the_chain(eta: float) -> None:
    """One data point, v ← (1 − η)² v + 2η in units of σ_i², from ρ²."""
    v = 1.3**2
    for steps in range(1, 8):
        v = (1 - eta) ** 2 * v + 2 * eta
        assert variance_ratio(eta, 1.3, steps) == pytest.approx(v, rel=1e-12)


def test_the_ratio_lets_half_of_a_shell_overlap() -> None:
    for dims in (8, 64, 3072):
        ratio = geometric_ratio(dims)
        z = torch.distributions.Normal(0, 1)
        mean, reach = math.sqrt(2 * dims) * (ratio - 1), 3 * ratio
        half = z.cdf(torch.tensor(mean + reach).double()) - z.cdf(torch.tensor(mean - reach).double())
        assert float(half) == pytest.approx(0.5, abs=1e-6)
        assert overlap(ratio, dims) == pytest.approx(0.5, abs=1e-9)
    assert geometric_ratio(3072) == pytest.approx(1.04, abs=0.001), "CIFAR-10's is 50^(1/231) · 100^(1/231) = 1.038"
    assert math.isinf(geometric_ratio(4))
    assert overlap(1e6, 4) > 0.5


def test_a_shell_is_where_the_ratio_says() -> None:
    """In D = 64 the radius of N(0, σ²I) is √D σ ± σ/√2; at the ratio, half of it is within 3 deviations of the next."""
    sigma, dims = 2.0, 64
    ratio = geometric_ratio(dims)
    radius = sigma * torch.randn(20_000, dims, generator=torch.Generator().manual_seed(1)).norm(dim=1)
    reach = sigma * ratio * (math.sqrt(dims) - 3 / math.sqrt(2)), sigma * ratio * (math.sqrt(dims) + 3 / math.sqrt(2))
    inside = ((radius > reach[0]) & (radius < reach[1])).double().mean()
    assert float(inside) == pytest.approx(0.5, abs=0.06), "the normal approximation of a χ law with 64 degrees"


def test_levels_are_enough_and_not_one_too_many() -> None:
    for sigma_min, sigma_max, ratio in [(0.01, 50.0, 1.0376), (0.02, 9.6, 1.36), (1.0, 2.0, 2.0), (0.01, 1.0, 1.668)]:
        count = level_count(sigma_min, sigma_max, ratio)
        assert (sigma_max / sigma_min) ** (1 / (count - 1)) <= ratio * (1 + 1e-9)
        if count > 2:
            assert (sigma_max / sigma_min) ** (1 / (count - 2)) > ratio
    assert level_count(0.01, 1.0, 1.6682) == 10, "NCSN's"
    with pytest.raises(ValueError, match="sigma_min < sigma_max"):
        level_count(1.0, 1.0, 1.5)


def test_the_largest_distance_is_of_all_pairs() -> None:
    brute = max(float((a - b).norm()) for a in X for b in X)
    for block in (1, 7, 1024):
        found = largest_distance(X, block=block)
        assert found.value == pytest.approx(brute, rel=1e-12)
        assert found.pairs == 37 * 36 // 2
        assert found.exact
    sample = largest_distance(X[:10], len(X))
    assert sample.value <= brute
    assert (sample.pairs, sample.exact) == (45, False)
    with pytest.raises(ValueError, match="at least 2"):
        largest_distance(X[:1])
