"""DPM-Solver-12 and -23: steps of two orders that share their evaluations tell the error (2206.00927, appendix C).

    E = rms over dimensions of (x̃_high − x̃_low)/max(atol, rtol max(|x̃_low|, |x̃_low of the step before|))

in VE units, x̃ = x/α. The next step is h · κ, κ = 1 + atan(E^{−1/k} − 1), a smooth limit of the usual factor (Söderlind
2003), and a step is taken when its κ is at least 0.81, as in k-diffusion. Steps, their number and their acceptance
belong to an example; norm "batch" is for comparison with published runs, which share one step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.path import Path
from logsnr.samplers.loop import Sampler, Step, evaluations
from logsnr.samplers.singlestep import lowered, pair, raised

NORMS = ("example", "batch")
FIRST_STEP = 0.05  # in λ
ACCEPTED = 0.81
ARRIVED = 1e-5  # in λ: what is left is not walked
TINY = 1e-8


class DPMAdaptive(Sampler):
    """The steps above from t to s within one step of the grid, which must be finite.

    order: k = 2 or 3, the higher of the pair and its evaluations. eta: noise, as for `singlestep`. rtol, atol: of x̃.
    ValueError from pure noise, or when an example needs more than `most_steps` attempts.
    """

    order = None  # the error follows the tolerance, not the grid
    scale_free = True

    def __init__(
        self,
        path: Path,
        order: int = 3,
        rtol: float = 1e-3,
        atol: float = 1e-4,
        *,
        eta: float = 0.0,
        norm: str = "example",
        most_steps: int = 10_000,
    ) -> None:
        if order not in (2, 3) or not 0 <= eta <= 1 or norm not in NORMS:
            raise ValueError(f"order={order}, eta={eta}, norm={norm!r}; allowed: 2, 3; 0 to 1; {', '.join(NORMS)}")
        if not (rtol >= 0 and atol > 0):
            raise ValueError(f"rtol={rtol}, atol={atol}; allowed: rtol >= 0, atol > 0")
        self.path, self.count, self.rtol, self.atol = path, order, rtol, atol
        self.eta, self.norm, self.most_steps, self.stochastic = eta, norm, most_steps, eta > 0

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        if torch.isposinf(t.gamma) or torch.isposinf(s.gamma):
            raise ValueError("dpm_adaptive at pure noise (γ = inf); allowed: the sampler adaptive, or a finite level")
        gamma, size = t.gamma.repeat(len(x)), t.gamma.new_full((len(x),), FIRST_STEP)
        sign, count, before, prediction = torch.sign(t.gamma - s.gamma), evaluations(x, 0), x / over(t.alpha, x), None
        for attempt in range(self.most_steps):
            left = 0.5 * (gamma - s.gamma).abs()
            active = left > ARRIVED
            if not active.any():
                return Step(x, x, prediction or model(x, t), s, count)
            here = self.path.at_gamma(gamma)
            last = size >= left
            # an example that has arrived is carried along on a step back, so that the model sees no 0/0
            target = torch.where(active, gamma - 2 * sign * size, gamma + 2 * sign * FIRST_STEP)
            there = self.path.at_gamma(torch.where(last & active, s.gamma, target))
            low = lowered(self.path, here, there, self.eta)
            seen = model(x, here)
            prediction = prediction or seen
            lower, higher = pair(model, self.path, seen, here, low, self.count)
            scale = over(low.alpha, x)
            factor = self._factor(lower / scale, higher / scale, before)
            if not factor[active].isfinite().all():
                raise ValueError("dpm_adaptive: the model's answer is not finite; allowed: a model that is")
            taken = active & (factor >= ACCEPTED)
            if taken.any():
                keep = over(taken, x).bool()
                moved = raised(higher, low, there, noise, f"attempt {attempt}") if self.stochastic else higher
                x, before = torch.where(keep, moved, x), torch.where(keep, lower / scale, before)
                gamma = torch.where(taken, there.gamma, gamma)
            size = torch.where(active, size * factor, size)
            count = count + self.count * active.to(count)
        raise ValueError(
            f"dpm_adaptive: {self.most_steps} attempts did not reach rtol={self.rtol}, atol={self.atol}; allowed: "
            "larger ones, or a larger most_steps"
        )

    def _factor(self, lower: Tensor, higher: Tensor, before: Tensor) -> Tensor:
        """κ of each example, (B,), float64 on the CPU."""
        allowed = (self.rtol * torch.maximum(lower.abs(), before.abs())).clamp(min=self.atol)
        square = ((lower - higher) / allowed).reshape(len(lower), -1).square().mean(1).cpu().double()
        if self.norm == "batch":
            square = square.mean().expand_as(square)
        power = 1 / 1.5 if self.eta else 1 / self.count  # noise is rougher than the flow
        return 1 + torch.atan((square.sqrt() + TINY) ** -power - 1)
