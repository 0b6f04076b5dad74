"""Metropolis-adjusted Langevin dynamics (MALA): a step that may be refused keeps the law exactly, however long it is.

    y = x + ε s(x) + √(2ε) z,    accepted with probability min(1, p(y) q(x|y) / p(x) q(y|x))

(Roberts and Tweedie 1996). Without the refusal the stationary law of Langevin dynamics is off by O(ε). The price is the
density, up to a constant, which an energy has and a score alone has not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.level import over
from logsnr.samplers.langevin import langevin_step


def metropolis_step(
    x: Tensor,
    log_prob: Callable[[Tensor], Tensor],
    score: Callable[[Tensor], Tensor],
    step_size: Tensor,
    noise: Tensor,
    uniform: Tensor,
) -> tuple[Tensor, Tensor]:
    """The next x (B, *), and which examples moved (B,).

    log_prob: x → (B,), up to a constant. score: its gradient. step_size: ε, () or (B,), > 0. noise: normals (B, *).
    uniform: (B,) in (0, 1).
    """
    y, _ = langevin_step(x, score(x), step_size, noise)
    _, back = langevin_step(y, score(y), step_size, noise)
    there = -0.5 * (noise**2).flatten(1).sum(1)  # log q(y|x) and log q(x|y), but for the same constant
    again = -((x - back) ** 2).flatten(1).sum(1) / (4 * step_size).to(x)
    moved = uniform.log() < log_prob(y) - log_prob(x) + again - there
    return torch.where(over(moved, x) > 0, y, x), moved
