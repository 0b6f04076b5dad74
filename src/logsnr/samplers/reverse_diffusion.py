"""The reverse-diffusion predictor: discretise the reverse SDE just as the forward process was (Score SDE, appendix E).

A step of the forward chain is x_t = α_{t|s} x_s + σ_{t|s} z, that is x_s + f + G z with f = (α_{t|s} − 1) x and
G = σ_{t|s}. The reverse SDE in the same discretisation, x_t − f + G² ŝ + G z, is

    x_s = (2 − α_{t|s}) x_t + ½(1 + η²) σ²_{t|s} ŝ + η σ_{t|s} z

with η = 1; η = 0 is the probability-flow variant. On the vp scale α_{t|s} = √(1 − β) and σ²_{t|s} = β, on ve they are 1
and σ_t² − σ_s² (algorithms 3 and 2). Unlike Euler–Maruyama it reads levels, not derivatives, so that a large step stays
within bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, evaluations


class ReverseDiffusion(Sampler):
    """The step above. eta: η in [0, 1], 1 for the reverse SDE and 0 for the probability flow."""

    order = 1
    scale_free = False  # 2 − α_{t|s} is 1/α_{t|s} to first order only

    def __init__(self, eta: float = 1.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta = {eta}; allowed: 0 (probability flow) to 1 (reverse SDE)")
        self.eta, self.stochastic = eta, eta > 0

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        kept = 2 - torch.exp(t.log_alpha - s.log_alpha)
        # σ²_{t|s}, which has a sign where the flow is walked upwards
        variance = -torch.exp(2 * t.log_sigma) * torch.expm1(s.gamma - t.gamma)
        mean = over(kept, x) * x + over(0.5 * (1 + self.eta**2) * variance, x) * prediction.score
        drawn = mean + over(self.eta * variance.sqrt(), x) * noise("step") if self.stochastic else mean
        return Step(drawn, mean, prediction, s, evaluations(x, 1))
