"""Which K steps lose least of the bound: dynamic programming over its terms (Watson, Ho, Norouzi and Chan 2021).

The bound of a chain is a sum over its steps, and the term L_{t→s} knows nothing of the other steps. So with the mean of
every L_{t→s} between M candidate levels, the best chain of k steps down to level j is the best of k − 1 steps down to
some level i above it, and the step i → j:

    C_k(j) = min_{i above j} C_{k−1}(i) + L_{i→j}.

One reading of the model at a level gives the terms down to all levels below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.decoders import Decoder
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import Floored
from logsnr.level import Level
from logsnr.terms import step_nats


@dataclass(frozen=True)
class Plan:
    """Indices of a chain's levels, (K + 1,), into the candidates, from the highest; nats: mean of its terms."""

    index: list[int]
    nats: float


def term_means(model: Model, candidates: Level, rule: Floored, decoder: Decoder, x0: Tensor, draws: Draws) -> Tensor:
    """Mean nats of L_{i→j} over x0 (B, *), (M + 1, M + 1) float64; ∞ for j not below i.

    candidates: (M + 1,) levels from the highest down to the clean one. rule: floored on all of them, since the floor of
    a plan of its own would make the last term know the one before. M evaluations of the model an example.
    """
    count = len(candidates)
    cost = torch.full((count, count), torch.inf, dtype=torch.float64)
    for i in range(count - 1):
        t = candidates[i].repeat(len(x0))
        prediction = model(t.perturb(x0, draws.normal(f"plan/{i}", x0)), t)
        for j in range(i + 1, count):
            nats = step_nats(prediction, x0, candidates[j].repeat(len(x0)), rule, decoder)
            cost[i, j] = float(nats.double().mean())
    return cost


def best_plan(cost: Tensor, steps: int) -> Plan:
    """The chain of `steps` steps from the first candidate to the last with the least sum. ValueError for too many."""
    count = len(cost)
    if not 1 <= steps < count:
        raise ValueError(f"{steps} steps between {count} candidate levels; allowed: 1 to {count - 1}")
    reached, came = cost[0].clone(), list[Tensor]()  # by one step
    for _ in range(steps - 1):
        least = (reached.unsqueeze(1) + cost).min(0)
        reached = least.values
        came.append(least.indices)
    index = [count - 1]
    for previous in reversed(came):
        index.append(int(previous[index[-1]]))
    return Plan([0, *reversed(index)], float(reached[-1]))
