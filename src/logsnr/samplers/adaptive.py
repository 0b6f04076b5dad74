"""An adaptive solver of the probability flow: each example takes the steps that it needs (Score SDE, section 4.3).

In which variable the flow is integrated decides how many steps it takes: here unit power and the angle φ of `angle`, by
Dormand and Prince's pair. Local error is held to atol + rtol |u|, root mean square over the dimensions of one example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from logsnr.angle import angle, log_power
from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.path import Path
from logsnr.samplers.dormand_prince import ExhaustedError, dormand_prince
from logsnr.samplers.loop import Sampler, Step


class Adaptive(Sampler):
    """Dormand–Prince 5(4) from t to s, up or down, within one step. rtol, atol: of u, whose power is 1.

    ValueError when an example needs more than `most_steps` attempts.
    """

    order = None  # the error follows the tolerance, not the grid
    scale_free = True
    stochastic = False

    def __init__(self, path: Path, rtol: float = 1e-5, atol: float = 1e-5, most_steps: int = 10_000) -> None:
        if not (rtol >= 0 and atol >= 0 and rtol + atol > 0 and most_steps >= 1):
            raise ValueError(f"rtol={rtol}, atol={atol}, most_steps={most_steps}; allowed: >= 0, not both 0, >= 1")
        self.path, self.rtol, self.atol, self.most_steps = path, rtol, atol, most_steps

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        def velocity(u: Tensor, level: Level) -> Tensor:
            power = over(log_power(level).exp(), u)
            return model(power * u, level).v / power

        prediction, power = model(x, t), over(log_power(t).exp(), x)
        u, k, ends = x / power, prediction.v / power, (angle(t), angle(s))
        try:
            u, count = dormand_prince(velocity, u, k, ends, self.path, self._in_tolerances, self.most_steps)
        except ExhaustedError as error:
            raise ValueError(
                f"adaptive: {error} rtol={self.rtol}, atol={self.atol}; allowed: larger ones, or a larger most_steps"
            ) from None
        x = over(log_power(s).exp(), u) * u
        return Step(x, x, prediction, s, count)

    def _in_tolerances(self, error: Tensor, before: Tensor, after: Tensor) -> Tensor:
        allowed = self.atol + self.rtol * before.abs().maximum(after.abs())
        return (error / allowed).reshape(len(error), -1).pow(2).mean(1).sqrt().cpu().double()
