"""One model, one flow: every deterministic sampler, with ever finer steps, must arrive at the same x0 (S9, M6, V8).

A trained model says what x̂0 is at every level, and so it has one probability flow; a deterministic sampler is a way of
walking it. From one noise, with S, 2S, 4S … steps equal in log-SNR,

    x_S = x_∞ + C S^−p + …      p ≈ log2(|x_S − x_2S| / |x_2S − x_4S|),      x_∞ ≈ x_2S + (x_2S − x_S)/(2^p − 1)

give the measured order p, from the sampler's own differences alone, and its limit (Richardson 1911). The common
solution is the limit with the smallest median distance to the others, so one wrong sampler does not move it. Nothing
here knows which family the model is of, or which sampler is which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, clean, over
from logsnr.path import Path
from logsnr.records import Part
from logsnr.run import build
from logsnr.samplers import SAMPLERS, Sampler, simulate

LADDER = (10, 20, 40, 80, 160)
MOST_DOUBLINGS = 3  # beyond the ladder, for a sampler that is still on its way
TOLERANCE = 0.01
MOST_EXAMPLES, FARTHER = 0.9, 5.0  # share that must arrive within so many tolerances
ENDS_GAMMA = (-14.0, 12.0)  # beyond them x̂0 is x_t/α, and x_t is noise, to any tolerance of interest

Make = Callable[[int], Sampler]


@dataclass(frozen=True)
class Track:
    """What one sampler did. Distances are root mean squares of the median example, as shares of the common solution's.

    declared, measured: order of a whole chain, None where there is none, or where differences are round-off.
    distances: of x_S to the common solution, for each S. limit: of its limit to it. meets: the limit is within the
    tolerance for the median example, within five times that for nine in ten, and the last solutions are near enough to
    each other to have one. (A noise that lies between two modes goes to either after a rounding error.)
    """

    name: str
    declared: int | None
    measured: float | None
    distances: tuple[float, ...]
    limit: float
    meets: bool


@dataclass(frozen=True)
class Certificate:
    """tracks by sampler. steps: the S. failed: what stopped a sampler on its way. x0: finest solutions, (B, *)."""

    steps: tuple[int, ...]
    tolerance: float
    tracks: tuple[Track, ...]
    failed: Mapping[str, str]
    x0: Mapping[str, Tensor]

    @property
    def meet(self) -> bool:
        """Whether all arrive at one x0, none having failed, and two at least."""
        return len(self.tracks) > 1 and not self.failed and all(track.meets for track in self.tracks)

    def record(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "steps": list(self.steps),
            "tolerance": self.tolerance,
            "meet": self.meet,
            "samplers": {t.name: {**vars(t), "distances": list(t.distances)} for t in self.tracks},
            "failed": dict(self.failed),
        }

    def lines(self) -> list[str]:
        """The table."""
        columns = max(len(t.distances) for t in self.tracks)
        heads = "".join(f"{f'S = {self.steps[0] << i}':>11}" for i in range(columns))
        rows = [f"{'sampler':>24}{'order':>7}{'measured':>10}{heads}{'limit':>11}"]
        for t in self.tracks:
            declared = "-" if t.declared is None else str(t.declared)
            measured = "-" if t.measured is None else f"{t.measured:.2f}"
            walked = "".join(f"{d:11.1e}" for d in t.distances) + " " * 11 * (columns - len(t.distances))
            verdict = "" if t.meets else "  DOES NOT MEET"
            rows.append(f"{t.name:>24}{declared:>7}{measured:>10}{walked}{t.limit:11.1e}{verdict}")
        rows += [f"{name:>24}  FAILED: {reason}" for name, reason in self.failed.items()]
        verdict = "meet at the same x0" if self.meet else "do NOT meet at the same x0"
        return [*rows, f"{len(self.tracks)} deterministic samplers {verdict}, within {self.tolerance:.0%}"]


def deterministic(path: Path, variance: str) -> tuple[dict[str, Make], dict[str, str]]:
    """The registry's samplers that use no noise, by name, or with η = 0 if they have it; and why others are left."""
    found: dict[str, Make] = {}
    refused: dict[str, str] = {}
    for name in SAMPLERS:
        for options in ({}, {"eta": 0.0}):

            def make(steps: int, part: Part = Part(name, options)) -> Sampler:  # noqa: B008 (bound in the loop)
                return build.sampler(build.sampler_part(part, variance, steps), path)

            try:
                quiet = not make(LADDER[0]).stochastic
            except ValueError as error:
                if not options:
                    refused[name] = str(error)
                break
            if quiet:
                found[name if not options else f"{name} eta=0"] = make
                break
    return found, refused


