"""Dormand and Prince's 5(4) pair (1980), each example with steps of its own.

Six evaluations a step, the last of which is the first of the next. Step sizes, acceptance and the number of evaluations
belong to an example, never to its batch: an example that has arrived is carried along unchanged (the network sees one
width), and is not counted. The step follows the error, in tolerances, by its fifth root.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.angle import at_angle
from logsnr.level import Level, over
from logsnr.path import Path

# table 2 of the paper: nodes c, stages a; the last stage is the solution of order 5; b − b̂ of the pair
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

Slope = Callable[[Tensor, Level], Tensor]
Norm = Callable[[Tensor, Tensor, Tensor], Tensor]


class ExhaustedError(ArithmeticError):
    """So many attempts did not reach the end."""


def dormand_prince(
    slope: Slope,
    y: Tensor,
    k: Tensor,
    ends: tuple[Tensor, Tensor],
    path: Path,
    norm: Norm,
    most_steps: int,
    watch: Callable[[Tensor, Tensor, Tensor, Tensor], None] = lambda phi, h, travel, ratio: None,
) -> tuple[Tensor, Tensor]:
    """(y at the last angle, evaluations (B,)) of dy/dφ = slope(y, level), y (B, *), whose first slope is k.

    ends: the first angle and the last, each () float64. norm: (error of a step, y before, y after) → (B,) float64 in
    tolerances, at most 1 of a step that is taken. watch: is told where each step starts and its length (B,), what it
    added to y, and its norm (B,), the last two 0 where it was not taken. The first slope is counted. ExhaustedError
    after `most_steps` attempts.
    """
    phi, sign = ends[0].expand(len(y)), torch.sign(ends[1] - ends[0])
    size, count = torch.full_like(phi, FIRST_STEP), torch.ones(len(y), dtype=torch.int64)
    for _ in range(most_steps):
        left = (ends[1] - phi).abs()
        active = left > 0
        if not active.any():
            return y, count
        last = size >= left
        h = sign * torch.where(last, left, size)
        after, slopes = _stages(slope, path, y, k, phi, h)
        ratio = norm(over(h, y) * _sum(ERROR, slopes), y, after)
        taken = active & (ratio <= 1)
        keep = over(taken, y).bool()
        watch(phi, h, torch.where(keep, after - y, 0.0), torch.where(taken, ratio, 0.0))
        y, k = torch.where(keep, after, y), torch.where(keep, slopes[-1], k)
        phi = torch.where(taken, torch.where(last, ends[1], phi + h), phi)
        most = torch.where(taken, MOST_FACTOR, 1.0)
        size = h.abs() * torch.minimum(most, (SAFETY * ratio**-0.2).clamp(LEAST_FACTOR, MOST_FACTOR))
        count = count + len(STAGES) * active.to(count)
    raise ExhaustedError(f"{most_steps} attempts did not reach the tolerance")


def _stages(slope: Slope, path: Path, y: Tensor, k: Tensor, phi: Tensor, h: Tensor) -> tuple[Tensor, list[Tensor]]:
    """y after steps h (B,), and the slopes of the seven stages."""
    slopes, step, after = [k], over(h, y), y
    for node, row in zip(NODES, STAGES, strict=True):
        after = y + step * _sum(row, slopes)
        slopes.append(slope(after, at_angle(path, phi + node * h)))
    return after, slopes


def _sum(coefficients: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """Σ c k, in the order of the stages."""
    return sum((c * k for c, k in zip(coefficients[1:], slopes[1:], strict=True) if c), coefficients[0] * slopes[0])
