"""Schedules in closed form, in continuous time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from logsnr.scales import SCALES, Scale
from logsnr.schedules.schedule import NoiseSchedule


class Linear(NoiseSchedule):
    """γ(t) = γ_min + (γ_max − γ_min) t (VDM's fixed schedule, [−13.3, 5] for 8-bit images)."""

    def __init__(self, gamma_min: float = -13.3, gamma_max: float = 5.0) -> None:
        super().__init__()
        if not -math.inf < gamma_min < gamma_max < math.inf:
            raise ValueError(f"gamma_min={gamma_min}, gamma_max={gamma_max}; allowed: finite, gamma_min < gamma_max")
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, t: Tensor) -> Tensor:
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t


def geometric(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Linear:
    """σ_t = σ_min (σ_max/σ_min)^t in VE units (NCSN; Score SDE, eq. 30): a line in γ = 2 log σ."""
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min={sigma_min}, sigma_max={sigma_max}; allowed: 0 < sigma_min < sigma_max")
    return Linear(2 * math.log(sigma_min), 2 * math.log(sigma_max))


class BetaLinear(NoiseSchedule):
    """∫₀ᵗβ = β_min t + ½ (β_max − β_min) t², log α = −½∫β, and γ follows from the scale (vp or sub_vp)."""

    def __init__(
        self, beta_min: float = 0.1, beta_max: float = 20.0, scale: str | Scale = "vp", t_min: float = 1e-5
    ) -> None:
        super().__init__()
        scale = SCALES[scale] if isinstance(scale, str) else scale
        if not 0 < beta_min <= beta_max:
            raise ValueError(f"beta_min={beta_min}, beta_max={beta_max}; allowed: 0 < beta_min <= beta_max")
        if not 0 < t_min < 1:
            raise ValueError(f"t_min = {t_min}; allowed: 0 < t_min < 1, as the level at t = 0 is clean")
        if scale.gamma is None:
            raise ValueError(f"scale {scale.name!r} keeps α = 1, so no β is defined; allowed: vp, sub_vp, straight")
        self.beta_min, self.beta_max, self.t_min = beta_min, beta_max, t_min
        self.gamma_of_log_alpha = scale.gamma

    def forward(self, t: Tensor) -> Tensor:
        integral = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2
        return self.gamma_of_log_alpha(-0.5 * integral)


class Cosine(NoiseSchedule):
    """γ = log (1 − ᾱ + δ)/(ᾱ + δ), ᾱ = cos²θ/cos²θ₀, θ = (t + s)/(1 + s) · π/2 (Improved DDPM, eq. 17).

    δ = 1/(e^c − 1) bounds the log-SNR at exactly ±c at the two ends. The original clips β at 0.999 instead
    (`betas.cosine`), which is a bound that depends on T.
    """

    def __init__(self, offset: float = 0.008, max_log_snr: float = 20.0) -> None:
        super().__init__()
        if not (offset > 0 and 0 < max_log_snr < 36):
            raise ValueError(f"offset={offset}, max_log_snr={max_log_snr}; allowed: offset > 0, 0 < max_log_snr < 36")
        self.offset, self.delta = offset, 1 / math.expm1(max_log_snr)

    def forward(self, t: Tensor) -> Tensor:
        start = self.offset / (1 + self.offset) * math.pi / 2
        angle = (t + self.offset) / (1 + self.offset) * math.pi / 2
        # cos²θ₀ − cos²θ as a product keeps the digits that the difference would lose near t = 0
        alpha_bar = torch.cos(angle) ** 2 / math.cos(start) ** 2
        noise = torch.sin(angle - start) * torch.sin(angle + start) / math.cos(start) ** 2
        return torch.log(noise + self.delta) - torch.log(alpha_bar + self.delta)


class Straight(NoiseSchedule):
    """γ(t) = 2 log(t/(1 − t)), so that α = 1 − t, σ = t on the straight scale (Lipman et al. 2023; Liu et al. 2023).

    t = 0 is the clean level, t = 1 is pure noise, γ = +∞. t_min: the lowest time that a grid visits.
    """

    def __init__(self, t_min: float = 1e-3) -> None:
        super().__init__()
        if not 0 < t_min < 1:
            raise ValueError(f"t_min = {t_min}; allowed: 0 < t_min < 1")
        self.t_min = t_min

    def forward(self, t: Tensor) -> Tensor:
        return 2 * (torch.log(t) - torch.log1p(-t))
