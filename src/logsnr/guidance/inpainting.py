"""Inpainting: a model that is told some numbers of x0 (N7; Song and Ermon 2019, algorithm 2).

Before every evaluation the known part of x_t is replaced by a sample of q(x_t | known), so that the network sees it at
the very level of the unknown part. What the network says of the known part is not needed: x̂0 is the known value itself,
and ε̂ the noise that was put on it. A chain that ends clean therefore ends in the known values, bit for bit.

Under annealed Langevin dynamics this is NCSN's inpainting with fresh noise a step (NCSNv2's program). With small steps
the unknown part drifts along the mean over known_t of ∇ log p_t(unknown_t | known_t); as σ → 0, where known_t is known,
its law is the conditional law of the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.prediction import Prediction, x0
from logsnr.samplers.loop import Noise


@dataclass(frozen=True)
class Inpainted:
    """`model`, given that x0 is `known` (B, *), in model units, where `mask` is true.

    mask: boolean, broadcasts to x. noise: the draws of the chain; each call takes the next one called "known", so make
    a new wrapper for every chain. Use `prediction.x`, not the x that was handed over, as the state that was read.
    """

    model: Model
    known: Tensor
    mask: Tensor
    noise: Noise
    _calls: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        eps = self.noise(next(self._calls), "known")
        x = torch.where(self.mask, level.perturb(self.known, eps), x)
        prediction = self.model(x, level, **condition)
        return replace(prediction, direction=x0(level), value=torch.where(self.mask, self.known, prediction.x0))
