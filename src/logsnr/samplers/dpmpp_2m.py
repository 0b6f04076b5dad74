"""DPM-Solver++ (2M): the second-order multistep solver as its authors and k-diffusion write it (2211.01095, alg. 2).

    x_s = (σ_s/σ_t) x_t − α_s expm1(−h) D,   D = x̂0(t) + (x̂0(t) − x̂0(before))/(2 r)

with h = λ_s − λ_t, λ = −γ/2, and r the step before over this one.

`multistep` of order 2 integrates a line exactly where this takes its value half-way; they differ in h³. It is here for
parity with what others publish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, evaluations


class DPMSolver2M(Sampler):
    """The step above; the first one, and one from pure noise or from a step out of it, has D = x̂0."""

    order = 2
    scale_free = True
    stochastic = False

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        slope = self._slope(prediction.x0, t, s, memory)
        of_x0 = over(-s.alpha * torch.expm1(0.5 * (s.gamma - t.gamma)), x)
        moved = over(torch.exp(s.log_sigma - t.log_sigma), x) * x + of_x0 * (prediction.x0 + slope)
        return Step(moved, moved, prediction, s, evaluations(x, 1), (t, prediction.x0))

    def _slope(self, x0: Tensor, t: Level, s: Level, memory: tuple[Level, Tensor] | None) -> Tensor:
        """(x̂0(t) − x̂0(before))/(2 r)."""
        if memory is None or torch.isposinf(memory[0].gamma):
            return torch.zeros_like(x0)
        before, old = memory
        return over(0.5 * (s.gamma - t.gamma) / (t.gamma - before.gamma), x0) * (x0 - old)
