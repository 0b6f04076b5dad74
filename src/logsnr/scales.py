"""Scales: in which units a noisy sample is written, log α and log σ as functions of γ.

γ alone fixes how much noise there is; the scale says what the sum of signal and noise is multiplied with. Because γ
is monotone in time, log α can be written as a function of γ, and the four conventions of the literature are four
lines (each pair satisfies log σ = log α + γ/2):

    vp        α² + σ² = 1      log α = ½ logsigmoid(−γ)            DDPM, DDIM, VDM
    ve        α = 1            log α = 0                           NCSN, EDM
    sub_vp    σ = 1 − α²       log α = −asinh(½ exp(γ/2))          Score SDE, eq. 29 (a standard deviation, no root)
    straight  α + σ = 1        log α = logsigmoid(−γ/2)            flow matching

A scale may also say what γ follows from a given log α: "∫β = −2 log α" then defines the same schedule in its units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Scale:
    """log α(γ) and log σ(γ), finite at every finite γ, with the limits at γ = ±∞; elementwise, any shape."""

    name: str
    log_alpha: Callable[[Tensor], Tensor]
    log_sigma: Callable[[Tensor], Tensor]
    gamma: Callable[[Tensor], Tensor] | None = None  # γ of log α, the inverse; None where α does not depend on γ

    @property
    def noise_limit(self) -> float:
        """σ at γ = +∞: the standard deviation of pure noise, ∞ when the noise grows without bound (ve)."""
        return float(self.log_sigma(torch.tensor(math.inf, dtype=torch.float64)).exp())


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 − eˣ) for x <= 0."""
    return torch.log(-torch.expm1(x))


def _sub_vp_log_alpha(gamma: Tensor) -> Tensor:
    return -torch.asinh(0.5 * torch.exp(0.5 * gamma))


vp = Scale(
    name="vp",
    log_alpha=lambda gamma: 0.5 * logsigmoid(-gamma),
    log_sigma=lambda gamma: 0.5 * logsigmoid(gamma),
    gamma=lambda log_alpha: torch.log(torch.expm1(-2 * log_alpha)),
)
ve = Scale(
    name="ve",
    log_alpha=torch.zeros_like,
    log_sigma=lambda gamma: 0.5 * gamma,
)
sub_vp = Scale(
    name="sub_vp",
    log_alpha=_sub_vp_log_alpha,
    log_sigma=lambda gamma: _log1mexp(2 * _sub_vp_log_alpha(gamma)),
    gamma=lambda log_alpha: 2 * _log1mexp(2 * log_alpha) - 2 * log_alpha,
)
straight = Scale(
    name="straight",
    log_alpha=lambda gamma: logsigmoid(-0.5 * gamma),
    log_sigma=lambda gamma: logsigmoid(0.5 * gamma),
    gamma=lambda log_alpha: 2 * (_log1mexp(log_alpha) - log_alpha),
)

SCALES: dict[str, Scale] = {scale.name: scale for scale in (vp, ve, sub_vp, straight)}
