"""Denoiser: network + path + target, the model that samplers, losses and likelihoods hold.

The network itself knows x, a label and keywords. Around it stand three small choices, each a function: in which units
x is shown to it (`inputs`), how it is told the noise level (`label`), and what its answer means (`target`).

A model depends on a level only through γ. Hand it the level of another path (sample a VP model on the VE scale, say)
and x is first rescaled to the model's own units, (α'/α) x with the same γ: an exact change of variables, after which x̂0
and ε̂ mean the same in both. Therefore any model runs under any sampler on any path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from logsnr.level import Level, over
from logsnr.path import Path
from logsnr.prediction import Prediction, Target


class Model(Protocol):
    """Anything that denoises: a `Denoiser`, an exact oracle, a guided wrapper."""

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        """Read x (B, *) at `level`, of shape () or (B,)."""
        ...


Label = Callable[[Path, Level], Tensor]


def index_label(path: Path, level: Level) -> Tensor:
    """T t − 1 on a table of T knots: 0 at the first, T − 1 at the last; fractional between knots, clamped outside."""
    if not path.schedule.steps:
        raise ValueError("label 'index' needs a table of T levels; allowed here: time, gamma, log_sigma")
    steps = path.schedule.steps
    place = path.time_of_level(level) * steps - 1
    nearest = place.round()  # rounding, not truncation: T t − 1 comes out as 4.999… for some knots
    return torch.where((place - nearest).abs() < 1e-6, nearest, place).clamp(0, steps - 1)


def time_label(path: Path, level: Level) -> Tensor:
    """999 t (Score SDE's continuous VP models)."""
    return 999 * path.time_of_level(level)


def gamma_label(path: Path, level: Level) -> Tensor:
    """γ (VDM), clamped to the path's own range: a network is never asked about levels it was not trained at."""
    return level.gamma.clamp(path.lowest.gamma.detach(), path.highest.gamma.detach())


def log_sigma_label(path: Path, level: Level) -> Tensor:
    """¼ log σ in VE units, γ/8 (EDM, table 1), clamped to the path's own range."""
    return gamma_label(path, level) / 8


def none_label(path: Path, level: Level) -> Tensor:
    """0: the network is not told the noise level (NCSNv2)."""
    return torch.zeros_like(level.gamma)


def sigma_label(path: Path, level: Level) -> Tensor:
    """σ in VE units, exp(γ/2) (Score SDE's continuous VE models), clamped to the path's own range."""
    return torch.exp(gamma_label(path, level) / 2)


LABELS: dict[str, Label] = {
    "index": index_label,
    "time": time_label,
    "gamma": gamma_label,
    "log_sigma": log_sigma_label,
    "none": none_label,
    "sigma": sigma_label,
}


Inputs = Callable[[Level], Tensor]


def unit_inputs(level: Level) -> Tensor:
    """x as it is."""
    return torch.ones_like(level.gamma)


def unit_power_inputs(level: Level) -> Tensor:
    """1/√(α² + σ²): data of unit power is shown at unit power at every level, however large σ is (ve)."""
    return unit_variance(level, sigma_data=1.0)


def unit_variance(level: Level, sigma_data: float = 0.5) -> Tensor:
    """c_in = 1/√(α² σ_d² + σ²): x at unit variance when the data has variance σ_d² (EDM, table 1, where α = 1)."""
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data}; allowed: above 0, the standard deviation of the data")
    log_variance = torch.logaddexp(2 * (level.log_alpha + math.log(sigma_data)), 2 * level.log_sigma)
    return torch.exp(-0.5 * log_variance)


INPUTS: dict[str, Callable[..., Tensor]] = {
    "unit": unit_inputs,
    "unit_power": unit_power_inputs,
    "unit_variance": unit_variance,
}


class Denoiser(nn.Module):
    """(x, level) → Prediction with the network's answer to (c x', label), x' = x in the units of `path`.

    network: module (x, label, **condition) → (B, C, *), or (B, 2C, *) with `spread`, whose second half is the spread.
    target, label, inputs: the functions above. autocast: a lower precision for the network alone (x_t never is).
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        target: Target,
        *,
        label: Label,
        inputs: Inputs = unit_inputs,
        spread: bool = False,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.network, self.path, self.target = network, path, target
        self.label, self.inputs, self.spread, self.autocast = label, inputs, spread, autocast

    def forward(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        own = self._own(level)
        # same γ, other units: the ratio of the signals, or of the noises where the signal is gone
        ratio = torch.where(level.gamma < 0, own.log_alpha - level.log_alpha, own.log_sigma - level.log_sigma).exp()
        label = self.label(self.path, own).to(x)
        with self._precision(x):
            value = self.network(over(ratio * self.inputs(own), x) * x, label.expand(len(x)), **condition)
        value = value.to(x.dtype)
        value, spread = value.chunk(2, dim=1) if self.spread else (value, None)
        return Prediction(x, level, self.target(own), value, spread)

    def _own(self, level: Level) -> Level:
        scale = self.path.scale
        return replace(level, log_alpha=scale.log_alpha(level.gamma), log_sigma=scale.log_sigma(level.gamma))

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, self.autocast) if self.autocast else nullcontext()


@dataclass(frozen=True)
class Clipped:
    """A model whose x̂0 is held in [low, high]: the clip policy of a data transform, for pixels (DDPM's program)."""

    model: Model
    low: float
    high: float

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return self.model(x, level, **condition).clipped(self.low, self.high)


@dataclass(frozen=True)
class Conditioned:
    """A model with its condition bound, (B, *) by keyword: what a sampler, which knows no conditions, is handed."""

    model: Model
    condition: Mapping[str, Tensor]

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return self.model(x, level, **{**self.condition, **condition})
