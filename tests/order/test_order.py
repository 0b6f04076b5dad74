"""Measured order of convergence of every sampler, between two finite levels, on several paths."""

from __future__ import annotations

import math
import os
from pathlib import Path as File

import numpy as np
import pytest
import torch

from logsnr.data.toys import mixture
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.samplers import Sampler, simulate
from logsnr.scales import SCALES
from logsnr.schedules import BetaLinear, Cosine, Linear, geometric

from .instances import INSTANCES
from .response import law_error, state_error

torch.set_num_threads(1)

PATHS = {
    "vp beta-linear": lambda: Path(BetaLinear(), SCALES["vp"]),
    "sub_vp beta-linear": lambda: Path(BetaLinear(scale="sub_vp"), SCALES["sub_vp"]),
    "ve geometric": lambda: Path(geometric(0.01, 50), SCALES["ve"]),
    "straight": lambda: Path(Linear(-8, 8), SCALES["straight"]),
    "vp cosine": lambda: Path(Cosine(), SCALES["vp"]),
}
STEPS = (6, 12, 24, 48, 96)
MORE_STEPS = (*STEPS, 192)  # high orders show late
ROUND_OFF = 1e-11


def measured(errors: list[float]) -> float:
    """Slope of log error over log steps at the three finest grids above round-off, at two where there are more."""
    steps_of = MORE_STEPS[: len(errors)]
    above = [(math.log(n), math.log(error)) for n, error in zip(steps_of, errors, strict=True) if error > ROUND_OFF]
    assert len(above) >= 3, f"errors {errors} are round-off"
    steps, error = zip(*above[-3 if len(errors) == len(STEPS) else -2 :], strict=True)
    return -float(np.polyfit(steps, error, 1)[0])


def started(sampler: Sampler, errors: list[float]) -> None:
    """Order of a chain with its own start: the declared one, or at least `started_order` where only the start is worse.

    Then early and late errors weigh by turns and may cancel at one grid: the slope is taken over all.
    """
    if sampler.started_order in (None, sampler.order):
        assert measured(errors) == pytest.approx(sampler.order, abs=0.3), errors
        return
    largest = errors.index(max(errors))
    refined = math.log(MORE_STEPS[len(errors) - 1] / MORE_STEPS[largest])
    assert math.log(errors[largest] / errors[-1]) / refined > sampler.started_order - 0.3, errors


def steps_for(sampler: Sampler) -> tuple[int, ...]:
    return MORE_STEPS if (sampler.order or 0) > 3 else STEPS


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", INSTANCES)
def test_order_of_convergence(name: str, path: str) -> None:
    process = PATHS[path]()
    sampler = INSTANCES[name].on(process)
    if sampler.order is None:
        pytest.skip("declares no order")
    grids = [process.at(torch.linspace(0.8, 0.3, steps + 1, dtype=torch.float64)) for steps in steps_for(sampler)]
    if sampler.stochastic:
        measurements = {"exact start": [law_error(sampler, grid) for grid in grids]}
    else:
        warm = [state_error(sampler, grid) for grid in grids]
        exact = [state_error(sampler, grid, exact_steps=sampler.order - 1) for grid in grids]
        measurements = {"own start": warm, "exact start": exact}
        started(sampler, warm)
    assert measured(measurements["exact start"]) == pytest.approx(sampler.order, abs=0.3), measurements


@pytest.mark.parametrize("name", [name for name, kind in INSTANCES.items() if not kind.declared.stochastic])
@pytest.mark.parametrize("scale", ["ve", "vp"])
def test_order_on_a_mixture_s_recorded_flow(name: str, scale: str) -> None:
    """Against a curve of the probability flow of a 5-component mixture that was integrated to 1e-12 (σ: 5.66 → 0.4)."""
    file = File(os.environ.get("LOGSNR_REFERENCE", "tests/reference")) / "truth_pf_ode.npz"
    if not file.exists() or INSTANCES[name].declared.order is None:
        pytest.skip(f"needs {file} and a declared order")
    with np.load(file) as truth:
        shape = tuple(truth["mix_shape"])
        weights, means, variances = (torch.tensor(truth[f"mix_{part}"]) for part in ("w", "mu", "var"))
        law = mixture(weights, means.reshape(-1, *shape), variances.reshape(-1, *shape))
        sigma, x = truth["sigma"], torch.tensor(truth["x"])
    first, end = 3, 6
    path = Path(geometric(float(sigma[end]), float(sigma[first])), SCALES[scale])
    sampler = INSTANCES[name].on(path)

    def error(steps: int) -> float:
        grid = path.grid(steps, "lowest")
        state = x[first] * grid[0].alpha
        *_, final = simulate(sampler, Oracle(law), state, grid, noise=lambda i, name: torch.zeros_like(state))
        return float((final.x / grid[-1].alpha - x[end]).abs().max())

    errors = [error(steps) for steps in STEPS]
    started(sampler, errors)
