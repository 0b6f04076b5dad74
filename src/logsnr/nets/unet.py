"""The U-Net of DDPM (Ho et al. 2020, appendix B) with the options of ADM (Dhariwal & Nichol 2021).

A picture is made coarse level by level and fine again; every level on the way up sees what the level on the
way down kept. Sizes are no concern of the user: the input is padded with zeros to the next multiple of the
coarsest level's factor and the output is cropped back, over one, two or three spatial axes alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .blocks import Attention, Chain, ConvResample, ResBlock
from .embeddings import Conditioning
from .frame import framed, parse, rank_of, run
from .layers import SiLU, convolution, group_norm, normalised, zeroed
from .resample import Direction, Resample


@dataclass(frozen=True, kw_only=True)
class UNetOptions:
    """What may be chosen about a U-Net; the defaults are DDPM's.

    `multipliers` times `channels` are the widths of the levels, finest first; level i works at the size
    divided by 2^i. `attention` lists the factors by which the input is reduced where attention is used: 2
    means half the size. Where attention is used at all, the middle has it too. `head_width`, when given,
    replaces `heads`. `resample` is "conv" (DDPM) or "resnet" (ADM). `checkpointing` recomputes each block in
    the backward pass. `groups`: of the normalisations, see `group_norm`.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    blocks: int = 2
    attention: Sequence[int] = (2,)
    heads: int = 1
    head_width: int | None = None
    dropout: float = 0.0
    scale_shift: bool = False
    resample: str = "conv"
    groups: int | None = None
    checkpointing: bool = False

    def __post_init__(self) -> None:
        factors = [2**level for level in range(len(self.multipliers))]
        if self.resample not in ("conv", "resnet"):
            raise ValueError(f"unknown resample {self.resample!r}; known: conv, resnet")
        if (
            not factors
            or min(self.channels, self.blocks, self.heads, self.head_width or 1, self.groups or 1, *self.multipliers)
            < 1
        ):
            raise ValueError(f"channels, multipliers, blocks and heads are positive integers; got {self}")
        if not set(self.attention) <= set(factors):
            raise ValueError(f"attention factors {list(self.attention)} not all among the levels' {factors}")

    @classmethod
    def parse(cls, options: dict[str, Any]) -> UNetOptions:
        """Options by name; ValueError with the known names for one that is unknown."""
        return parse(cls, "unet", options)


class UNet(nn.Module):
    """network(x, label, classes=None, vector=None): x (B, C, *spatial), label (B,), to (B, out_channels, *spatial).

    Args:
        shape: (C, *spatial) of one example, with one to three spatial axes. Only C and the rank bind: any
            size runs.
        num_classes, vector_features: see `Conditioning`.
        out_channels: C unless given.
        options: see `UNetOptions`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        num_classes: int = 0,
        vector_features: int = 0,
        out_channels: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.in_channels, self.rank = shape[0], rank_of(shape, "U-Net")
        self.options = options_ = UNetOptions.parse(options)
        width = options_.channels
        self.embedding = Conditioning(max(2, width), 4 * width, num_classes, vector_features)
        self.stem = convolution(self.rank, self.in_channels, width)
        self.down, skips = self._down()
        coarsest = skips[-1]
        middle: list[nn.Module] = [self._residual(coarsest, coarsest) for _ in range(2)]
        if options_.attention:
            middle.insert(1, self._attention(coarsest))
        self.middle = Chain(middle)
        self.up = self._up(skips)
        finest = width * options_.multipliers[0]
        last = convolution(self.rank, finest, self.in_channels if out_channels is None else out_channels)
        self.head = nn.Sequential(group_norm(finest, options_.groups), SiLU(), zeroed(last))

    def _down(self) -> tuple[nn.ModuleList, list[int]]:
        """The way down, and the channels that the stem and each of its chains leave for the way up."""
        options, chains = self.options, nn.ModuleList()
        skips = [options.channels]
        for level, multiplier in enumerate(options.multipliers):
            width = options.channels * multiplier
            for _ in range(options.blocks):
                chains.append(self._chain(skips[-1], width, level))
                skips.append(width)
            if level < len(options.multipliers) - 1:
                chains.append(Chain([self._change(width, "down")]))
                skips.append(width)
        return chains, skips

    def _up(self, skips: list[int]) -> nn.ModuleList:
        """The way up: one chain for each skip, the last of a level ending at the next finer size."""
        options, chains = self.options, nn.ModuleList()
        current, skips = skips[-1], list(skips)
        for level in reversed(range(len(options.multipliers))):
            width = options.channels * options.multipliers[level]
            for _ in range(options.blocks + 1):
                chain = self._chain(current + skips.pop(), width, level)
                chains.append(chain)
                current = width
            if level:
                chain.append(self._change(width, "up"))
        return chains

    def _chain(self, in_channels: int, out_channels: int, level: int) -> Chain:
        chain = Chain([self._residual(in_channels, out_channels)])
        if 2**level in self.options.attention:
            chain.append(self._attention(out_channels))
        return chain

    def _attention(self, channels: int) -> Attention:
        width = self.options.head_width
        heads = max(1, channels // width) if width else self.options.heads
        return Attention(channels, heads, groups=self.options.groups)

    def _change(self, channels: int, direction: Direction) -> nn.Module:
        if self.options.resample == "conv":
            return ConvResample(self.rank, channels, channels, direction)
        return self._residual(channels, channels, Resample(self.rank, direction))

    def _residual(self, in_channels: int, out_channels: int, resample: nn.Module | None = None) -> ResBlock:
        return ResBlock(
            in_channels,
            out_channels,
            rank=self.rank,
            embedding=4 * self.options.channels,
            dropout=self.options.dropout,
            scale_shift=self.options.scale_shift,
            resample=resample,
            groups=self.options.groups,
        )

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        x, cut = framed(x, self.in_channels, self.rank, 2 ** (len(self.options.multipliers) - 1))
        h = self.stem(x)
        e = self.embedding(label, classes, vector)
        skips = [h]
        for chain in self.down:
            h = self._run(chain, h, e)
            skips.append(h)
        h = self._run(self.middle, h, e)
        for chain in self.up:
            h = self._run(chain, torch.cat([h, skips.pop()], dim=1), e)
        norm, _, last = self.head
        return cut(last(normalised(cast(nn.GroupNorm, norm), h)))

    def _run(self, chain: nn.Module, h: Tensor, e: Tensor) -> Tensor:
        return run(chain, h, e, checkpointing=self.options.checkpointing)
