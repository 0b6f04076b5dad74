"""Discrete data whose denoiser is exact: independent uniform values of a lattice."""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.level import Level
from logsnr.prediction import Prediction, v


class Levels:
    """The exact denoiser of independent uniform values of a lattice."""

    def __init__(self, lattice: Lattice) -> None:
        self.values = lattice.low + lattice.width * torch.arange(lattice.count, dtype=torch.float64)

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        z = x.double()
        alpha, sigma = level.over(z.unsqueeze(-1))
        share = torch.softmax(-0.5 * ((z.unsqueeze(-1) - alpha * self.values) / sigma) ** 2, -1)
        x0 = (share * self.values).sum(-1)
        alpha, sigma = level.over(z)
        return Prediction(x, level, v(level), (alpha * (z - alpha * x0) / sigma - sigma * x0).to(x))
