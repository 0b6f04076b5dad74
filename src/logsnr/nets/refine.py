"""The parts of a RefineNet (Lin et al. 2017, as changed in NCSN and NCSNv2); all are called as (features…, rows).

`norm` makes the normalisation of some channels, called as (x, rows); None for no normalisation there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ELU, convolution
from .resample import Resample

Norm = Callable[[int], nn.Module]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVG_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def smooth(x: Tensor) -> Tensor:
    """The mean over 5 positions an axis around each, with zeros outside, which count."""
    rank = x.ndim - 2
    return _AVG_POOL[rank - 1](F.pad(x, (2, 2) * rank), 5, stride=1)


def crest(x: Tensor) -> Tensor:
    """The maximum over 5 positions an axis around each."""
    return _MAX_POOL[x.ndim - 3](x, 5, stride=1, padding=2)


POOLS = {"max": crest, "average": smooth}


class Unnormalised(nn.Module):
    """x as it is."""

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return x


def _norms(norm: Norm | None, channels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(Unnormalised() if norm is None else norm(width) for width in channels)


class Residual(nn.Module):
    """shortcut(x) + conv₂(elu(norm₂(conv₁(elu(norm₁(x)))))): the residual block of the stages.

    way: "same"; "halve": both branches end in a mean over 2 positions an axis, the shortcut after a 1×1 convolution;
    "dilate": the size stays and the shortcut is a dilated convolution.
    """

    def __init__(self, rank: int, in_channels: int, out_channels: int, *, norm: Norm, dilation: int, way: str) -> None:
        super().__init__()
        middle = out_channels if way == "same" else in_channels
        self.elu = ELU()
        self.norm1, self.norm2 = norm(in_channels), norm(middle)
        self.conv1 = convolution(rank, in_channels, middle, dilation=dilation)
        self.conv2 = convolution(rank, middle, out_channels, dilation=dilation)
        self.resample = Resample(rank, "down") if way == "halve" else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if way == "dilate":
            self.shortcut = convolution(rank, in_channels, out_channels, dilation=dilation)
        elif way == "halve" or in_channels != out_channels:
            self.shortcut = convolution(rank, in_channels, out_channels, width=1)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        h = self.conv1(self.elu(self.norm1(x, rows)))
        h = self.conv2(self.elu(self.norm2(h, rows)))
        return self.resample(self.shortcut(x) + h)


class Unit(nn.Module):
    """RCU: x + conv(elu(norm(conv(elu(norm(x)))))), without biases."""

    def __init__(self, rank: int, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.elu = ELU()
        self.norms = _norms(norm, [channels] * 2)
        self.convs = nn.ModuleList(convolution(rank, channels, channels, bias=False) for _ in range(2))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(self.elu(norm(h, rows)))
        return x + h


class Fusion(nn.Module):
    """Σ_i resize(conv_i(norm_i(x_i))) at the size of the first input, by (bi-, tri-)linear interpolation."""

    def __init__(self, rank: int, inputs: Sequence[int], channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.mode = _MODES[rank]
        self.norms = _norms(norm, inputs)
        self.convs = nn.ModuleList(convolution(rank, width, channels) for width in inputs)

    def forward(self, xs: Sequence[Tensor], rows: Tensor) -> Tensor:
        size, fused = xs[0].shape[2:], None
        for x, norm, conv in zip(xs, self.norms, self.convs, strict=True):
            h = conv(norm(x, rows))
            if h.shape[2:] != size:
                h = F.interpolate(h, size, mode=self.mode, align_corners=True)
            fused = h if fused is None else fused + h
        assert fused is not None
        return fused


class ChainedPooling(nn.Module):
    """CRP: y_0 = p_0 = elu(x), p_i = conv(pool(norm(p_{i−1}))), y_i = y_{i−1} + p_i; a window of 5, stride 1."""

    def __init__(self, rank: int, channels: int, *, norm: Norm | None, pool: str, stages: int = 2) -> None:
        super().__init__()
        self.elu = ELU()
        self.pool = POOLS[pool]
        self.norms = _norms(norm, [channels] * stages)
        self.convs = nn.ModuleList(convolution(rank, channels, channels, bias=False) for _ in range(stages))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        y = path = self.elu(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            path = conv(self.pool(norm(path, rows)))
            y = y + path
        return y


class Refinement(nn.Module):
    """Two units on each input, fusion if there is more than one, chained pooling, and `units` units.

    Called as (x_1, …, x_n, rows), the finest x first, whose size the result has.
    """

    def __init__(
        self, rank: int, inputs: Sequence[int], channels: int, *, units: int, norm: Norm | None, pool: str
    ) -> None:
        super().__init__()
        self.adapt = nn.ModuleList(nn.ModuleList(Unit(rank, width, norm) for _ in range(2)) for width in inputs)
        alone = len(inputs) == 1 and inputs[0] == channels
        self.fusion = None if alone else Fusion(rank, inputs, channels, norm)
        self.pooling = ChainedPooling(rank, channels, norm=norm, pool=pool)
        self.units = nn.ModuleList(Unit(rank, channels, norm) for _ in range(units))

    def forward(self, *features: Tensor) -> Tensor:
        *xs, rows = features
        for place, units in enumerate(self.adapt):
            for unit in units.children():
                xs[place] = unit(xs[place], rows)
        h = xs[0] if self.fusion is None else self.fusion(xs, rows)
        h = self.pooling(h, rows)
        for unit in self.units:
            h = unit(h, rows)
        return h
