"""Correctors: Langevin steps at one level, with a step size that suits it (S7; Score SDE, algorithms 4 and 5).

    x ← x + ε ŝ + √(2ε) z

    langevin   ε = 2a (r ‖z‖/‖ŝ‖)²      noise and score of an example are in the ratio r
    annealed   ε = 2a (r σ_t)²          the same with the expected norms, ‖z‖/‖ŝ‖ ≈ σ_t

r is the signal-to-noise ratio and a = α²_{t|s} of the current grid step: 1 on the ve scale, 1 − β_i on DDPM's chain. It
is not the signal scale α_t².

A step size that looks at the score makes steps longer where the score is small, which biases the stationary law by
O(1/D); the annealed one does not.

The original programs take the mean of ‖z‖ and of ‖ŝ‖ over the batch, so that an example depends on its neighbours.
Here each example has its own norms; norm "batch" is for comparison with published runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.level import Level

NORMS = ("example", "batch")

StepSize = Callable[[Tensor, Tensor, Level, Level], Tensor]  # (score, noise, t, s) → ε, () or (B,)


def kept_power(t: Level, s: Level) -> Tensor:
    """a = α²_{t|s}, the part of the signal's power that the step from s to t keeps; () or (B,)."""
    return torch.exp(2 * (t.log_alpha - s.log_alpha))


def _checked(snr: float) -> None:
    if not snr > 0:
        raise ValueError(f"snr = {snr} of a corrector; allowed: above 0 (the paper's are 0.05 to 0.3)")


@dataclass(frozen=True)
class Langevin:
    """ε = 2a (r ‖z‖/‖ŝ‖)² (algorithms 4 and 5). snr: r. norm: "example", or "batch" for the means over the batch."""

    snr: float = 0.16
    norm: str = "example"

    def __post_init__(self) -> None:
        _checked(self.snr)
        if self.norm not in NORMS:
            raise ValueError(f"unknown norm {self.norm!r} of a corrector; known: {', '.join(NORMS)}")

    def __call__(self, score: Tensor, noise: Tensor, t: Level, s: Level) -> Tensor:
        norms = [torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in (noise, score)]
        of_noise, of_score = (norm.mean() if self.norm == "batch" else norm for norm in norms)
        return 2 * kept_power(t, s).to(score) * (self.snr * of_noise / of_score) ** 2


@dataclass(frozen=True)
class Annealed:
    """ε = 2a (r σ_t)² (annealed Langevin dynamics as a corrector, Score SDE's program). snr: r."""

    snr: float = 0.16

    def __post_init__(self) -> None:
        _checked(self.snr)

    def __call__(self, score: Tensor, noise: Tensor, t: Level, s: Level) -> Tensor:
        return 2 * kept_power(t, s) * (self.snr * t.sigma) ** 2


CORRECTORS: dict[str, Callable[..., StepSize]] = {"langevin": Langevin, "annealed": Annealed}
