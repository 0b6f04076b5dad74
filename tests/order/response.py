"""The exact law of a sampler's output on Gaussian data, without Monte Carlo.

With the exact denoiser of a diagonal Gaussian every step is affine in the state and in its noise, dimension by
dimension. So one run whose rows are probes (a row started off the mean, a row that gets one unit of one noise and
nothing else) yields the whole affine map from (x_t, ε_1, ε_2, …) to x_s, and with it mean and variance of x_s. Memory
of multistep samplers is inside the map. Noise is asked for by name, so a first run counts the draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.data.toys import Mixture, gaussian
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.samplers import Sampler, simulate

MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
VARIANCE = torch.tensor([0.25, 0.04, 1.7], dtype=torch.float64)
LAW = gaussian(MEAN, VARIANCE)


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each dimension."""

    mean: Tensor
    std: Tensor


def moments(law: Mixture, level: Level) -> Moments:
    """Those of a one-component law at a level of shape ()."""
    mean, variance = law.means[0], law.variances[0]
    return Moments(level.alpha * mean, (level.alpha**2 * variance + level.sigma**2).sqrt())


def flow(law: Mixture, x: Tensor, t: Level, s: Level) -> Tensor:
    """The probability flow of a Gaussian from t to s: x keeps its place in standard deviations."""
    at_t, at_s = moments(law, t), moments(law, s)
    return at_s.mean + at_s.std / at_t.std * (x - at_t.mean)


def law_of_output(sampler: Sampler, law: Mixture, grid: Level, start: Moments) -> Moments:
    """Mean and std of the state at the end of `grid` when the state at grid[0] is N(start.mean, start.std²)."""
    draws: dict[tuple[int, str], int] = {}
    x = torch.stack([start.mean, start.mean + start.std])

    def silent(step: int, name: str) -> Tensor:
        draws.setdefault((step, name), len(draws))
        return torch.zeros_like(x)

    *_, end = simulate(sampler, Oracle(law), x, grid, noise=silent)
    mean, by_start = end.x[0], end.x[1] - end.x[0]
    if not draws:
        return Moments(mean, by_start.abs())
    rows = start.mean.expand(len(draws), *start.mean.shape)

    def unit(step: int, name: str) -> Tensor:
        noise = torch.zeros_like(rows)
        noise[draws[step, name]] = 1
        return noise

    *_, end = simulate(sampler, Oracle(law), rows, grid, noise=unit)
    return Moments(mean, (by_start**2 + ((end.x - mean) ** 2).sum(0)).sqrt())


def state_error(sampler: Sampler, grid: Level, exact_steps: int = 0) -> float:
    """Largest error of a deterministic sampler's state at the end of `grid`, in standard deviations of the end.

    exact_steps: after each of the first so many steps the state is put back on the flow, so that the memory of a
    multistep sampler is made of exact values; 0 measures it with its own warm-up.
    """
    oracle, memory = Oracle(LAW), None
    start, end = moments(LAW, grid[0]), moments(LAW, grid[-1])
    x = first = start.mean + torch.tensor([[-1.5], [0.3], [2.0]], dtype=torch.float64) * start.std
    for i in range(len(grid) - 1):
        step = sampler.step(oracle, x, grid[i], grid[i + 1], noise=lambda name: torch.zeros_like(first), memory=memory)
        x, memory = step.x if i >= exact_steps else flow(LAW, first, grid[0], grid[i + 1]), step.memory
    return float(((x - flow(LAW, first, grid[0], grid[-1])) / end.std).abs().max())


def law_error(sampler: Sampler, grid: Level) -> float:
    """Largest error of mean and std at the end of `grid`, started from the exact law, in standard deviations."""
    found, exact = law_of_output(sampler, LAW, grid, moments(LAW, grid[0])), moments(LAW, grid[-1])
    errors = torch.stack([found.mean - exact.mean, found.std - exact.std])
    return float((errors / exact.std).abs().max())
