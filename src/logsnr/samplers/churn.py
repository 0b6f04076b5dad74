"""Churn: raise the noise a little before a deterministic step, and then step from there (EDM, algorithm 2).

    σ̂ = (1 + c) σ̃,   x ← x + √(σ̂² − σ̃²) S_noise ε        in units where α = 1, σ̃ = σ/α

with c = min(S_churn/N, √2 − 1) where S_min <= σ̃ <= S_max, else 0. With S_noise = 1 it is an exact step of the process
upwards, so the law of x stays the right one while errors made so far are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from logsnr.level import Level, over


@dataclass(frozen=True)
class Churn:
    """amount: S_churn, spread over `steps`. low, high: S_min, S_max in σ̃. noise_std: S_noise. ValueError if absurd."""

    amount: float = 0.0
    steps: int = 1
    low: float = 0.0
    high: float = math.inf
    noise_std: float = 1.0

    def __post_init__(self) -> None:
        if not (self.amount >= 0 and self.steps >= 1 and 0 <= self.low <= self.high and self.noise_std >= 0):
            raise ValueError(f"{self}; allowed: amount >= 0, steps >= 1, 0 <= low <= high, noise_std >= 0")

    def __call__(self, x: Tensor, t: Level, noise: Callable[[str], Tensor]) -> tuple[Tensor, Level]:
        """(x̂ in the units of t, the level σ̂ with the α of t); x and t as they are where there is no churn."""
        factor = min(self.amount / self.steps, math.sqrt(2) - 1)
        ratio = float(torch.exp(0.5 * t.gamma))
        if factor == 0 or not (self.low <= ratio <= self.high and math.isfinite(ratio)):
            return x, t
        rise = math.log1p(factor)
        raised = replace(t, gamma=t.gamma + 2 * rise, log_sigma=t.log_sigma + rise)
        added = torch.exp(t.log_sigma) * math.sqrt(math.expm1(2 * rise)) * self.noise_std
        return x + over(added, x) * noise("churn"), raised
