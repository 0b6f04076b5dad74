"""Predictor–corrector sampling: any sampler, with Langevin steps before each of its own (Score SDE, section 4.2).

    for (t, s) in the grid:
        x ← x + ε ŝ(x, t) + √(2ε) z        the corrector, some times, at t
        x ← predictor(x, t → s)

in the order of the authors' program (the paper's algorithms 2 and 3 write the predictor first). The corrector pulls the
state towards p_t, whatever error the predictor made on the way to it. Both see levels only, so every pair runs on every
scale (sub-VP has no corrector in the original program).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.path import Path
from logsnr.records import Part, read
from logsnr.registry import lookup
from logsnr.samplers.corrector import CORRECTORS, StepSize
from logsnr.samplers.langevin import langevin_step
from logsnr.samplers.loop import Sampler, Step

Named = str | Mapping[str, Any]


class PredictorCorrector(Sampler):
    """`corrector_steps` Langevin steps of the size that `step_size` says at t, then the predictor from t to s.

    Without a corrector step it is the predictor. The draws of the corrector are "corrector 0", "corrector 1", ….
    """

    order = None  # a fixed r leaves an error that a finer grid does not remove
    scale_free = False

    def __init__(self, predictor: Sampler, step_size: StepSize, corrector_steps: int = 1) -> None:
        if corrector_steps < 0:
            raise ValueError(f"corrector_steps = {corrector_steps}; allowed: 0 (the predictor alone) or more")
        self.predictor, self.step_size, self.corrector_steps = predictor, step_size, corrector_steps
        self.stochastic = predictor.stochastic or corrector_steps > 0

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        for k in range(self.corrector_steps):
            score, z = model(x, t).score, noise(f"corrector {k}")
            x, _ = langevin_step(x, score, self.step_size(score, z, t, s), z)
        step = self.predictor.step(model, x, t, s, noise=noise, memory=memory)
        total = step.evaluations + self.corrector_steps
        return Step(step.x, step.mean, step.prediction, step.level, total, step.memory)


def predictor_corrector(
    samplers: Mapping[str, Callable[..., Sampler]],
    path: Path,
    predictor: Named = "reverse_diffusion",
    corrector: Named = "langevin",
    corrector_steps: int = 1,
    *,
    variance: str = "small",
    steps: int = 1,
) -> PredictorCorrector:
    """By name: predictor from `samplers`, corrector from `CORRECTORS`, each a name or {name: …, option: …}.

    variance, steps: the run's, for a predictor that asks for them. ValueError for an unknown name, TypeError for an
    unknown option.
    """
    of_predictor, of_corrector = read(Part, predictor, "predictor"), read(Part, corrector, "corrector")
    constructor = lookup(samplers, of_predictor.name, "predictor")
    asked = inspect.signature(constructor).parameters
    known = {key: value for key, value in (("variance", variance), ("steps", steps)) if key in asked}
    made = constructor(*([path] if next(iter(asked), None) == "path" else []), **{**known, **of_predictor.options})
    step_size = lookup(CORRECTORS, of_corrector.name, "corrector")(**of_corrector.options)
    return PredictorCorrector(made, step_size, corrector_steps)
