"""Targets: any one of them yields all the others, at any noise level."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logsnr.level import Level
from logsnr.prediction import TARGETS, Prediction, determinant
from logsnr.prediction import eps as eps_target
from logsnr.prediction import v as v_target
from logsnr.prediction import x0 as x0_target
from logsnr.scales import Scale

GAMMA = torch.linspace(-20, 20, 81, dtype=torch.float64)
X0, EPS, X0_ERROR = torch.randn(3, len(GAMMA), 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def levels(scale: Scale, gamma: Tensor = GAMMA) -> Level:
    return Level(torch.full_like(gamma, math.nan), gamma, scale.log_alpha(gamma), scale.log_sigma(gamma))


def column(value: Tensor) -> Tensor:
    return value.reshape(-1, 1, 1)


def truth(level: Level) -> dict[str, Tensor]:
    """Every target of the same x0 and ε, written out."""
    alpha, sigma = column(level.alpha), column(level.sigma)
    return {"x0": X0, "eps": EPS, "score": -EPS / sigma, "v": alpha * EPS - sigma * X0, "velocity": EPS - X0}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_directions_are_the_papers_targets(scale: Scale) -> None:
    level = levels(scale)
    for name, expected in truth(level).items():
        a, b = TARGETS[name](level)
        assert torch.allclose(column(a) * X0 + column(b) * EPS, expected, rtol=1e-13, atol=1e-13)


def test_round_trip(scale: Scale, target: str) -> None:
    level = levels(scale)
    x, direction = level.perturb(X0, EPS), TARGETS[target](level)
    value = column(direction.a) * X0 + column(direction.b) * EPS
    prediction = Prediction(x, level, direction, value)
    expected = truth(level)
    sigma = column(level.sigma)
    assert (prediction.x0 - X0).abs().max() < 1e-10
    assert (prediction.eps - EPS).abs().max() < 1e-10
    assert ((prediction.score - expected["score"]) * sigma).abs().max() < 1e-10
    assert ((prediction.v - expected["v"]) / (1 + sigma)).abs().max() < 1e-10
    for other in TARGETS.values():  # and back
        middle = Prediction(x, level, other(level), prediction.along(other(level)))
        scale_of_value = value.abs().amax((1, 2), keepdim=True)
        assert ((middle.along(direction) - value) / scale_of_value).abs().max() < 1e-9


def test_the_native_value_is_not_a_rounding_of_itself(scale: Scale, target: str) -> None:
    level = levels(scale)
    direction = TARGETS[target](level)
    prediction = Prediction(X0.float(), level, direction, EPS.float())
    assert torch.allclose(prediction.along(direction), EPS.float(), rtol=2e-7, atol=0)


def test_x0_is_solved_for_whatever_the_noise_was(scale: Scale) -> None:
    """x = α x0 + σ ε has one x0 for each ε: no noise has to be independent for that, not even random."""
    level = levels(scale, torch.linspace(-8, 8, len(GAMMA), dtype=torch.float64))
    for noise in (torch.ones_like(X0), X0, EPS.cumsum(0)):
        x = level.perturb(X0, noise)
        assert torch.allclose(Prediction(x, level, eps_target(level), noise).x0, X0, rtol=1e-9, atol=1e-9)


def test_squared_errors_differ_by_the_determinant(scale: Scale, target: str) -> None:
    level = levels(scale, torch.linspace(-8, 8, len(GAMMA), dtype=torch.float64))
    x, direction = level.perturb(X0, EPS), TARGETS[target](level)
    right = column(direction.a) * X0 + column(direction.b) * EPS
    prediction = Prediction(x, level, direction, right + X0_ERROR)
    delta2 = column(determinant(level, direction) ** 2)
    error = X0_ERROR**2
    assert torch.allclose(delta2 / column(level.alpha**2) * (prediction.eps - EPS) ** 2, error, rtol=1e-7, atol=1e-10)
    assert torch.allclose(delta2 / column(level.sigma**2) * (prediction.x0 - X0) ** 2, error, rtol=1e-7, atol=1e-10)
    snr = column(level.log_snr.exp())
    assert torch.allclose((prediction.x0 - X0) ** 2, (prediction.eps - EPS) ** 2 / snr, rtol=1e-6, atol=1e-10)
    if scale.name == "vp":
        v = truth(level)["v"]
        of_eps = (prediction.eps - EPS) ** 2 / column(level.alpha**2)
        assert torch.allclose((prediction.v - v) ** 2, of_eps, rtol=1e-6, atol=1e-10)


def test_clipped_moves_x0_and_eps_follows_from_x(scale: Scale) -> None:
    level = levels(scale)
    x = level.perturb(X0, EPS)
    clipped = Prediction(x, level, v_target(level), truth(level)["v"]).clipped(-0.5, 0.25)
    assert torch.allclose(clipped.x0, X0.clamp(-0.5, 0.25), atol=1e-10)
    assert torch.allclose(level.perturb(clipped.x0, clipped.eps), x, rtol=1e-12, atol=1e-12)


def test_detached_stops_the_mean_and_lets_the_spread_pass(scale: Scale) -> None:
    level = levels(scale)
    value, spread = EPS.clone().requires_grad_(), X0.clone().requires_grad_()
    prediction = Prediction(X0, level, eps_target(level), value, spread)
    detached = prediction.detached()
    assert torch.equal(detached.value, value)
    assert not detached.x0.requires_grad
    assert detached.spread is spread
    assert prediction.x0.requires_grad


def test_at_pure_noise_only_noise_says_nothing_of_the_data() -> None:
    gamma = torch.full((len(GAMMA),), math.inf, dtype=torch.float64)
    level = Level(torch.ones_like(gamma), gamma, torch.full_like(gamma, -math.inf), torch.zeros_like(gamma))
    x = level.perturb(X0, EPS)
    assert torch.equal(x, EPS)
    for target in (x0_target, v_target, TARGETS["velocity"]):
        direction = target(level)
        value = column(direction.a) * X0 + column(direction.b) * EPS
        prediction = Prediction(x, level, direction, value)
        assert torch.allclose(prediction.x0, X0, atol=1e-14)
        assert torch.allclose(prediction.eps, EPS, atol=1e-14)
    assert not Prediction(x, level, eps_target(level), EPS).x0.isfinite().any()
