"""Weights of the squared noise error |ε − ε̂|² over noise levels, one function each.

They are defined once, on the ε error. The error of any other target is a known multiple of it ((Δ/α)² with the
determinant of `prediction`), so a weight means the same whatever the network predicts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.level import Level
from logsnr.path import Path

Weight = Callable[[Path, Level], Tensor]  # with any options bound


def simple(path: Path, level: Level) -> Tensor:
    """1: L_simple (DDPM, eq. 14)."""
    return torch.ones_like(level.gamma)


def likelihood(path: Path, level: Level) -> Tensor:
    """γ′: likelihood weighting, λ = g² on the score error (ScoreFlow, theorem 1), twice VDM's integrand (eq. 15).

    g² |ŝ − s|² = σ² γ′ |ε̂ − ε|²/σ², on every scale (F7).
    """
    return path.slope(level.t).gamma


WEIGHTS: dict[str, Callable[..., Tensor]] = {"simple": simple, "likelihood": likelihood}
