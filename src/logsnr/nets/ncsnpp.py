"""NCSN++ and DDPM++ (Song et al. 2021, "Score SDE", appendix H): the U-Net of DDPM with five changes.

BigGAN's residual blocks change the resolution inside themselves, with a 1×1 convolution on the shortcut; sides are
halved and doubled with a filter (`resample`); sums of two branches are divided by √2; a copy of the picture accompanies
the features down or up (`progressive`); the label is seen through random Fourier features. DDPM++ is the same with
the box in the place of the filter, no copy, and the sines of DDPM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .blocks import Attention, Chain, ResBlock
from .embeddings import Conditioning, FourierFeatures
from .frame import framed, one_of, parse, rank_of, run
from .layers import convolution
from .progressive import Alone, FirstResidual, InputResidual, InputSkip, OutputResidual, OutputSkip, Reading
from .resample import RESAMPLERS, Direction


@dataclass(frozen=True, kw_only=True)
class NCSNppOptions:
    """What may be chosen about an NCSN++; the defaults are the paper's for CIFAR-10 and the VE process.

    `channels`, `multipliers`, `blocks`, `attention` (factors), `heads`, `dropout`, `checkpointing`: as in the U-Net;
    on the way up attention stands once a level, after its blocks. `resample`: "fir" or "box". `rescale`: sums are
    divided by √2. `progressive_input`, `progressive_output`: "none", "skip" or "residual"; `combine`: "sum" or
    "cat", how a skip joins the features. `embedding`: "fourier", of frequencies N(0, fourier_scale²) in periods
    per unit of the label (the paper's label is log σ and its scale 16), or "positional".
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    blocks: int = 4
    attention: Sequence[int] = (2,)
    heads: int = 1
    dropout: float = 0.1
    resample: str = "fir"
    rescale: bool = True
    progressive_input: str = "residual"
    progressive_output: str = "none"
    combine: str = "sum"
    embedding: str = "fourier"
    fourier_scale: float = 16.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        factors = [2**level for level in range(len(self.multipliers))]
        if not factors or min(self.channels, self.blocks, self.heads, *self.multipliers) < 1:
            raise ValueError(f"channels, multipliers, blocks and heads are positive integers; got {self}")
        if not set(self.attention) <= set(factors):
            raise ValueError(f"attention factors {list(self.attention)} not all among the levels' {factors}")
        one_of(tuple(RESAMPLERS), resample=self.resample)
        ways = ("none", "skip", "residual")
        one_of(ways, progressive_input=self.progressive_input, progressive_output=self.progressive_output)
        one_of(("sum", "cat"), combine=self.combine)
        one_of(("fourier", "positional"), embedding=self.embedding)

    @property
    def gain(self) -> float:
        """What a sum of two branches is multiplied by."""
        return 0.5**0.5 if self.rescale else 1.0


class Descent(nn.Module):
    """One level on the way down: its chains, the change to the next size, and the picture that joins there."""

    def __init__(self, chains: Sequence[nn.Module], change: nn.Module | None, joined: nn.Module) -> None:
        super().__init__()
        self.chains, self.change, self.joined = nn.ModuleList(chains), change, joined
        self.checkpointing = False

    def forward(self, h: Tensor, e: Tensor, picture: Tensor) -> tuple[list[Tensor], Tensor]:
        """All features that the way up will see, and the picture."""
        kept = []
        for chain in self.chains:
            h = run(chain, h, e, checkpointing=self.checkpointing)
            kept.append(h)
        if self.change is not None:
            h, picture = self.joined(run(self.change, h, e, checkpointing=self.checkpointing), picture)
            kept.append(h)
        return kept, picture


class Ascent(nn.Module):
    """One level on the way up: a chain for each of the features kept, the output so far, the change of size."""

    def __init__(self, chains: Sequence[nn.Module], shown: nn.Module, change: nn.Module | None) -> None:
        super().__init__()
        self.chains, self.shown, self.change = nn.ModuleList(chains), shown, change
        self.checkpointing = False

    def forward(self, h: Tensor, e: Tensor, kept: list[Tensor], picture: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for chain, feature in zip(self.chains, reversed(kept), strict=True):
            h = run(chain, torch.cat([h, feature], dim=1), e, checkpointing=self.checkpointing)
        h, picture = self.shown(h, picture)
        return h if self.change is None else run(self.change, h, e, checkpointing=self.checkpointing), picture


class NCSNpp(nn.Module):
    """network(x, label, classes=None, vector=None): x (B, C, *spatial), label (B,), to (B, out_channels, *spatial).

    Args:
        shape: (C, *spatial) of one example, with one to three spatial axes. Only C and the rank bind: any size runs.
        num_classes, vector_features: see `Conditioning`.
        out_channels: C unless given.
        options: see `NCSNppOptions`.
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
        self.in_channels, self.rank = shape[0], rank_of(shape, "NCSN++")
        self.out_channels = self.in_channels if out_channels is None else out_channels
        self.options = o = parse(NCSNppOptions, "ncsnpp", options)
        fourier = o.embedding == "fourier"
        encode = FourierFeatures(2 * o.channels, o.fourier_scale) if fourier else None
        features = 2 * o.channels if fourier else max(2, o.channels)
        self.embedding = Conditioning(features, 4 * o.channels, num_classes, vector_features, encode=encode)
        self.stem = convolution(self.rank, self.in_channels, o.channels)
        self.down, kept = self._down()
        coarsest = kept[-1]
        middle: list[nn.Module] = [self._residual(coarsest, coarsest) for _ in range(2)]
        if o.attention:
            middle.insert(1, self._attention(coarsest))
        self.middle = Chain(middle)
        self.up = self._up(kept)
        finest = o.channels * o.multipliers[0]
        read = o.progressive_output != "skip"
        self.head = Reading(self.rank, finest, self.out_channels, direct=True) if read else None
        for level in [*self.down, *self.up]:
            level.checkpointing = o.checkpointing

    def _down(self) -> tuple[nn.ModuleList, list[int]]:
        """The way down, and the channels of all features that it keeps for the way up."""
        o, levels, kept, picture = self.options, nn.ModuleList(), [self.options.channels], self.in_channels
        for level, multiplier in enumerate(o.multipliers):
            chains, width = [], o.channels * multiplier
            change: nn.Module | None = None
            joined: nn.Module = Alone()
            for _ in range(o.blocks):
                chains.append(self._chain(kept[-1], width, attention=2**level in o.attention))
                kept.append(width)
            if level < len(o.multipliers) - 1:
                change, joined = self._change(width, "down"), self._joined(picture, width)
                picture = width if o.progressive_input == "residual" else picture
                kept.append(width * (2 if o.progressive_input == "skip" and o.combine == "cat" else 1))
            levels.append(Descent(chains, change, joined))
        return levels, kept

    def _up(self, kept: list[int]) -> nn.ModuleList:
        """The way up: one chain for each of the features kept, attention after the last of a level."""
        o, levels, current, kept = self.options, nn.ModuleList(), kept[-1], list(kept)
        coarser = 0  # channels of the level before, none before the first
        for level in reversed(range(len(o.multipliers))):
            chains, width = [], o.channels * o.multipliers[level]
            for block in range(o.blocks + 1):
                last = block == o.blocks
                chains.append(self._chain(current + kept.pop(), width, attention=last and 2**level in o.attention))
                current = width
            change = self._change(width, "up") if level else None
            levels.append(Ascent(chains, self._shown(coarser, width), change))
            coarser = width
        return levels

    def _joined(self, picture: int, width: int) -> nn.Module:
        o = self.options
        if o.progressive_input == "skip":
            return InputSkip(self.rank, picture, width, kind=o.resample, combine=o.combine)
        if o.progressive_input == "residual":
            return InputResidual(self.rank, picture, width, kind=o.resample, gain=o.gain)
        return Alone()

    def _shown(self, coarser: int, width: int) -> nn.Module:
        o = self.options
        if o.progressive_output == "skip":
            return OutputSkip(self.rank, width, self.out_channels, kind=o.resample)
        if o.progressive_output == "none" or len(o.multipliers) == 1:
            return Alone()
        if not coarser:
            return FirstResidual(self.rank, width)
        return OutputResidual(self.rank, coarser, width, kind=o.resample, gain=o.gain)

    def _chain(self, in_channels: int, out_channels: int, *, attention: bool) -> Chain:
        chain = Chain([self._residual(in_channels, out_channels)])
        if attention:
            chain.append(self._attention(out_channels))
        return chain

    def _attention(self, channels: int) -> Attention:
        return Attention(channels, self.options.heads, gain=self.options.gain)

    def _change(self, channels: int, direction: Direction) -> ResBlock:
        """BigGAN's block: the shortcut is convolved wherever the size changes, not only where the channels do."""
        block = self._residual(channels, channels, RESAMPLERS[self.options.resample](self.rank, direction))
        block.shortcut = convolution(self.rank, channels, channels, width=1)
        return block

    def _residual(self, in_channels: int, out_channels: int, resample: nn.Module | None = None) -> ResBlock:
        return ResBlock(
            in_channels,
            out_channels,
            rank=self.rank,
            embedding=4 * self.options.channels,
            dropout=self.options.dropout,
            resample=resample,
            gain=self.options.gain,
        )

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        x, cut = framed(x, self.in_channels, self.rank, 2 ** (len(self.options.multipliers) - 1))
        e = self.embedding(label, classes, vector)
        kept, picture = [self.stem(x)], x
        for level in self.down:
            features, picture = level(kept[-1], e, picture)
            kept += features
        h = run(self.middle, kept[-1], e, checkpointing=self.options.checkpointing)
        for number, level in enumerate(self.up):
            first = len(kept) - len(cast(Ascent, level).chains)
            h, picture = level(h, e, kept[first:], picture if number else None)
            del kept[first:]
        return cut(picture if self.head is None else self.head(h))
