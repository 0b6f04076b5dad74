"""The process as a stochastic differential equation dx = f(x, t) dt + g(t) dw, and what follows from its score.

For a path, f(x, t) = (log α)′ x and g² = dσ²/dt − 2 (log α)′ σ² = σ² γ′ (F7), the same two lines for every scale. A
`Dynamics` need not come from a path: any drift and diffusion will do, and then only what is written for a `Dynamics`
applies, since there is no closed-form level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.level import over
from logsnr.path import Path


@dataclass(frozen=True)
class Dynamics:
    """drift(x, t) → f of the shape of x (B, *); diffusion(t) → g of the shape of t, () or (B,)."""

    drift: Callable[[Tensor, Tensor], Tensor]
    diffusion: Callable[[Tensor], Tensor]


def dynamics(path: Path) -> Dynamics:
    """The SDE whose marginals are the levels of `path`: f = (log α)′ x, g = σ √γ′ (Score SDE, appendix B).

    At the clean level, where σ²γ′ is 0 · ∞, both are those of the lowest finite level.
    """

    def finite(t: Tensor) -> Tensor:
        return t.clamp(min=path.schedule.t_min)

    return Dynamics(
        drift=lambda x, t: over(path.slope(finite(t)).log_alpha, x) * x,
        diffusion=lambda t: path.at(finite(t)).sigma * torch.sqrt(path.slope(finite(t)).gamma),
    )


def reverse_drift(process: Dynamics, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """f − g² ∇log p_t, the drift of the reverse SDE, whose diffusion is g (S2; Anderson 1982). score, x: (B, *)."""
    return process.drift(x, t) - over(process.diffusion(t) ** 2, x) * score


def flow_drift(process: Dynamics, score: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """f − ½ g² ∇log p_t, the probability-flow ODE with the same marginals (S3). score, x: (B, *)."""
    return process.drift(x, t) - over(0.5 * process.diffusion(t) ** 2, x) * score


def euler_maruyama(
    process: Dynamics, score: Tensor | float, x: Tensor, t: Tensor, s: Tensor, eta: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(mean, std) of x at time s given x at time t, one step of Euler–Maruyama (S6; Score SDE, section 4.1).

        x + [f(x, t) − ½(1 + η²) g(t)² ŝ] (s − t),   η g(t) √|s − t|

    score, x: (B, *); t, s: times of shape () or (B,). Returns (B, *) and a std that multiplies it. In reverse time
    η = 1 is the reverse SDE and η = 0 the probability flow; with score 0 and s > t it is the process itself.
    """
    g = process.diffusion(t)
    drift = process.drift(x, t) - over(0.5 * (1 + eta**2) * g**2, x) * score
    return x + over(s - t, x) * drift, over(eta * g * (s - t).abs().sqrt(), x)
