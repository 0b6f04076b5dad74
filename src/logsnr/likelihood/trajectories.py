"""Whole trajectories of a discrete chain and their weights.

    log w = log p(x_T)/q(x_T|x0) + Σ_{t → s} log p(x_s|x_t)/q(x_s|x_t, x0) + log p(x0 | x_last),   x_{1:T} ~ q(· | x0)

Its mean is minus the bound of the chain (D3), E[w] is p(x0): K of them are the importance-weighted bound iwae(K).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.decoders import Decoder, gaussian_density, softmax
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import Floored, Normal, Rule, named_rule, posterior, reverse
from logsnr.level import Level, over
from logsnr.likelihood.bound import STEPS
from logsnr.likelihood.estimate import Estimate
from logsnr.likelihood.importance import tightened
from logsnr.path import Path
from logsnr.terms import last_step


def log_ratio(p: Normal, q: Normal, noise: Tensor) -> Tensor:
    """log p(x)/q(x) at x = q's mean + std · noise (B, *), in nats, (B,): no difference of large numbers."""
    off = (q.mean - p.mean) * torch.exp(-0.5 * p.log_var)
    wider = q.log_var - p.log_var
    squares = off * (off + 2 * torch.exp(0.5 * wider) * noise) + torch.expm1(wider) * noise**2
    return (0.5 * (wider - squares)).reshape(len(noise), -1).sum(1)


@dataclass(frozen=True)
class Trajectories:
    """iwae(K) of the chain on `grid` (S + 1,), which ends clean or at the lowest level; K · S evaluations an example.

    rule: the reverse variance, floored on the grid. decoder: of p(x0 | x_last) where the grid ends clean, else of
    x_last/α with variance e^γ, as VDM has it.
    """

    grid: Level
    prior_std: float
    rule: Rule | Floored
    decoder: Decoder
    count: int

    @property
    def name(self) -> str:
        """iwae(K) of the bound it tightens."""
        return f"iwae({self.count}) of vlb({len(self.grid) - 1})"

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """S and K."""
        return {"steps": len(self.grid) - 1, "draws": self.count}

    def estimate(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Estimate:
        """x0: (B, *) in model units."""
        return tightened([self.once(model, x0, draws, k, **condition) for k in range(self.count)])

    def once(self, model: Model, x0: Tensor, draws: Draws, k: int, **condition: Tensor) -> Estimate:
        """One trajectory: parts sum to −log w."""
        highest, noise = self.grid[0], draws.normal(f"trajectory/{k}", x0)
        q = Normal(over(highest.alpha, x0) * x0, over(2 * highest.log_sigma, x0))
        prior = Normal(torch.zeros_like(x0), torch.full_like(q.log_var, self.prior_std).log() * 2)
        parts, x = {"prior": -log_ratio(prior, q, noise).double()}, q.sample(noise)
        nats, gamma = list[Tensor](), list[Tensor]()
        steps = len(self.grid) - 1
        for i in range(steps):
            t, s = self.grid[i].repeat(len(x0)), self.grid[i + 1].repeat(len(x0))
            p = reverse(model(x, t, **condition), s, self.rule)
            if s.is_clean:
                parts["reconstruction"] = -self.decoder(x0, p).double()
                continue
            q, noise = posterior(x, x0, t, s), draws.normal(f"trajectory/{k}/{i}", x0)
            nats.append(-log_ratio(p, q, noise).double())
            gamma.append(0.5 * (t.gamma + s.gamma))
            x = q.sample(noise)
        last = self.grid[-1]
        if not last.is_clean:
            log_var = over(last.gamma, x0)
            parts["reconstruction"] = -self.decoder(x0, Normal(x / over(last.alpha, x0), log_var)).double()
        rows = [torch.stack(columns, 1).cpu() for columns in (gamma, nats)]
        parts["diffusion"] = rows[1].sum(1)
        parts = {name: part.cpu() for name, part in parts.items()}
        return Estimate(parts, torch.full((len(x0),), steps), rows[0], rows[1])


def chain_trajectories(
    path: Path, variance: str, lattice: Lattice | None, *, draws: int = 8, steps: int | None = None
) -> Trajectories:
    """iwae(draws) of the chain that ends clean: all T of a table, else 1000 steps, unless told otherwise."""
    grid = path.grid((path.schedule.steps or STEPS) if steps is None else steps)
    return Trajectories(grid, path.prior_std, *last_step(grid, variance, lattice), _positive(draws))


def vdm_trajectories(
    path: Path, variance: str, lattice: Lattice | None, *, draws: int = 8, steps: int | None = None
) -> Trajectories:
    """iwae(draws) of VDM's chain, which ends at the lowest level with a decoder of its own; 1000 steps unless told."""
    grid = path.grid(STEPS if steps is None else steps, "lowest")
    decoder = gaussian_density if lattice is None else softmax(lattice)
    return Trajectories(grid, path.prior_std, named_rule(variance), decoder, _positive(draws))


def _positive(draws: int) -> int:
    if draws < 1:
        raise ValueError(f"draws = {draws} trajectories; allowed: at least 1")
    return draws
