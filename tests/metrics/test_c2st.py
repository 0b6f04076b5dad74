"""The classifier two-sample test: chance on equal laws, sure on different ones, the same answer every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from logsnr.metrics import METRICS
from logsnr.metrics.bootstrap import figure as resampled
from logsnr.metrics.bootstrap import interval, share_figure
from tests.metrics.conftest import comparison


def draw(count: int, seed: int, dims: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dims))


def test_equal_laws_are_told_apart_by_chance_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy ½ with the deviation that the p-value takes for granted."""
    monkeypatch.setitem(METRICS["c2st"].measure.__globals__, "STEPS", 40)
    found = [METRICS["c2st"](comparison(draw(100, 2 * s), draw(100, 2 * s + 1), seed=s)) for s in range(40)]
    z = np.array([(f.figures["c2st_accuracy"].value - 0.5) * 2 * np.sqrt(200) for f in found])
    assert abs(z.mean()) < 3 / np.sqrt(40)
    assert z.std() < 1.5
    assert sum(f.facts["p_value"] < 0.05 for f in found) <= 6


def test_different_laws_are_told_apart() -> None:
    """By a shift, and by a shape that has the same mean and covariance; Bayes' accuracy is a ceiling."""
    shifted = METRICS["c2st"](comparison(draw(500, 0) + np.array([2.0, 0, 0, 0]), draw(500, 1)))
    best = stats.norm.cdf(1.0)
    assert best - 0.04 < shifted.figures["c2st_accuracy"].value < best + 0.03
    assert shifted.facts["p_value"] < 1e-12
    ring = draw(500, 2, 2)
    ring *= np.sqrt(2) / np.linalg.norm(ring, axis=1, keepdims=True)
    assert METRICS["c2st"](comparison(ring, draw(500, 3, 2))).figures["c2st_accuracy"].value > 0.85


def test_the_answer_is_a_function_of_the_seed() -> None:
    x, y = draw(60, 0), draw(80, 1) + 0.5
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = METRICS["c2st"](comparison(x, y, seed=3))
    assert torch.equal(torch.rand(2), expected), "the caller's randomness is left alone"
    assert METRICS["c2st"](comparison(x, y, seed=3)) == first
    assert first.facts["samples"] == first.facts["reference_samples"] == 60


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="c2st of 49 examples of either set; allowed: at least 50"):
        METRICS["c2st"](comparison(draw(49, 0), draw(80, 1)))


def test_score_intervals_of_shares() -> None:
    """scipy's Wilson interval; none of 500 leaves room for some."""
    for hits, count in ((0, 500), (3, 40), (40, 40)):
        figure = share_figure(np.arange(count) < hits)
        expected = stats.binomtest(hits, count).proportion_ci(0.9, method="wilson")
        assert figure.interval == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_resampling_gives_the_error_of_a_mean() -> None:
    values = np.random.default_rng(0).gamma(1.0, size=400)
    found = resampled(lambda w: float(w @ values / 400), 400, sets=2000, seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std() / 20, rel=0.06)
    assert found.interval is not None
    reach = 1.645 * values.std() / 20
    assert found.interval == pytest.approx((values.mean() - reach, values.mean() + reach), rel=0.02)
    assert resampled(lambda w: 1.0, 9, sets=0, seed=0).interval is None
    assert interval(1.0, np.array([3.0, 3.0]), low=0.0) == (0.0, 0.0), "2θ̂ − q, and never below the floor"
    with pytest.raises(ValueError, match="allowed: 0, or at least 20"):
        resampled(lambda w: 1.0, 9, sets=5, seed=0)
