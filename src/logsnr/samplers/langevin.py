"""Langevin dynamics: x ← x + ε ŝ + √(2ε) z, whose stationary law is the one whose score is ŝ (N3, S7).

One step serves all that is built on it: annealed Langevin dynamics, correctors, inpainting. Conventions differ by a
factor of two: NCSN steps x + (α_i/2) s + √α_i z, so its α_i is twice our ε; NCSNv2 and Score SDE write ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.level import over


def langevin_step(x: Tensor, score: Tensor, step_size: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(x + ε ŝ + √(2ε) z, its mean) for ε = step_size, () or (B,), >= 0. x, score, noise: (B, *)."""
    mean = x + over(step_size, x) * score
    return mean + over(torch.sqrt(2 * step_size), x) * noise, mean
