"""Euler with ancestral noise: step further down than wanted, and add noise up to the level (k-diffusion).

    σ_up = min(σ̃_s, η √(σ̃_s² (σ̃_t² − σ̃_s²)/σ̃_t²)),  σ_down = √(σ̃_s² − σ_up²),   x̃_s = x̂0 + σ_down ε̂ + σ_up S_noise ε

σ_up is η times the standard deviation of the posterior: with S_noise = 1 and η <= 1 this is DDIM(η) in VE units, and a
larger η is cut where nothing of ε̂ would be left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, evaluations


class EulerAncestral(Sampler):
    """The step above. eta: η >= 0. s_noise: standard deviation of the fresh noise."""

    scale_free = True

    def __init__(self, eta: float = 1.0, s_noise: float = 1.0) -> None:
        if not (eta >= 0 and s_noise >= 0):
            raise ValueError(f"eta = {eta}, s_noise = {s_noise}; allowed: both at least 0")
        self.eta, self.s_noise = eta, s_noise
        self.stochastic = eta > 0
        self.order = 1 if s_noise == 1 and eta <= 1 else None

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        fresh = (-(self.eta**2) * torch.expm1(s.gamma - t.gamma)).clamp(max=1)  # σ_up²/σ̃_s²
        mean = over(s.alpha, x) * prediction.x0 + over(s.sigma * torch.sqrt(1 - fresh), x) * prediction.eps
        if not self.stochastic:
            return Step(mean, mean, prediction, s, evaluations(x, 1))
        std = self.s_noise * s.sigma * torch.sqrt(fresh)
        return Step(mean + over(std, x) * noise("step"), mean, prediction, s, evaluations(x, 1))
