"""Weights of the noise error that belong to the steps of a chain: DDIM's L_γ with any γ_t, and the γ_t of a bound.

    L_γ(ε̂) = Σ_t γ_t E |ε − ε̂(x_t)|²                                          M3; DDIM, eq. 5

Theorem 1: for every σ the variational bound J_σ of DDIM's family is L_γ with some γ(σ), plus a constant. Hence, when
the steps share no parameters, all weights have one optimum and one training serves every sampler. (This γ_t is a
weight; in the rest of the library γ is −log SNR.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from logsnr.implicit import noise_weight
from logsnr.kernels import posterior_log_var
from logsnr.level import Level
from logsnr.path import Path


def table(path: Path, level: Level, *, values: Sequence[float] = (1.0,)) -> Tensor:
    """γ_t from a list over t: values[i] on the i-th of len(values) equal intervals of (0, 1], T of them for one a step.

    ValueError for an empty list or a number that is not finite and >= 0.
    """
    try:
        weights = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError):
        weights = torch.empty(0)
    if weights.ndim != 1 or not len(weights) or not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(f"weight 'table' with values {values}; allowed: a list of finite numbers >= 0")
    # a knot i/T is the end of its interval, and is rounded: 1e-9 keeps it there
    place = torch.ceil(level.t * len(weights) - 1e-9).clamp(min=1)
    return weights[place.long() - 1]


def ddim(path: Path, level: Level, *, eta: float = 1.0) -> Tensor:
    """γ_t of Theorem 1 for σ(η) on the chain of a table's T knots, `implicit.noise_weight`.

    J_σ = T · D · E[loss] + constant, as the loss is a mean over t and over the D dimensions. At η = 1 it is the bound's
    weight with the small variance, β_t²/(2 β̃_t (1 − β_t)(1 − ᾱ_t)) (D7). ValueError without a table, or for η = 0.
    """
    steps = path.schedule.steps
    if not steps:
        raise ValueError("weight 'ddim' is of a chain of T steps and this schedule is continuous; allowed: likelihood")
    # times of the knots below, exactly those of the table: i/T − 1/T would be another float
    below = path.at((level.t * steps - 1).round().clamp(min=0) / steps)
    floor = posterior_log_var(path.at(2 / steps), path.at(1 / steps))
    return noise_weight(level, below, eta, floor)
