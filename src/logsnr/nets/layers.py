"""The few layers on which every network is built.

A sample must not depend on its neighbours, to the last bit: the same row in another slot of a batch of the
same width, beside other rows, gives the same float32 numbers on a CPU. Convolutions and normalisations keep that
promise; two kernels do not, and have their own form here: a vectorised activation differs from the scalar one that
finishes a run of elements whose length is no multiple of the vector (`SiLU`, `ELU`, `GELU`), and a matrix product
adds up in another order in the rows and columns left over from its tiles, or where a row is not aligned (`Linear`,
`whole_tiles`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import norm_silu, winograd

Layer = TypeVar("Layer", bound=nn.Module)

TILE = 16  # floats in a cache line


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in its own precision where that is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Conv2d(nn.Conv2d):
    """A convolution; by `winograd` where that suits."""

    def forward(self, x: Tensor) -> Tensor:
        return winograd.convolved(x, self) if winograd.suits(x, self) else super().forward(x)


_CONVOLUTIONS = {1: nn.Conv1d, 2: Conv2d, 3: nn.Conv3d}


class SiLU(nn.Module):
    """x · sigmoid(x) (Elfwing et al. 2018); in eval mode on a CPU by exp, which has no scalar tail.

    Beyond −60 the exponent is held: the value is 0 to 1e-24, and a gradient is not ∞/∞.
    """

    def forward(self, x: Tensor) -> Tensor:
        return silu(x, training=self.training)


def silu(x: Tensor, *, training: bool) -> Tensor:
    """What `SiLU` does."""
    if training or x.device.type != "cpu":
        return F.silu(x)
    return (x / (1 + torch.exp((-at_least_float32(x)).clamp(max=60)))).to(x.dtype)


class ELU(nn.Module):
    """x above zero, eˣ − 1 below (Clevert et al. 2016); in eval mode on a CPU by expm1, which has no scalar tail."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.device.type != "cpu":
            return F.elu(x)
        wide = at_least_float32(x)
        return (wide.clamp(min=0) + torch.expm1(wide.clamp(max=0))).to(x.dtype)


class GELU(nn.Module):
    """½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016); on a CPU in eval mode as it stands here."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.device.type != "cpu":
            return F.gelu(x, approximate="tanh")
        wide = at_least_float32(x)
        inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * (wide * wide * wide))
        return (0.5 * wide * (1 + torch.tanh(inner))).to(x.dtype)


class Linear(nn.Linear):
    """x Wᵀ + b; in eval mode on a CPU padded with zeros to whole tiles, so that no row meets a kernel for remainders.

    Every row is then aligned, and the rows divide among threads without a rest.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.device.type != "cpu":
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(-1, self.in_features)
        more_rows, more_in, more_out = (-n % TILE for n in (len(rows), self.in_features, self.out_features))
        weight = F.pad(self.weight, (0, more_in, 0, more_out)) if more_in or more_out else self.weight
        bias = F.pad(self.bias, (0, more_out)) if more_out else self.bias
        y = F.linear(F.pad(rows, (0, more_in, 0, more_rows)) if more_in or more_rows else rows, weight, bias)
        return y[: len(rows), : self.out_features].reshape(*x.shape[:-1], self.out_features)


def whole_tiles(x: Tensor) -> Tensor:
    """The matrices x (..., n, m) padded with zeros until both n and m are multiples of `TILE`."""
    more = [-n % TILE for n in x.shape[-2:]]
    return F.pad(x, (0, more[1], 0, more[0])) if any(more) else x


def convolution(
    rank: int,
    in_channels: int,
    out_channels: int,
    *,
    width: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    bias: bool = True,
) -> nn.Module:
    """A convolution over `rank` spatial axes, padded with zeros so that stride 1 keeps the size."""
    reach = dilation * (width // 2) if padding is None else padding
    kind = _CONVOLUTIONS[rank]
    return kind(in_channels, out_channels, width, stride=stride, padding=reach, dilation=dilation, bias=bias)


def group_norm(channels: int, groups: int | None = None) -> nn.GroupNorm:
    """GroupNorm in at most 32 groups (Wu & He 2018) of at least four channels, for any channel count.

    The number of groups divides `channels`. A group of one channel would erase that channel's mean, which in
    a small network is the brightness of the picture. `groups`, when given, is the number that is wished for.
    """
    wished = max(1, min(32, channels // 4)) if groups is None else groups
    return nn.GroupNorm(math.gcd(channels, wished), channels)


def normalised(
    norm: nn.GroupNorm,
    x: Tensor,
    *,
    e: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    activate: bool = True,
) -> Tensor:
    """silu(norm(x + e)(1 + scale) + shift) of features x (B, C, *); e (B, C) or none, scale and shift both or none.

    activate: with silu. Where `norm_silu` suits by its passes, which differ in the last bits.
    """
    if norm_silu.suits(x):
        gain, offset = norm.weight.unsqueeze(0), norm.bias.unsqueeze(0)
        if scale is not None and shift is not None:
            gain, offset = gain * (1 + scale.float()), offset * (1 + scale.float()) + shift.float()
        return norm_silu.norm_silu(x, gain, offset, e, groups=norm.num_groups, eps=norm.eps, silu=activate)
    h = norm(x if e is None else x + over(e, x))
    if scale is not None and shift is not None:
        h = h * (1 + over(scale, h)) + over(shift, h)
    return silu(h, training=norm.training) if activate else h


def zeroed(layer: Layer) -> Layer:
    """The layer with all parameters zero: a branch that starts as nothing, an output that starts at 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def over(features: Tensor, x: Tensor) -> Tensor:
    """(B, C) features shaped to broadcast over the spatial axes of x, (B, C, *)."""
    return features.reshape(*features.shape, *(1,) * (x.ndim - 2))


def margins(sizes: Sequence[int], multiple: int) -> list[tuple[int, int]]:
    """Per axis, zeros (before, after) that take each size up to the next multiple, evenly on both sides."""
    missing = [-size % multiple for size in sizes]
    return [(m // 2, m - m // 2) for m in missing]
