"""THE loop. Every sampler is a `step` from level t to level s; this module walks it down a grid.

    for (t, s) in neighbours of the grid:  x ← step(x, t, s)

A step into the clean level is the same for all of them, and is known only here: evaluate once at t and return x̂0. So
no sampler has a branch for σ = 0, none evaluates a model at the clean level, and every chain that ends clean ends in a
denoised example.

Randomness is an argument: `noise(step, draw)` gives standard normals, keyed by what they are for. `seeded` keys them by
(seed, example) as well, so example i never depends on its neighbours, the batch size or the number of devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.level import Level
from logsnr.path import Path
from logsnr.prediction import Prediction

Noise = Callable[[int, str], Tensor]


@dataclass(frozen=True)
class Step:
    """What one step made: the state `x` (B, *) at `level`, and how.

    mean: x without the noise of this step. prediction: the model's at the level the step came from. evaluations: (B,)
    network evaluations. memory: whatever the next step of the same sampler wants to know.
    """

    x: Tensor
    mean: Tensor
    prediction: Prediction
    level: Level
    evaluations: Tensor
    memory: Any = None


class Sampler(ABC):
    """A step from t to s. `order`: the declared order of convergence on a refined grid, None if it has none.

    started_order: the order of a whole chain where the first steps, which have no memory yet, are less accurate than
    the others; None when it is `order`. spacing: the grid it wants where nobody says, None for any.
    scale_free: the trajectory of x̂0 is the same in whatever units the path writes x. stochastic: uses its noise.
    """

    order: int | None
    started_order: int | None = None
    spacing: str | None = None
    scale_free: bool
    stochastic: bool

    @abstractmethod
    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        """From x (B, *) at t to the lower level s, both of shape () and s finite. noise(name): normals like x."""


def evaluations(x: Tensor, count: int) -> Tensor:
    """(B,) a count for each example."""
    return torch.full((len(x),), count)


def finish(model: Model, x: Tensor, t: Level, s: Level) -> Step:
    """The step into the clean level: x̂0(x_t)."""
    prediction = model(x, t)
    x0 = prediction.x0
    return Step(x0, x0, prediction, s, evaluations(x, 1))


def simulate(sampler: Sampler, model: Model, x: Tensor, levels: Level, *, noise: Noise) -> Iterator[Step]:
    """Walk x (B, *), which is at levels[0], down `levels` (S + 1,), yielding after each of the S steps."""
    memory = None
    for i, (t, s) in enumerate(pairwise(levels)):
        if s.is_clean:
            step = finish(model, x, t, s)
        else:
            step = sampler.step(model, x, t, s, noise=partial(noise, i), memory=memory)
        x, memory = step.x, step.memory
        yield step


def seeded(seed: int, index: Tensor, like: Tensor) -> Noise:
    """Noise keyed by (seed, example, step, draw). index: (B,) numbers of the examples; like: (B, *)."""

    def noise(step: int, draw: str) -> Tensor:
        return Draws(seed, step, index, len(index)).normal(f"sample/{draw}", like)

    return noise


def prior(path: Path, noise: Noise, temperature: float = 1.0) -> Tensor:
    """x at the highest level: the prior N(0, prior_std² I), keyed as the draw "prior".

    temperature: a factor on it; below 1 latents, and through the flow samples, are nearer to the centre (Score SDE,
    section 4.3; Kingma and Dhariwal 2018).
    """
    return temperature * path.prior_std * noise(0, "prior")
