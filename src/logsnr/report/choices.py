"""What data asks of a recipe: NCSNv2's techniques, computed and written as the flags that apply them (N6)."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.config import RunConfig
from logsnr.data import Dataset
from logsnr.run import build
from logsnr.run.session import datasets
from logsnr.schedules import SCHEDULES
from logsnr.techniques import geometric_ratio, largest_distance, level_count, overlap, relative_step, variance_ratio

MOST_COMPARED = 4096
MOST_RATIO = 2.0  # in fewer than five dimensions every ratio overlaps
N_STEPS = 5  # Langevin steps a level where the recipe does not say: the paper's, for images


def choices(config: RunConfig) -> dict[str, Any]:
    """The figures for the data of a configuration, in model units and where α = 1; σ_min is the recipe's lowest level.

    `set` is a line of --set flags with what the recipe's schedule and sampler take.
    """
    data, path = datasets(config)[0], build.path(config)
    distance = largest_distance(_examples(data), len(data))
    sigma_min, dims = math.exp(0.5 * float(path.lowest.gamma)), math.prod(data.shape)
    most = min(geometric_ratio(dims), MOST_RATIO)
    levels = level_count(sigma_min, distance.value, most)
    ratio = (distance.value / sigma_min) ** (1 / (levels - 1))
    n_steps = int(config.sample.sampler.options.get("n_steps", N_STEPS))
    eta = relative_step(ratio, n_steps)
    found = {
        "sigma_max": _rounded(distance.value),
        "sigma_min": sigma_min,
        "num_diffusion_steps": levels,
        "n_steps": n_steps,
        "step_size": _rounded(eta * sigma_min**2),
    }
    return {
        "data": data.source,
        "dims": dims,
        "largest_distance": distance.value,
        "pairs_compared": distance.pairs,
        "all_pairs": distance.exact,
        "ratio_of_neighbouring_sigmas_at_most": most,
        "ratio_of_neighbouring_sigmas": ratio,
        "overlap_of_neighbouring_sigmas": overlap(ratio, dims),
        "levels": levels,
        "langevin_steps_per_level": n_steps,
        "langevin_step_size": found["step_size"],
        "langevin_step_size_in_ncsn_convention": 2 * found["step_size"],
        "langevin_relaxation_times_per_e_fold": eta * n_steps / math.log(ratio),
        "variance_after_langevin_over_sigma2": variance_ratio(eta, ratio, n_steps),
        "set": _flags(config, found),
    }


def _examples(data: Dataset) -> Tensor:
    """(N, D) in model units: all of them, or a sample of `MOST_COMPARED`."""
    rows = np.random.default_rng(0).permutation(len(data))[:MOST_COMPARED]
    return torch.flatten(data.batch(rows)[0], 1)


def _rounded(value: float) -> float:
    """Four significant digits: enough for a noise level, and readable."""
    return float(f"{value:.4g}")


def _flags(config: RunConfig, found: dict[str, Any]) -> str:
    """--set for every number that the recipe's schedule and sampler have a name for; a note where they have none."""
    schedule = inspect.signature(SCHEDULES[config.schedule.name]).parameters
    values = {f"schedule.{key}": found[key] for key in ("sigma_max", "num_diffusion_steps") if key in schedule}
    if config.sample.sampler.name == "annealed_langevin":
        values |= {f"sample.sampler.{key}": found[key] for key in ("n_steps", "step_size")}
        values["sample.steps"] = found["num_diffusion_steps"]
    if "sigma_max" not in schedule:
        return f"none: schedule {config.schedule.name!r} has no sigma_max; recipes with one: ncsn, ncsnv2"
    return " ".join(f"--set {key}={value}" for key, value in values.items())
