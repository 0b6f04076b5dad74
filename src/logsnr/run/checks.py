"""What is wrong with a configuration, said before anything is built or written: one line, with what to use instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from logsnr import nets
from logsnr.config import RunConfig
from logsnr.data.transform import Lattice
from logsnr.denoiser import INPUTS, LABELS
from logsnr.draws import Draws
from logsnr.kernels import named_rule
from logsnr.objectives import OBJECTIVES, WEIGHTS
from logsnr.path import Path
from logsnr.prediction import TARGETS, determinant
from logsnr.records import Part
from logsnr.registry import lookup
from logsnr.run import build
from logsnr.run.generate import first_step


def network(record: Mapping[str, Any]) -> None:
    """ValueError if the record describes no network that can be built; nothing is allocated."""
    try:
        with torch.device("meta"):
            nets.construct(record)
    except (TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"network {record.get('network')!r} cannot be built of its options: {error}") from None


@torch.no_grad()
def check(config: RunConfig, lattice: Lattice | None) -> None:
    """ValueError if some part of the configuration cannot be built, without building the network."""
    process = build.path(config)
    target = build.bind(TARGETS, config.target, "target")
    build.bind(INPUTS, config.inputs, "inputs")(process.highest)
    _check_ends(config, process)
    objective = build.make(OBJECTIVES, config.objective.loss, "loss", build.setting(config, process, lattice))
    if named_rule(config.variance).spread and not objective.teaches_spread:
        raise ValueError(
            f"variance {config.variance!r} is learned and loss {config.objective.loss.name!r} does not teach it; "
            "allowed: the loss hybrid or vlb, or variance small or large"
        )
    if config.objective.weight != Part("simple") and not objective.weighs:
        raise ValueError(
            f"weight {config.objective.weight.name!r} with loss {config.objective.loss.name!r}, which has its own; "
            "allowed: weight simple (none), or the loss matching"
        )
    if len(objective.times.draw(Draws(0, 0, torch.arange(64), 64)).t.unique()) == 1:
        raise ValueError(
            f"times {config.objective.times.name!r} with {config.objective.times.options} draws one level of this "
            "schedule; allowed: options that reach its levels"
        )
    build.bound(config, process, lattice)
    grid = build.own_grid(config, process)
    if len(grid) > 2:
        part = build.sampler_part(config.sample.sampler, config.variance, config.sample.steps)
        first_step(build.sampler(part, process), grid)
    if float(determinant(process.highest, target(process.highest))) == 0:
        raise ValueError(
            f"target {config.target.name!r} says nothing of x0 at pure noise (zero terminal SNR); allowed: x0, v, "
            "velocity, edm, or a schedule that ends before it"
        )


def _check_ends(config: RunConfig, process: Path) -> None:
    """ValueError if level, label or weight is no number that a run can use at either end of the path."""
    weight = build.bind(WEIGHTS, config.objective.weight, "weight", 2)
    label = lookup(LABELS, config.label, "label")
    for level in (process.lowest, process.highest):
        if not torch.stack([level.alpha, level.sigma]).float().isfinite().all():
            raise ValueError(
                f"γ = {float(level.gamma):.6g} on scale {config.scale!r} is σ = {float(level.sigma):.3g}; "
                "allowed: what float32 holds"
            )
        if torch.isneginf(level.gamma):
            raise ValueError(
                f"the lowest level of schedule {config.schedule.name!r} is clean; allowed: a t_min above 0"
            )
        if not label(process, level).isfinite():
            raise ValueError(f"label {config.label!r} is infinite at γ = {float(level.gamma):.6g}; allowed: time, none")
        value = weight(process, process.within(level))
        if not (value.float().isfinite() and value >= 0):
            part = config.objective.weight
            raise ValueError(
                f"weight {part.name!r} with {part.options} is {float(value):.3g} at γ = {float(level.gamma):.6g}; "
                "allowed: finite weights, at least 0"
            )
    inside = process.within(process.at(torch.linspace(process.schedule.t_min, 1, 101, dtype=torch.float64)))
    if process.schedule.steps is None and not (weight(process, inside) > 0).any():
        raise ValueError(
            f"weight {config.objective.weight.name!r} is 0 everywhere; allowed: one that teaches something"
        )
