"""The picture beside the features: progressive input and output (Karras et al. 2020; Score SDE, appendix H).

A coarser and coarser copy of the input joins the features on the way down; on the way up the output grows from
coarse to fine. The copy is a picture ("skip") or features of its own ("residual"). Every part here is called
as (h, picture) after each level and gives both back; `picture` is None before the first level of an output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import ConvResample
from .layers import SiLU, convolution, group_norm, zeroed
from .resample import RESAMPLERS

Pair = tuple[Tensor, Tensor | None]


class Alone(nn.Module):
    """The features alone."""

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        return h, picture


class InputSkip(nn.Module):
    """picture ← down(picture); h ← [W picture, h] or W picture + h, W a 1×1 convolution."""

    def __init__(self, rank: int, channels: int, features: int, *, kind: str, combine: str) -> None:
        super().__init__()
        self.shrink = RESAMPLERS[kind](rank, "down")
        self.conv = convolution(rank, channels, features, width=1)
        self.concatenate = combine == "cat"

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        assert picture is not None
        picture = self.shrink(picture)
        seen = self.conv(picture)
        return torch.cat([seen, h], dim=1) if self.concatenate else seen + h, picture


class InputResidual(nn.Module):
    """picture, h ← gain (W down(picture) + h), W a convolution at the finer size."""

    def __init__(self, rank: int, channels: int, features: int, *, kind: str, gain: float) -> None:
        super().__init__()
        self.shrink = ConvResample(rank, channels, features, "down", kind=kind)
        self.gain = gain

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        assert picture is not None
        both = self.gain * (self.shrink(picture) + h)
        return both, both


class Reading(nn.Sequential):
    """W silu(norm(h)): what a level's features say about the output; W starts at zero if they say it directly."""

    def __init__(self, rank: int, features: int, channels: int, *, direct: bool) -> None:
        conv = convolution(rank, features, channels)
        super().__init__(group_norm(features), SiLU(), zeroed(conv) if direct else conv)


class OutputSkip(nn.Module):
    """picture ← up(picture) + W silu(norm(h)); the last picture is the output."""

    def __init__(self, rank: int, features: int, channels: int, *, kind: str) -> None:
        super().__init__()
        self.grow = RESAMPLERS[kind](rank, "up")
        self.read = Reading(rank, features, channels, direct=True)

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        seen = self.read(h)
        return h, seen if picture is None else self.grow(picture) + seen


class FirstResidual(nn.Module):
    """picture ← W silu(norm(h)), at the coarsest level."""

    def __init__(self, rank: int, features: int) -> None:
        super().__init__()
        self.read = Reading(rank, features, features, direct=False)

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        return h, self.read(h)


class OutputResidual(nn.Module):
    """picture, h ← gain (W up(picture) + h)."""

    def __init__(self, rank: int, channels: int, features: int, *, kind: str, gain: float) -> None:
        super().__init__()
        self.grow = ConvResample(rank, channels, features, "up", kind=kind)
        self.gain = gain

    def forward(self, h: Tensor, picture: Tensor | None) -> Pair:
        assert picture is not None
        both = self.gain * (self.grow(picture) + h)
        return both, both
