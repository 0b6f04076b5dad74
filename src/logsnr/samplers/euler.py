"""Euler's method for the probability flow in VE units, dx̃/dσ̃ = ε̂, after an optional churn (EDM, algorithm 2, order 1).

x̃ = x/α, σ̃ = σ/α; the step is (α_s/α_t) x + α_s (σ̃_s − σ̃_t) ε̂ = α_s x̂0 + σ_s ε̂: without churn it is DDIM with η = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.prediction import Prediction
from logsnr.samplers.churn import Churn
from logsnr.samplers.loop import Sampler, Step, evaluations


def euler(prediction: Prediction, s: Level) -> Tensor:
    """α_s x̂0 + σ_s ε̂: Euler's step to s, finite from pure noise too."""
    alpha, sigma = s.over(prediction.x)
    return alpha * prediction.x0 + sigma * prediction.eps


class Euler(Sampler):
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
        self.order = None if self.stochastic else 1

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        raised, level = self.churn(x, t, noise)
        prediction = model(raised, level)
        moved = euler(prediction, s)
        return Step(moved, moved, prediction, s, evaluations(x, 1))