def levels(path: Path, steps: int) -> Level:
    """S steps equal in log-SNR between the ends of the path, within `ENDS_GAMMA`, and one into the clean level."""
    low = path.lowest.gamma.detach().cpu().double().clamp(min=ENDS_GAMMA[0])
    high = path.highest.gamma.detach().cpu().double().clamp(max=ENDS_GAMMA[1])
    u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return path.at_gamma(low + (high - low) * u).then(clean())


@torch.inference_mode()
def certify(
    model: Model,
    path: Path,
    samplers: Mapping[str, Make],
    noise: Tensor,
    *,
    steps: Sequence[int] = LADDER,
    tolerance: float = TOLERANCE,
    advance: Callable[[int], None] = lambda steps: None,
) -> Certificate:
    """Walk `model` from `noise`, standard normals (B, *), with each sampler at every number of steps.

    samplers: by name, made for a number of steps. steps: each twice the one before. advance: told the steps done.
    """
    solutions: dict[str, list[Tensor]] = {}
    orders: dict[str, int | None] = {}
    failed: dict[str, str] = {}
    for name, make in samplers.items():
        sampler = make(steps[0])
        orders[name] = sampler.started_order or sampler.order
        # a sampler that chooses its own steps arrives whatever the grid
        ladder = list(steps) if sampler.order else list(steps[:2])
        try:
            found = [_walked(make(count), model, path, noise, count, advance) for count in ladder]
            while sampler.order and _moving(found, tolerance) and len(found) < len(steps) + MOST_DOUBLINGS:
                ladder.append(2 * ladder[-1])
                found.append(_walked(make(ladder[-1]), model, path, noise, ladder[-1], advance))
            solutions[name] = found
        except ValueError as error:
            failed[name] = str(error)
    limits = {name: _limit(found, orders[name]) for name, found in solutions.items()}
    common = _common(limits)
    scale = _size(common)
    tracks = []
    for name, found in solutions.items():
        distances = tuple(_size(x - common) / scale for x in found)
        limit = _size(limits[name] - common) / scale
        near = limit <= tolerance and _far(limits[name] - common) <= FARTHER * tolerance * scale
        meets = near and not _moving(found, 2 * tolerance)
        tracks.append(Track(name, orders[name], _order(found), distances, limit, meets))
    x0 = {name: found[-1] for name, found in solutions.items()}
    return Certificate(tuple(steps), tolerance, tuple(tracks), failed, x0)


def _walked(
    sampler: Sampler, model: Model, path: Path, noise: Tensor, steps: int, advance: Callable[[int], None]
) -> Tensor:
    grid = levels(path, steps)

    def silent(step: int, name: str) -> Tensor:
        return torch.zeros_like(noise)

    for step in simulate(sampler, model, over(grid[0].sigma, noise) * noise, grid, noise=silent):
        x0 = step.x
        advance(1)
    return x0.cpu().double()


def _moving(found: list[Tensor], tolerance: float) -> bool:
    """Whether the last two solutions are too far apart to tell the limit."""
    return _size(found[-1] - found[-2]) > 5 * tolerance * _size(found[-1])


def _limit(found: list[Tensor], order: int | None) -> Tensor:
    """Richardson's extrapolation of the last two solutions."""
    return found[-1] + (found[-1] - found[-2]) / (2**order - 1) if order else found[-1]


def _common(limits: Mapping[str, Tensor]) -> Tensor:
    """The limit with the smallest median distance to the others, as nine examples of ten see it."""
    if not limits:
        raise ValueError("no deterministic sampler runs on this model; allowed: a model that some sampler can walk")
    every = list(limits.values())
    medians = [float(torch.tensor([_far(x - y) for y in every if y is not x] or [0.0]).median()) for x in every]
    return every[min(range(len(every)), key=lambda i: medians[i] if math.isfinite(medians[i]) else math.inf)]


def _order(found: list[Tensor]) -> float | None:
    """The slope of the last three differences that are above round-off of float32, or of the last two."""
    floor = 1e-5 * _size(found[-1])
    differences = [_size(a - b) for a, b in pairwise(found)]
    above = [math.log2(d) for d in differences if d > floor and math.isfinite(d)][-3:]
    return (above[0] - above[-1]) / (len(above) - 1) if len(above) > 1 else None


def _rows(x: Tensor) -> Tensor:
    """Root mean square over the numbers of an example, (B, *) → (B,)."""
    return x.square().flatten(1).mean(1).sqrt()


def _size(x: Tensor) -> float:
    """`_rows` of the median example."""
    return float(_rows(x).median())


def _far(x: Tensor) -> float:
    """`_rows` of all but the farthest tenth of the examples."""
    return float(_rows(x).quantile(MOST_EXAMPLES, interpolation="nearest"))
