"""Sliced score matching on simulated data: how the score of any process is trained (S5, N5).

    L = E_t λ(t) E_{x_t, v} [ vᵀ∇(vᵀs) + ½|s|² ],     λ(t) = (2/D) ∫₀ᵗ g²

λ is the noise variance of the process without its drift, so that the loss is of order one at every t, as `Sliced` is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from logsnr.draws import Draws
from logsnr.level import over
from logsnr.loss import Loss
from logsnr.objectives.sliced import PROJECTIONS, sliced_score_matching
from logsnr.process import Process
from logsnr.registry import lookup

Equilibrium = Callable[[Tensor], Tensor]


class ProcessScore(nn.Module):
    """s(x, t) = s_∞(x) − network(x, 999 t)/√∫₀ᵗ g²: a network of order one for a score that grows towards the data.

    equilibrium: s_∞, the score of the law that the process tends to, where it is known. The network then learns
    ∇log p_t/p_∞, which fades with t, and the reverse SDE keeps the pull of s_∞ where the network has seen no data.
    """

    def __init__(self, network: nn.Module, process: Process, equilibrium: Equilibrium | None = None) -> None:
        super().__init__()
        self.network, self.process, self.equilibrium = network, process, equilibrium

    def forward(self, x: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """x: (B, *); t: (B,) float64."""
        answer: Tensor = self.network(x, (999 * t).to(x), **condition)
        learned = over(-1 / self.process.noise_std(t), x) * answer
        return learned if self.equilibrium is None else self.equilibrium(x) + learned


class Simulated(nn.Module):
    """(score, x0, draws) → Loss on x_t simulated from x0, at times of `process.times` of a stratified uniform u."""

    def __init__(self, process: Process, projections: str = "rademacher", count: int = 1) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count = {count} projections an example; allowed: at least 1")
        self.process, self.count = process, count
        self.project = lookup(PROJECTIONS, projections, "projection")

    def forward(self, score: nn.Module, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. score: (x, t) → (B, *)."""
        t = self.process.times(draws.stratified("t"))
        x = self.process.simulate(x0, t, draws)
        vectors = torch.stack([self.project(draws.normal(f"projection/{i}", x0)) for i in range(self.count)])
        terms = sliced_score_matching(lambda y: score(y, t, **condition), x, vectors)
        weight = (2 / x0[0].numel() * self.process.noise_std(t) ** 2).to(x0)
        parts: Mapping[str, Tensor] = {name: weight * term for name, term in terms._asdict().items()}
        total = weight * (terms.trace + terms.norm)
        return Loss(total, parts, t, total.detach())
