"""Distances between laws that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from logsnr.metrics import METRICS, Comparison, Figure
from logsnr.metrics.kernel import kernel_distance
from logsnr.metrics.sliced import directions, squares
from tests.metrics.conftest import comparison

RNG = np.random.default_rng(0)


def only(name: str, compared: Comparison) -> Figure:
    (figure,) = METRICS[name](compared).figures.values()
    return figure


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    x, y = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3)) + 1

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    def own(z: np.ndarray) -> float:
        pairs = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(pairs) / len(pairs)

    cross = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(own(x) + own(y) - 2 * cross, rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kernel_distance_is_unbiased_and_its_error_honest(shift: float) -> None:
    """On the line k = 1 + 3xy + 3x²y² + x³y³, so MMD² is a sum of squared differences of moments."""
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        figure = only("kd", comparison(rng.normal(size=(120, 1)) + shift, rng.normal(size=(160, 1)), seed=seed))
        found.append((figure.value, figure.standard_error))
    values, errors = np.transpose(found)
    assert abs(values.mean() - expected) < 3 * values.std() / np.sqrt(200)
    ratio = np.sqrt((errors**2).mean()) / values.std(ddof=1)
    assert 0.85 < ratio < (1.9 if shift == 0 else 1.35), ratio


def test_kernel_distance_does_not_depend_on_the_order_of_the_data() -> None:
    """Sorted by class or not: blocks are dealt, and the value is that of all pairs."""
    x, y = np.sort(RNG.normal(size=(200, 1)), axis=0), RNG.normal(size=(200, 1))
    figure = only("kd", comparison(x, y))
    assert figure.value == pytest.approx(kernel_distance(x.astype(np.float32), y.astype(np.float32)), rel=1e-6)
    errors = [only("kd", comparison(RNG.permutation(x), y)).standard_error for _ in range(10)]
    assert figure.standard_error is not None
    assert figure.standard_error < 2 * float(np.median(np.array(errors)))


def test_wasserstein_on_the_line_is_exact_for_sets_of_any_sizes() -> None:
    for n, m in ((7, 7), (4, 6), (5, 13)):
        x, y = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1))
        # every example as often as makes both sets equally large
        expected = ((np.sort(np.repeat(x, m)) - np.sort(np.repeat(y, n))) ** 2).mean()
        assert squares(x, y)[0] == pytest.approx(expected, rel=1e-12)


def test_a_shift_moves_the_sliced_distance_by_its_length_over_root_d() -> None:
    x, shift = RNG.normal(size=(1000, 8)), np.arange(8.0)
    figure = only("sliced_wasserstein", comparison(x, x + shift))
    assert figure.value == pytest.approx(np.linalg.norm(shift) / np.sqrt(8), rel=0.05)
    assert figure.standard_error is not None
    assert abs(figure.value - np.linalg.norm(shift) / np.sqrt(8)) < 4 * figure.standard_error
    assert only("sliced_wasserstein", comparison(x, x)).value == 0
    doubled = only("sliced_wasserstein", comparison(x, np.repeat(x, 2, axis=0))).value
    assert doubled < 1e-7, "a set twice is the same law"


def test_gaussians_of_two_widths_differ_by_their_standard_deviations() -> None:
    """W₂ of N(0, 1) and N(0, 9) is 2 in every direction; with quantiles in place of draws there is little error."""
    line = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None]
    figure = only("sliced_wasserstein", comparison(line, 3 * line))
    assert figure.value == pytest.approx(2.0, rel=2e-3)


def test_directions_are_on_the_sphere_and_seeded() -> None:
    along = directions(5, 200, 3)
    assert np.allclose(np.linalg.norm(along, axis=0), 1)
    assert np.allclose(along @ along.T / 200, np.eye(5) / 5, atol=0.06)
    assert np.array_equal(along, directions(5, 200, 3))
    assert not np.array_equal(along, directions(5, 200, 4))
