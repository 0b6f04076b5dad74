"""Ancestral sampling: draw from p(x_s | x_t), one reverse kernel after another (DDPM, algorithm 2; D10).

It is the same sampler for every grid and every scale: DDPM's thousand steps, Improved DDPM's respaced fifty, the VE
chain of NCSN, VDM's sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from logsnr.denoiser import Model
from logsnr.kernels import named_rule, reverse, small
from logsnr.level import Level
from logsnr.samplers.loop import Sampler, Step, evaluations


class Ancestral(Sampler):
    """x_s = μ(x_t, x̂0) + std · ε, μ the posterior mean; variance: "small" (β̃) or "large" (β)."""

    order = 1
    stochastic = True

    def __init__(self, variance: str = "small") -> None:
        self.rule = named_rule(variance)
        self.scale_free = self.rule is small  # β is a variance in the units of x_t

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        kernel = reverse(prediction, s, self.rule)
        return Step(kernel.sample(noise("step")), kernel.mean, prediction, s, evaluations(x, 1))
