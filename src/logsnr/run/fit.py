"""The variance-minimising schedule of a trained run, after the training (`likelihood.continuous`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import torch
from torch import Tensor

from logsnr.data import Dataset
from logsnr.files import whole
from logsnr.likelihood import fitted_schedule, vlb_inf
from logsnr.likelihood.audit import Records
from logsnr.likelihood.continuous import BINS, ends
from logsnr.path import Path
from logsnr.records import json_text, read_yaml
from logsnr.run.trained import Trained
from logsnr.schedules import NoiseSchedule, time_of
from logsnr.train import checkpoint

FILE = "schedule.json"
PILOT_DRAWS = 4096
FEWEST_DRAWS = 2 * BINS  # a half of them is fitted, the other judges


@dataclass(frozen=True)
class Fit:
    """knots: (t, γ) of the schedule. record: what a file says. pilot: the draws it was made of."""

    knots: list[tuple[float, float]]
    record: dict[str, Any]
    pilot: Records


def fit(
    trained: Trained,
    data: Dataset,
    *,
    draws: int = PILOT_DRAWS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda examples: None,
) -> Fit:
    """Fit on `draws` evaluations of the network on examples of `data`, drawn in linear times.

    Not on the data that will be audited: an estimate is unbiased whatever schedule it was given, unless that schedule
    knows its noise.
    """
    path, lattice = trained.model.path, trained.transform.lattice
    low, high = ends(path)
    count = min(len(data), draws)
    linear = vlb_inf(path, trained.config.variance, lattice, times="linear")
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    pilot = trained.records(
        data,
        {"pilot": linear},
        seed=seed,
        repeats=-(-draws // count),
        index=chosen.sort().values.tolist(),
        advance=advance,
    )["pilot"]
    gamma, nats = pilot.gamma.flatten(), pilot.nats.flatten()
    schedule = fitted_schedule(gamma, nats, low, high)
    knots = list(zip(schedule.times.tolist(), schedule.gammas.tolist(), strict=True))
    record = {
        "kind": "logsnr-schedule-1",
        "checkpoint_sha256": checkpoint.fingerprint(trained.source),
        "weights": trained.weights,
        "data": {"source": data.source, "split": data.split, "fingerprint": data.fingerprint, "examples": count},
        "seed": seed,
        "evaluations": int(pilot.evaluations.sum()),
        "variance_nats2_of_one_draw": variances(trained.model.path, gamma, nats),
        "knots": knots,
    }
    return Fit(knots, record, pilot)


@torch.no_grad()
def variances(path: Path, gamma: Tensor, nats: Tensor) -> dict[str, float | None]:
    """Var of one draw of the diffusion term at an independent time, under linear, the path's own and the fitted γ(t).

    From draws (n,) at linear times: a draw at γ under density 1/γ′ is nats · γ′/(γ₁ − γ₀), its square weighted by the
    density. A fit is calm on the very draws that made it; each half is judged by the fit of the other.
    """
    low, high = ends(path)
    mean = float(nats.mean())

    def squares(schedule: NoiseSchedule, rows: slice) -> Tensor:
        t = time_of(schedule, gamma[rows]).clamp(1e-9, 1 - 1e-9)
        slope = torch.func.jvp(schedule, (t,), (torch.ones_like(t),))[1]
        return nats[rows] ** 2 * slope * (1 - schedule.t_min) / (high - low)

    halves = slice(0, None, 2), slice(1, None, 2)
    fits = [fitted_schedule(gamma[rows], nats[rows], low, high) for rows in halves]
    judged = torch.cat([squares(fit, rows) for fit, rows in zip(fits, reversed(halves), strict=True)])
    continuous = not path.schedule.steps and float(path.highest.gamma) <= high
    return {
        "linear": float((nats**2).mean()) - mean**2,
        "own": float(squares(path.schedule, slice(None)).mean()) - mean**2 if continuous else None,
        "fitted": float(judged.mean()) - mean**2,
    }


def save(fit: Fit, path: File) -> None:
    """Write the record, whole or not at all."""
    with whole(path) as fresh:
        fresh.write_text(json_text(fit.record))


def knots_for(trained: Trained, path: File) -> list[tuple[float, float]]:
    """The knots of a file. ValueError if it is none, or of another checkpoint or other weights."""
    record = read_yaml(path.read_text(), str(path))
    if not isinstance(record, dict) or record.get("kind") != "logsnr-schedule-1":
        raise ValueError(f"{path} is no schedule; allowed: what fit-schedule wrote")
    here = {"checkpoint_sha256": checkpoint.fingerprint(trained.source), "weights": trained.weights}
    for key, value in here.items():
        if record[key] != value:
            raise ValueError(f"{path} was fitted to {key} {str(record[key])[:12]}, and this is {str(value)[:12]}")
    return [(float(t), float(gamma)) for t, gamma in record["knots"]]
