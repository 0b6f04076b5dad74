"""Multistep exponential integrators for the probability flow, in log-SNR, of order 1 to 4.

With p = α/σ = e^{λ}, λ = −γ/2, the flow is d(x/σ) = x̂0 dp in the units of every path, so that

    x_s = (σ_s/σ_t) x_t + σ_s ∫_{p_t}^{p_s} x̂0 dp        (DPM-Solver++, eq. 8, where dp = e^λ dλ)

is exact, and a solver is a guess of x̂0 along the way: here the polynomial through the newest k values (Adams and
Bashforth), integrated exactly. k = 1 is DDIM. The polynomial is in r = σ/(α + σ) = 1/(1 + p), the time of the straight
path, rather than in λ: x̂0 is a smooth function of r up to both ends, whereas λ stretches the levels at which x̂0 no
longer changes; with k = 2 and small steps the two agree (DPM-Solver++ 2M, up to the third order of the step).

`corrector`: once the model has been evaluated at the new level, the last step is made again with that value among the
nodes, which costs no evaluation and gains an order (UniPC, section 3.1). Without exact values to start from, the first
step has one node: it is what bounds the order of a whole chain, `started_order`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, evaluations

Node = tuple[Tensor, Tensor]  # r, shape (), and x̂0 there, (B, *)


@dataclass(frozen=True)
class Past:
    """The last step: it went from `start` at `level` to `moved`; x̂0 was known at `nodes`, newest first."""

    start: Tensor
    level: Level
    moved: Tensor
    nodes: tuple[Node, ...]


class Multistep(Sampler):
    """The solver above. order: k, values of x̂0 in the polynomial. corrector: remake each step with the new value.

    spacing: the grid it wants where the run does not say.
    """

    scale_free = True
    stochastic = False

    def __init__(self, order: int = 3, *, corrector: bool = False, spacing: str | None = None) -> None:
        if order not in (1, 2, 3, 4):
            raise ValueError(f"order = {order}; allowed: 1, 2, 3, 4")
        self.count, self.corrector, self.spacing = order, corrector, spacing
        self.order = order + corrector
        self.started_order = min(self.order, 2 + corrector)

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        known = memory.nodes if memory else ()
        new = (straight_time(t.gamma), prediction.x0)
        if self.corrector and memory and memory.moved is x:  # a state that somebody else has moved is taken as it is
            x = advance(memory.start, memory.level, t, (new, *known))
        nodes = (new, *known)[: self.count]
        moved = advance(x, t, s, nodes)
        return Step(moved, moved, prediction, s, evaluations(x, 1), Past(x, t, moved, nodes))


def auto(steps: int = 20) -> Multistep:
    """Sampler and grid by budget, for any model: with few evaluations high orders extrapolate too far.

    steps: S, the evaluations. Chosen on Gaussian mixtures, see `benchmarks/samplers.py` and docs/choose-a-sampler.md.
    """
    return Multistep(2 if steps < 10 else 3 if steps < 14 else 4, corrector=True, spacing="auto")


def straight_time(gamma: Tensor) -> Tensor:
    """r = σ/(α + σ): 0 at the clean level, 1 at pure noise."""
    return torch.sigmoid(0.5 * gamma)


def advance(x: Tensor, t: Level, s: Level, nodes: Sequence[Node]) -> Tensor:
    """(σ_s/σ_t) x + σ_s ∫ x̂0 dp from t to s, either way, for the polynomial of x̂0 in r through `nodes`."""
    shares = integrals(t.gamma, s.gamma, [r for r, _ in nodes])
    length = integral_length(t, s)
    moved = over(torch.exp(s.log_sigma - t.log_sigma), x) * x
    for share, (_, x0) in zip(shares, nodes, strict=True):
        moved = moved + over(length * share, x) * x0
    return moved


def integral_length(t: Level, s: Level) -> Tensor:
    """σ_s (p_s − p_t) from the difference of γ, finite with pure noise at either end."""
    half = 0.5 * (s.gamma - t.gamma).abs()
    outer = torch.where(s.gamma < t.gamma, s.log_alpha, s.log_sigma + t.log_alpha - t.log_sigma).exp()
    return outer * torch.where(s.gamma < t.gamma, -torch.expm1(-half), torch.expm1(-half))


@cache
def _rule() -> tuple[Tensor, Tensor]:
    """Gauss–Legendre on [0, 1]: beyond 30 points nothing changes for steps up to 4 in λ."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def integrals(gamma_t: Tensor, gamma_s: Tensor, nodes: Sequence[Tensor]) -> list[Tensor]:
    """Mean over p between the two levels of each Lagrange polynomial in r through `nodes`; they sum to 1."""
    places, weights = (part.to(gamma_t) for part in _rule())
    low, high = torch.minimum(gamma_t, gamma_s), torch.maximum(gamma_t, gamma_s)
    # p/p_max is uniform on [e^{−|Δλ|}, 1]
    share = 1 + torch.expm1(0.5 * (low - high)) * places
    r = straight_time(low - 2 * share.log())
    values = []
    for i, own in enumerate(nodes):
        polynomial = weights
        for j, other in enumerate(nodes):
            if i != j:
                polynomial = polynomial * (r - other) / (own - other)
        values.append(polynomial.sum())
    return values
