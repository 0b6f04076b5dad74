"""Euler–Maruyama: the reverse SDE, or its probability flow, in plain steps of time (S6; Score SDE, section 4.1).

    x_s = x_t + [f(x_t, t) − ½(1 + η²) g(t)² ŝ] (s − t) + η g(t) √|s − t| z

All it needs of a process is its drift f, its diffusion g and a score: `dynamics.euler_maruyama` takes any `Dynamics`,
also one that has no closed-form level. η = 1 is the reverse SDE, η = 0 Euler's method for the probability-flow ODE;
every η in between has the same marginals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.dynamics import dynamics, euler_maruyama
from logsnr.level import Level
from logsnr.path import Path
from logsnr.samplers.loop import Sampler, Step, evaluations


class EulerMaruyama(Sampler):
    """The step above on the SDE of `path`, between levels of its own time. eta: η in [0, 1]."""

    order = 1
    scale_free = False  # f dt is only to first order a change of units

    def __init__(self, path: Path, eta: float = 1.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta = {eta}; allowed: 0 (probability flow) to 1 (reverse SDE)")
        self.process, self.eta = dynamics(path), eta
        self.stochastic = eta > 0

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        if torch.isposinf(t.gamma).any():
            raise ValueError("euler_maruyama from pure noise, where the drift is infinite; allowed: ancestral, ddim")
        prediction = model(x, t)
        mean, std = euler_maruyama(self.process, prediction.score, x, t.t, s.t, self.eta)
        drawn = mean + std * noise("step") if self.stochastic else mean
        return Step(drawn, mean, prediction, s, evaluations(x, 1))
