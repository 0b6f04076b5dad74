"""Heun's method for the probability flow in VE units, after an optional churn (EDM, algorithms 1 and 2).

    x̃' = x̃ + (σ̃_s − σ̂) ε̂(x̃, σ̂)                                  Euler
    x̃_s = x̃ + (σ̃_s − σ̂) ½ [ε̂(x̃, σ̂) + ε̂(x̃', σ̃_s)]               the mean of the two slopes

Two evaluations a step; the last one, into the clean level, is the loop's x̂0, as in the paper. From pure noise
(σ̂ = ∞) the second line has no meaning and the step is Euler's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.churn import Churn
from logsnr.samplers.euler import euler
from logsnr.samplers.loop import Sampler, Step, evaluations


class Heun(Sampler):
    """The step above. s_churn, s_min, s_max, s_noise: EDM's S_churn, S_min, S_max, S_noise; steps: N.

    With churn it declares no order: S_churn/N is raised in every step, however short.
    """

    scale_free = True

    def __init__(
        self,
        *,
        s_churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = math.inf,
        s_noise: float = 1.0,
        steps: int = 1,
    ) -> None:
        self.churn = Churn(s_churn, steps, s_min, s_max, s_noise)
        self.stochastic = s_churn > 0
        self.order = None if self.stochastic else 2

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        raised, level = self.churn(x, t, noise)
        prediction = model(raised, level)
        moved = euler(prediction, s)
        if torch.isposinf(level.gamma):
            return Step(moved, moved, prediction, s, evaluations(x, 1))
        # α_s (σ̃_s − σ̂)/2 times the difference of the slopes, without subtracting the two σ̃
        span = 0.5 * torch.exp(s.log_sigma) * -torch.expm1(0.5 * (level.gamma - s.gamma))
        moved = moved + over(span, x) * (model(moved, s).eps - prediction.eps)
        return Step(moved, moved, prediction, s, evaluations(x, 2))
