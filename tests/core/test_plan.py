"""Planned steps: dynamic programming against every subset, and predicted sums against measured bounds."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
import torch

from logsnr import Linear, Path, vp
from logsnr.data.toys import gaussian
from logsnr.draws import Draws
from logsnr.likelihood import Bound
from logsnr.likelihood.plan import best_plan, term_means
from logsnr.oracles import Oracle
from logsnr.terms import last_step

ORACLE = Oracle(gaussian(torch.tensor([0.5, -0.5]), torch.tensor([0.25, 0.04])))
PATH = Path(Linear(-7, 4), vp)


def random_costs(count: int) -> torch.Tensor:
    cost = torch.rand(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    return torch.where(torch.ones_like(cost).triu(1).bool(), cost, torch.inf)


@pytest.mark.parametrize("steps", range(1, 8))
def test_the_plan_is_the_best_of_all_subsets(steps: int) -> None:
    cost = random_costs(8)

    def total(chosen: tuple[int, ...]) -> float:
        index = [0, *chosen, 7]
        return sum(float(cost[a, b]) for a, b in pairwise(index))

    brute = min(combinations(range(1, 7), steps - 1), key=total)
    plan = best_plan(cost, steps)
    assert plan.index == [0, *brute, 7]
    assert plan.nats == pytest.approx(total(brute))


def test_what_is_predicted_is_measured_and_no_other_grid_of_the_candidates_is_better() -> None:
    levels, count, steps = PATH.grid(24, "clean", "log_snr"), 20_000, 5
    x0 = ORACLE.law.sample(count, 1)
    parts = last_step(levels, "small", None)
    cost = term_means(ORACLE, levels, *parts, x0, Draws(0, 0, torch.arange(count), count))
    plan = best_plan(cost, steps)
    grid = levels[torch.tensor(plan.index)]
    fresh = ORACLE.law.sample(count, 2)
    curve = Bound(grid, 1.0, *parts).curve(ORACLE, fresh, Draws(5, 0, torch.arange(count), count)).sum(1)
    assert abs(float(curve.mean()) - plan.nats) < 3 * math.sqrt(2) * float(curve.std()) / math.sqrt(count)
    every_fifth = [0, 5, 10, 15, 20, 24]
    assert sum(float(cost[a, b]) for a, b in pairwise(every_fifth)) > plan.nats
    sums = [best_plan(cost, k).nats for k in range(2, 24)]
    assert all(more <= less + 0.02 for less, more in pairwise(sums))


def test_more_steps_than_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="8 steps between 8 candidate levels; allowed: 1 to 7"):
        best_plan(random_costs(8), 8)
