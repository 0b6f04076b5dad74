"""log α and log σ as functions of γ: the identities that define each scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from logsnr.scales import SCALES, Scale

GAMMA = torch.linspace(-80, 80, 1601, dtype=torch.float64)

CONSTRAINT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "vp": lambda alpha, sigma: alpha**2 + sigma**2 - 1,
    "ve": lambda alpha, sigma: alpha - 1,
    "sub_vp": lambda alpha, sigma: sigma + alpha**2 - 1,
    "straight": lambda alpha, sigma: alpha + sigma - 1,
}


def test_log_sigma_minus_log_alpha_is_half_gamma(scale: Scale) -> None:
    difference = scale.log_sigma(GAMMA) - scale.log_alpha(GAMMA)
    assert torch.allclose(difference, GAMMA / 2, rtol=0, atol=2e-14)


@pytest.mark.parametrize("name", CONSTRAINT)
def test_defining_constraint(name: str) -> None:
    scale = SCALES[name]
    residual = CONSTRAINT[name](scale.log_alpha(GAMMA).exp(), scale.log_sigma(GAMMA).exp())
    assert residual.abs().max() < 1e-15


def test_signal_falls_and_noise_rises(scale: Scale) -> None:
    inside = torch.linspace(-30, 30, 601, dtype=torch.float64)
    assert (scale.log_alpha(inside).diff() <= 0).all()
    assert (scale.log_sigma(inside).diff() > 0).all()


def test_both_ends_are_legal(scale: Scale) -> None:
    ends = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
    alpha, sigma = scale.log_alpha(ends).exp(), scale.log_sigma(ends).exp()
    assert (float(alpha[0]), float(sigma[0])) == (1, 0)
    assert float(sigma[1]) == scale.noise_limit
    assert float(alpha[1]) == (1 if math.isinf(scale.noise_limit) else 0)


def test_noise_limits() -> None:
    limits = {name: SCALES[name].noise_limit for name in CONSTRAINT}
    assert limits == {"vp": 1, "ve": math.inf, "sub_vp": 1, "straight": 1}


def test_finite_far_out(scale: Scale) -> None:
    far = torch.tensor([-700.0, 700.0], dtype=torch.float64)
    assert scale.log_alpha(far).isfinite().all()
    assert scale.log_sigma(far).isfinite().all()


def test_gamma_of_log_alpha_is_the_inverse(scale: Scale) -> None:
    if scale.gamma is None:
        assert (scale.log_alpha(GAMMA) == 0).all()
        return
    inside = torch.linspace(-25, 25, 501, dtype=torch.float64)
    assert torch.allclose(scale.gamma(scale.log_alpha(inside)), inside, rtol=0, atol=1e-11)


@pytest.mark.parametrize("gamma", [-60.0, -20.0, -1e-3, 0.0, 3.0, 45.0])
def test_sub_vp_to_forty_digits(gamma: float) -> None:
    with mpmath.workdps(40):
        half = mpmath.mpf(gamma) / 2  # α² + e^{γ/2} α − 1 = 0
        alpha = (-mpmath.exp(half) + mpmath.sqrt(mpmath.exp(2 * half) + 4)) / 2
        expected = float(mpmath.log(alpha)), float(mpmath.log(1 - alpha**2))
    value = torch.tensor(gamma, dtype=torch.float64)
    scale = SCALES["sub_vp"]
    assert float(scale.log_alpha(value)) == pytest.approx(expected[0], rel=2e-15)
    assert float(scale.log_sigma(value)) == pytest.approx(expected[1], rel=2e-15)
