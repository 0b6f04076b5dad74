"""Fréchet distance: the formula for Gaussians, streaming, bias, extrapolation and the error it states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logsnr.metrics import METRICS, Moments, frechet_distance
from logsnr.metrics.frechet import Target, extrapolated
from logsnr.metrics.moments import load, save
from tests.metrics.conftest import comparison

RNG = np.random.default_rng(0)


def test_diagonal_gaussians_have_the_closed_form() -> None:
    """Σ (m₁ − m₂)² + (s₁ − s₂)², for sets with exactly these moments."""
    x = RNG.normal(size=(500, 3))
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(499)
    ones, scale, shift = np.ones(3), np.array([0.5, 2.0, 3.0]), np.array([1.0, -2.0, 0.0])
    expected = (shift**2).sum() + ((scale - ones) ** 2).sum()
    assert frechet_distance(x, x * scale + shift) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dims", [4, 64, 300])
def test_identical_sets_are_at_zero(dims: int) -> None:
    """Also with fewer rows than features, and with features that never vary."""
    x = 50 * RNG.normal(size=(200, dims)) + 1000
    x[:, ::3] = 7
    assert 0 <= frechet_distance(x, x) < 1e-6
    assert 0 <= frechet_distance(x, x[::-1]) < 1e-6


def test_directions_that_the_data_has_not_got_add_nothing() -> None:
    """One direction of 300: d² of x and 2x is |mean|² + variance, without the roots of 299 rounding errors."""
    x = np.outer(50 * RNG.normal(size=400) + 30, RNG.normal(size=300))
    expected = (x.mean(0) ** 2).sum() + x.var(0, ddof=1).sum()
    assert frechet_distance(x, 2 * x) == pytest.approx(expected, rel=1e-9)


def test_streamed_moments_are_those_of_the_whole() -> None:
    """In uneven chunks and in the parts of two processes; a mean far from 0 loses no digits."""
    x = RNG.normal(size=(1001, 6)) @ RNG.normal(size=(6, 6)) + 1e4
    whole = Moments.of(x)
    for parts in (np.split(x, [1, 3, 500, 999]), np.array_split(x, 100)):
        streamed = Moments.over(parts)
        assert streamed.count == 1001
        assert np.allclose(streamed.mean, whole.mean, rtol=1e-12)
        assert np.allclose(streamed.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-9)
    y = RNG.normal(size=(400, 6))
    merged = Moments.over([x[:300]]) + Moments.over(np.array_split(x[300:], 7))
    distance = Target(Moments.of(y)).distance(merged)
    assert distance == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_files_of_moments_go_round(tmp_path: Path) -> None:
    moments = Moments.of(RNG.normal(size=(50, 4)))
    save(tmp_path / "m.safetensors", moments, {"split": "train"})
    again, said = load(tmp_path / "m.safetensors")
    assert said == {"split": "train"}
    assert again.count == 50
    assert np.array_equal(again.mean, moments.mean)
    assert np.array_equal(again.scatter, moments.scatter)
    (tmp_path / "x.safetensors").write_bytes(b"12345678")
    for name in ("x.safetensors", "none.safetensors"):
        with pytest.raises(ValueError, match="no file of moments"):
            load(tmp_path / name)


def test_the_bias_is_taken_off_and_the_error_is_honest() -> None:
    """Gaussians with d² = 1.25: d² at N = 400 is too high by several of its errors, the extrapolation is not."""
    dims, scale = 24, np.ones(24)
    scale[0] = 1.5
    shift = np.eye(dims)[1]
    reference = Target(Moments(10**6, np.zeros(dims), (10**6 - 1) * np.eye(dims)))
    plain, beyond = [], []
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=(400, dims)) * scale + shift
        moments = Moments.of(x)
        error = float(reference.influence(x, moments).std() / np.sqrt(len(x)))
        plain.append((reference.distance(moments), error))
        figure = extrapolated(x, reference, error, seed)
        assert figure.standard_error is not None
        beyond.append((figure.value, figure.standard_error))
    (values, errors), (limits, widths) = np.transpose(plain), np.transpose(beyond)
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.25)
    assert values.mean() - 1.25 > 5 * values.std() / np.sqrt(60), "biased upwards"
    assert abs(limits.mean() - 1.25) < 3 * limits.std() / np.sqrt(60), "extrapolated"
    assert 0.75 < ((limits - 1.25) / widths).std(ddof=1) < 1.3


def test_intervals_of_a_distance_cover_it() -> None:
    """90 % of 40 intervals hold the true d² = 1, the bias taken off."""
    hits = 0
    for seed in range(40):
        x = np.random.default_rng(seed).normal(size=(200, 5)) + np.eye(5)[0]
        y = np.random.default_rng(1000 + seed).normal(size=(20_000, 5))
        figure = METRICS["fd"](comparison(x, y, bootstrap=60, force=True, seed=seed)).figures["fd"]
        assert figure.interval is not None
        hits += figure.interval[0] <= 1.0 <= figure.interval[1]
    assert 31 <= hits <= 40


def test_few_examples_are_refused_unless_forced() -> None:
    x, y = RNG.normal(size=(2048, 3)), RNG.normal(size=(2047, 3))
    for pair, of in (((y, x), "2047 samples"), ((x, y), "2047 reference")):
        with pytest.raises(ValueError, match=f"fd of {of}.*allowed: at least 2048, or --force"):
            METRICS["fd"](comparison(*pair))
        facts = METRICS["fd"](comparison(*pair, force=True)).facts
        assert facts["comparable"] is False
    with pytest.raises(ValueError, match="fd of 4097 features; allowed: up to 4096"):
        METRICS["fd"](comparison(np.zeros((2, 4097)), np.zeros((2, 4097)), force=True))
    facts = METRICS["fd"](comparison(x, x)).facts
    assert (facts["samples"], facts["reference_samples"], facts["comparable"]) == (2048, 2048, True)
    assert "upwards" in facts["bias"]
    assert "at 2048 samples" in facts["note"]


def test_moments_stand_for_the_reference() -> None:
    x, y = RNG.normal(size=(300, 3)), RNG.normal(size=(400, 3)) + 1
    direct = METRICS["fd"](comparison(x, y, force=True))
    given = comparison(x, y, force=True, statistics=Moments.of(y.astype(np.float32)))
    assert METRICS["fd"](given).figures["fd"].value == pytest.approx(direct.figures["fd"].value, rel=1e-9)
    with pytest.raises(ValueError, match="moments of 2 features for samples of 3"):
        METRICS["fd"](comparison(x, y, force=True, statistics=Moments.of(y[:, :2])))
