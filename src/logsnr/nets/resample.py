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
from typing import Any, Literal

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


# Which taps of a kernel of three fall on the same pixel of a repeated picture: [phase][tap of two][tap of three].
_SAME_PIXEL = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))


class _Woven(torch.autograd.Function):
    """The four phases z (B, 4C, H + 1, W + 1) as one picture (B, C, 2H, 2W): y[2i + p, 2j + q] = z_pq[i + p, j + q]."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        batch, channels, height, width = z.shape[0], z.shape[1] // 4, z.shape[2] - 1, z.shape[3] - 1
        phases = z.permute(0, 2, 3, 1).unflatten(3, (2, 2, channels))
        y = z.new_empty(batch, height, 2, width, 2, channels)
        for p, q in _PHASES:
            y[:, :, p, :, q] = phases[:, p : p + height, q : q + width, p, q]
        return y.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        batch, channels, height, width = dy.shape[0], dy.shape[1], dy.shape[2] // 2, dy.shape[3] // 2
        dy = dy.permute(0, 2, 3, 1).reshape(batch, height, 2, width, 2, channels)
        dz = dy.new_zeros(batch, height + 1, width + 1, 2, 2, channels)
        for p, q in _PHASES:
            dz[:, p : p + height, q : q + width, p, q] = dy[:, :, p, :, q]
        return dz.flatten(3).permute(0, 3, 1, 2)


_PHASES = tuple((p, q) for p in (0, 1) for q in (0, 1))


def doubled_then_convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The picture x (B, C, H, W) repeated to (2H, 2W), then convolved with a kernel (C', C, 3, 3): 16 products for 36.

    On a repeated picture a pixel's three neighbours are two: each of the four phases of the result is a kernel of 2 × 2
    on x itself, its taps sums of the given ones.
    """
    fold = torch.tensor(_SAME_PIXEL, dtype=torch.float32, device=x.device)
    kernel = torch.einsum("pij,qkl,ocjl->pqocik", fold, fold, weight.to(fold)).flatten(0, 2)
    kernel = kernel.to(x.dtype, memory_format=torch.channels_last)
    return _Woven.apply(F.conv2d(x, kernel, bias.to(x.dtype).repeat(4), padding=1))


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
