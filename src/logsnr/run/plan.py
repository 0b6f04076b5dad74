"""Planned steps of a trained run: chosen on examples of one split, measured on another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from logsnr.data import Dataset
from logsnr.decoders import Decoder
from logsnr.denoiser import Conditioned
from logsnr.draws import Draws
from logsnr.kernels import Floored
from logsnr.level import Level
from logsnr.likelihood import Bound
from logsnr.likelihood.audit import Units, figure
from logsnr.likelihood.plan import Plan, best_plan, term_means
from logsnr.records import read_yaml
from logsnr.run.trained import Trained
from logsnr.terms import last_step
from logsnr.train import checkpoint

KIND = "logsnr-plan-1"


def candidates(trained: Trained, count: int) -> Level:
    """`count` levels to choose from and the clean one: even in log-SNR, or the knots of a table that are nearest."""
    path = trained.model.path
    finite = bool(path.highest.gamma.isfinite())
    return path.grid(min(count, path.schedule.steps or count), "clean", "log_snr" if finite else "uniform")


@torch.inference_mode()
def terms(
    trained: Trained, data: Dataset, levels: Level, *, examples: int, seed: int, advance: Callable[[int], None]
) -> torch.Tensor:
    """`term_means` over the first `examples` of `data` in random order, in calls of the run's width."""
    data = trained.as_trained(data)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[: min(examples, len(data))]
    parts, total = order.split(trained.width), 0
    mean = torch.zeros(len(levels), len(levels), dtype=torch.float64)
    for rows in parts:
        x0, given = data.batch(rows.numpy())
        model = Conditioned(trained.model, {name: value.to(trained.machine.device) for name, value in given.items()})
        draws = Draws(seed, 0, rows, len(data))
        cost = term_means(model, levels, *rule(trained, levels), x0.to(trained.machine.device), draws)
        mean, total = mean + len(rows) * cost, total + len(rows)
        advance(len(rows))
    return mean / total


def rule(trained: Trained, levels: Level) -> tuple[Floored, Decoder]:
    """The run's reverse variance and decoder, floored on these levels."""
    return last_step(levels, trained.config.variance, trained.transform.lattice)


def measured(
    trained: Trained, data: Dataset, grid: Level, floor: Level, units: Units, *, seed: int, repeats: int
) -> dict[str, Any]:
    """The bound of the chain on a grid, its variance floored on the levels `floor`, over every example of `data`."""
    chain = Bound(grid, trained.model.path.prior_std, *rule(trained, floor))
    found = trained.records(data, {"chain": chain}, seed=seed, repeats=repeats)["chain"]
    return figure(found.total, units)


def grid_of(trained: Trained, record: dict[str, Any]) -> Level:
    """The levels of a plan. ValueError if it is none, or of another checkpoint."""
    if record.get("kind") != KIND:
        raise ValueError(f"no plan of steps: kind {record.get('kind')!r}; allowed: what plan-steps wrote")
    if record["checkpoint_sha256"] != checkpoint.fingerprint(trained.source):
        raise ValueError("the plan was made for another checkpoint; allowed: the run's own")
    return trained.model.path.at(torch.tensor(record["times"], dtype=torch.float64))


def read(path: Path) -> dict[str, Any]:
    """A plan's record. ValueError if the file holds none."""
    record = read_yaml(path.read_text(), str(path))
    if not isinstance(record, dict):
        raise ValueError(f"{path} is no plan of steps; allowed: what plan-steps wrote")
    return record


def planned(cost: torch.Tensor, levels: Level, steps: int) -> tuple[Plan, Level]:
    """The plan of so many steps and its levels."""
    plan = best_plan(cost, steps)
    return plan, levels[torch.tensor(plan.index)]
