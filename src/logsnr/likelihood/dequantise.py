"""From a density to a probability of discrete data: noise q(u | x) that stays within the bin of x.

    −log P(x) = −log ∫_bin p(x + u) du <= E_q[ log q(u | x) − log p(x + u) ]    (Theis, van den Oord and Bethge 2016)

q is uniform over the bin, or the normal of standard deviation τ = σ/α of the lowest level, cut at the bin's edges: the
noise that the model saw in training, so that the bound loses next to nothing where τ is well within the bin (Zheng,
Lu, Chen and Zhu 2023, section 4). A model of lattice data is sharp about the lattice: under uniform noise it is asked
where it was never taught. A large τ makes both the same.

A dequantisation is a function (uniforms (B, *), bin width, τ) → (u, the shape of the uniforms, log q (B,) in nats).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Dequantisation = Callable[[Tensor, float, float], tuple[Tensor, Tensor]]


def uniform(numbers: Tensor, width: float, tau: float) -> tuple[Tensor, Tensor]:
    """u uniform over the bin, q = 1/width."""
    return width * (numbers - 0.5), torch.full(
        (len(numbers),), -numbers[0].numel() * math.log(width), dtype=torch.float64
    )


def truncated_normal(numbers: Tensor, width: float, tau: float) -> tuple[Tensor, Tensor]:
    """u normal of standard deviation τ within the bin, q = N(u; 0, τ²)/(Φ(w/2τ) − Φ(−w/2τ))."""
    beyond = torch.special.ndtr(torch.tensor(-0.5 * width / tau, dtype=torch.float64))
    z = torch.special.ndtri(beyond + numbers * (1 - 2 * beyond))
    log_q = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - math.log(tau) - torch.log1p(-2 * beyond)
    return tau * z, log_q.flatten(1).sum(1)


DEQUANTISATIONS: dict[str, Dequantisation] = {"truncated_normal": truncated_normal, "uniform": uniform}
