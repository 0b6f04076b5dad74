"""An adaptive solver of the probability flow: each example takes the steps that it needs (Score SDE, section 4.3).

In which variable the flow is integrated decides how many steps it takes. Written with unit power, u = x/√(α² + σ²), and
in the angle φ = atan2(σ, α), every path is the same rotation

    u = cos φ x̂0 + sin φ ε̂,    du/dφ = cos φ ε̂ − sin φ x̂0 = v̂,

bounded at both ends (φ = π/2 is pure noise) and as smooth as the denoiser is. The method is Dormand and Prince's
5(4) pair (1980): six evaluations a step, the last of which is the first of the next. Local error is held to
atol + rtol |u|, root mean square over the dimensions of one example, and the step follows it by the fifth root.

Step sizes, acceptance and the number of evaluations belong to an example, never to its batch: an example that has
arrived is carried along unchanged (the network sees one width), and is not counted.
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

# Dormand and Prince 1980, table 2: nodes c, stages a; the last stage is the solution of order 5; b − b̂ of the pair
NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SAFETY, LEAST_FACTOR, MOST_FACTOR = 0.9, 0.2, 3.0
FIRST_STEP = 0.1  # radians


def _power(level: Level) -> Tensor:
    """√(α² + σ²)."""
    return torch.exp(0.5 * torch.logaddexp(2 * level.log_alpha, 2 * level.log_sigma))


def _angle(level: Level) -> Tensor:
    """φ, whatever the units."""
    return torch.atan2(level.sigma, level.alpha)


def _sum(coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Σ c k, in the order of the stages."""
    return sum((c * k for c, k in zip(coefficients[1:], slopes[1:], strict=True) if c), coefficients[0] * slopes[0])


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
        prediction = model(x, t)
        power = over(_power(t), x)
        u, slope = x / power, prediction.v / power
        angle, end = _angle(t).repeat(len(x)), _angle(s)
        sign = torch.sign(end - angle)
        size, count = torch.full_like(angle, FIRST_STEP), evaluations(x, 1)
        for _ in range(self.most_steps):
            left = (end - angle).abs()
            active = left > 0
            if not active.any():
                x = over(_power(s), u) * u
                return Step(x, x, prediction, s, count)
            last = size >= left
            h = sign * torch.where(last, left, size)
            arrived, new_slope, error = self._attempt(model, u, slope, angle, h)
            taken = active & (error <= 1)
            keep = over(taken, u).bool()
            u, slope = torch.where(keep, arrived, u), torch.where(keep, new_slope, slope)
            angle = torch.where(taken, torch.where(last, end, angle + h), angle)
            most = torch.where(taken, MOST_FACTOR, 1.0)
            size = h.abs() * torch.minimum(most, (SAFETY * error**-0.2).clamp(LEAST_FACTOR, MOST_FACTOR))
            count = count + len(STAGES) * active.to(count)
        raise ValueError(
            f"adaptive: {self.most_steps} attempts did not reach rtol={self.rtol}, atol={self.atol}; allowed: larger "
            "ones, or a larger most_steps"
        )

    def _attempt(
        self, model: Model, u: Tensor, slope: Tensor, angle: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """u and its slope after steps h (B,), and the error of each example in tolerances (B,)."""
        angles = (angle + torch.tensor(NODES, dtype=h.dtype).unsqueeze(1) * h).flatten()
        levels = self._levels(angles)  # of all stages at once
        slopes, step, arrived = [slope], over(h, u), u
        for i, row in enumerate(STAGES):
            arrived = u + step * _sum(row, slopes)
            level = levels[i * len(h) : (i + 1) * len(h)]
            power = over(_power(level), u)
            slopes.append(model(power * arrived, level).v / power)
        allowed = self.atol + self.rtol * torch.maximum(u.abs(), arrived.abs())
        ratio = (step * _sum(ERROR, slopes) / allowed).reshape(len(u), -1)
        return arrived, slopes[-1], ratio.pow(2).mean(1).sqrt().cpu().double()

    def _levels(self, angle: Tensor) -> Level:
        """Levels of the path at angles φ (N,)."""
        gamma = 2 * (torch.log(torch.sin(angle)) - torch.log(torch.cos(angle)))
        return self.path.at(self.path.time_of(gamma))
