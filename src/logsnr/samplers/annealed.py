"""Annealed Langevin dynamics: n steps of Langevin dynamics at every level of a grid, from the highest down (N4).

    for each level σ_i:  n times  x ← x + ε_i ŝ(x, σ_i) + √(2ε_i) z,     ε_i = ε σ_i²/σ_L²
    at the end, once:    x ← x + σ_L² ŝ(x, σ_L), which is x̂0

Song and Ermon 2019, algorithm 1, in NCSNv2's convention (2020, algorithm 1); NCSN writes α_i/2 and √α_i for our ε_i and
√(2ε_i), so its ε is twice ours. The last line is the step of the library's loop into the clean level: a grid that ends
`clean` has it, one that ends `lowest` leaves it off.

ε_i/σ_i² is the same at every level. In units where x = α (x0 + e^{γ/2} ε) the step is (α e^{γ_i/2})² times that number,
hence for every scale ε_i = ε σ_i² e^{−γ_L}, and from level to level x keeps x/α. So any model runs on any path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.path import Path
from logsnr.samplers.langevin import langevin_step
from logsnr.samplers.loop import Sampler, Step, evaluations
from logsnr.techniques import relative_step

_ANY_RATIO = 1e3  # levels further apart than this are apart in every sense; keeps pure noise finite


class AnnealedLangevin(Sampler):
    """A step from t to s brings x to the units of s and runs `n_steps` Langevin steps there.

    The first step of a chain runs them at t too: its prior is not yet the law of the highest level. step_size: ε at the
    lowest level of `path` in units where α = 1; None for NCSNv2's closed form on the grid that is walked
    (`techniques.relative_step`). ValueError for n_steps < 1, or a step that diverges (ε/σ_L² must lie in (0, 2)).
    """

    order = None
    scale_free = True
    stochastic = True

    def __init__(self, path: Path, n_steps: int = 5, step_size: float | None = None) -> None:
        if n_steps < 1:
            raise ValueError(f"n_steps = {n_steps} of Langevin dynamics a level; allowed: at least 1")
        self.n_steps = n_steps
        self.eta: float | None = None  # ε/σ_L² in units where α = 1
        if step_size is not None:
            gamma = float(path.lowest.gamma.detach())
            self.eta = step_size * math.exp(-gamma)
            if not 0 < self.eta < 2:
                lowest = f"a lowest level of σ² = {math.exp(gamma):.6g}"
                raise ValueError(f"step_size = {step_size} at {lowest}; allowed: above 0, below twice that σ²")

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        """memory: None until x has been at rest at some level, then that level."""
        eta = self.eta or relative_step(min(float(torch.exp((t.gamma - s.gamma) / 2)), _ANY_RATIO), self.n_steps)
        first = 0
        if memory is None:
            x, first = self._rest(model, x, t, eta, noise, "first").x, self.n_steps
        # α_s/α_t, or where no signal is left to keep, the ratio of the noises
        log_units = torch.where(torch.isposinf(t.gamma), s.log_sigma - t.log_sigma, s.log_alpha - t.log_alpha)
        step = self._rest(model, over(log_units.exp(), x) * x, s, eta, noise, "langevin")
        return Step(step.x, step.mean, step.prediction, s, evaluations(x, first + self.n_steps), memory=s)

    def _rest(
        self, model: Model, x: Tensor, level: Level, eta: float, noise: Callable[[str], Tensor], name: str
    ) -> Step:
        """`n_steps` Langevin steps at one level; the draw of each has its own name."""
        size = eta * level.sigma**2
        for i in range(self.n_steps):
            prediction = model(x, level)
            # prediction.x, not x: a condition may have told the model part of x
            x, mean = langevin_step(prediction.x, prediction.score, size, noise(f"{name}/{i}"))
        return Step(x, mean, prediction, level, evaluations(x, self.n_steps))
