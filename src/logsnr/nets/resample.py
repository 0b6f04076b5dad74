"""Halving and doubling the sides of features x (B, C, *): linear maps without parameters, the same on each axis.

Two pairs (down, up). The box averages two neighbours and repeats. The filter of StyleGAN2 (Karras et al. 2020),
which Score SDE uses in NCSN++ (appendix H), has k = [1, 3, 3, 1]/8 and zeros outside the picture:

    down   y[n] = Σ_j k[j] x[2n + j − 1]
    up     y[2n] = ¼ x[n−1] + ¾ x[n],  y[2n+1] = ¾ x[n] + ¼ x[n+1]       linear interpolation
    blur   y[n] = Σ_j k[j] x[n + j − 2],  n = 0..N                       one sample more, half a sample earlier

k vanishes at the highest frequency, so that halving folds almost nothing back. In both pairs up is 2 per axis times
the adjoint of down, constants stay constants away from the border, and even sides map to exact halves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Direction = Literal["down", "up"]

TAPS = (1 / 8, 3 / 8, 3 / 8, 1 / 8)

_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
_SPREAD = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


class Resample(nn.Module):
    """The box: halve each side by averaging, or double it by repetition."""

    def __init__(self, rank: int, direction: Direction) -> None:
        super().__init__()
        self.rank = rank
        self.direction = direction

    def forward(self, x: Tensor) -> Tensor:
        if self.direction == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.rank - 1](x, 2)


class Filter(nn.Module):
    """The kernel k ⊗ … ⊗ k over `rank` axes, not kept in checkpoints; each channel is filtered alone."""

    kernel: Tensor

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank
        kernel = torch.ones(1, 1, *(1,) * rank)
        for axis in range(rank):
            kernel = kernel * torch.tensor(TAPS).reshape(-1, *(1,) * (rank - 1 - axis))
        self.register_buffer("kernel", kernel, persistent=False)

    def taps(self, x: Tensor) -> Tensor:
        """(C, 1, 4, …) in the precision of x."""
        return self.kernel.to(x.dtype).expand(x.shape[1], *self.kernel.shape[1:])


class FilteredResample(Filter):
    """`down` or `up` with the filter."""

    def __init__(self, rank: int, direction: Direction) -> None:
        super().__init__(rank)
        self.direction = direction

    def forward(self, x: Tensor) -> Tensor:
        if self.direction == "down":
            return _CONVOLVE[self.rank - 1](x, self.taps(x), stride=2, padding=1, groups=x.shape[1])
        gain = 2.0**self.rank
        return _SPREAD[self.rank - 1](x, gain * self.taps(x), stride=2, padding=1, groups=x.shape[1])


class Blur(Filter):
    """`blur`: what a convolution of stride 2 without padding takes to half the size, centred."""

    def forward(self, x: Tensor) -> Tensor:
        return _CONVOLVE[self.rank - 1](x, self.taps(x), padding=2, groups=x.shape[1])


RESAMPLERS: dict[str, Callable[[int, Direction], nn.Module]] = {"box": Resample, "fir": FilteredResample}
