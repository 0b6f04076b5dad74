"""VDM's U-Net, which never changes the resolution (Kingma et al. 2021, appendix B; V13).

A likelihood counts the finest detail as much as the coarsest, so nothing is thrown away on the way down: all `depth`
blocks down and depth + 1 blocks up work on the full picture, and block i of the way up sees what block depth − i of
the way down made. Attention stands in the middle alone.

Fourier features sin 2ⁿπx, cos 2ⁿπx are appended to the channels (V11): a float32 network is too smooth in x to see of
itself what a change of half a grey level means, and at small noise that is all there is to see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import Attention, Chain, ResBlock
from .embeddings import Conditioning
from .layers import SiLU, at_least_float32, convolution, group_norm, zeroed


def fourier_features(x: Tensor, octaves: Sequence[float]) -> Tensor:
    """sin 2ⁿπx for every channel and n, then the cosines; each in the order c₀n₀, c₀n₁, …, c₁n₀, … (V11).

    x: (B, C, *), computed in float32 at least. Returns (B, 2 C len(octaves), *).
    """
    frequency = torch.tensor([2.0**n * math.pi for n in octaves], dtype=torch.float64, device="cpu").to(x)
    angle = at_least_float32(x).unsqueeze(2) * frequency.reshape(1, 1, -1, *(1,) * (x.ndim - 2))
    return torch.cat([angle.sin(), angle.cos()], dim=1).flatten(1, 2)


def positional(label: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    """[sin(label·ω_k), cos(label·ω_k)], ω_k = max_period^(−k/(h−1)), k = 0..h−1, h = ⌊dim/2⌋; 0 last if dim is odd.

    The embedding of the programs of DDPM, Score SDE and VDM. label: (B,); returns (B, dim), in float32 at least.
    """
    label = at_least_float32(label)
    half = dim // 2
    k = torch.arange(half, dtype=label.dtype, device=label.device)
    angle = label.unsqueeze(-1) * torch.exp(-math.log(max_period) / max(1, half - 1) * k)
    return nn.functional.pad(torch.cat([angle.sin(), angle.cos()], dim=-1), (0, dim % 2))


class VDMUNet(nn.Module):
    """network(x, label, classes=None, vector=None): x (B, C, *spatial), label (B,), to (B, out_channels, *spatial).

    Args:
        shape: (C, *spatial) of one example, with one to three spatial axes. Only C and the rank bind.
        num_classes, vector_features: 0 for none; see `Conditioning`.
        out_channels: C unless given.
        channels: of every block, and features of the label's embedding.
        depth: blocks down.
        fourier: the n of V11. "auto" is for whoever knows the data to replace, and else none.
        label_range: the labels that become 0 and 1000 before they are embedded.
        base_measure: add x to the output (its first C channels): the network says what it knows beyond "all is noise".
        base_channels: C of x, where further channels of the input are conditions.
        attention: attend after every block, not in the middle alone (an option of the authors' program).
        scale_shift: see `ResBlock`; the authors add.
        dropout: probability of dropping a feature inside a block while training.
        checkpointing: recompute each block in the backward pass.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        num_classes: int = 0,
        vector_features: int = 0,
        out_channels: int | None = None,
        channels: int = 128,
        depth: int = 32,
        fourier: Sequence[float] | str = "auto",
        label_range: Sequence[float] = (-13.3, 5.0),
        base_measure: bool = True,
        base_channels: int | None = None,
        attention: bool = False,
        scale_shift: bool = False,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not 2 <= len(shape) <= 4 or min(channels - 1, depth) < 1:
            given = f"shape {tuple(shape)}, {channels} channels, depth {depth}"
            raise ValueError(f"VDM's U-Net takes (C, *spatial) with 1 to 3 spatial axes, channels > 1; got {given}")
        if (fourier != "auto" and isinstance(fourier, str)) or not label_range[0] < label_range[1]:
            raise ValueError(f"fourier = {fourier!r}, label_range = {label_range}; allowed: numbers n, and low < high")
        self.in_channels, self.rank = shape[0], (rank := len(shape) - 1)
        out_channels = self.in_channels if out_channels is None else out_channels
        self.fourier = () if isinstance(fourier, str) else tuple(fourier)
        self.checkpointing = checkpointing
        self.base_measure, self.base_channels = base_measure, base_channels or self.in_channels
        self.low, high = label_range
        self.label_scale = 1000 / (high - self.low)

        def block(width: int = channels) -> Chain:
            residual = ResBlock(
                width, channels, rank=rank, embedding=4 * channels, dropout=dropout, scale_shift=scale_shift
            )
            return Chain([residual, Attention(channels, heads=1)] if attention else [residual])

        encode = partial(positional, dim=channels)
        self.embedding = Conditioning(channels, 4 * channels, num_classes, vector_features, encode=encode)
        self.stem = convolution(rank, self.in_channels * (1 + 2 * len(self.fourier)), channels)
        self.down = nn.ModuleList(block() for _ in range(depth))
        self.middle = Chain([block()[0], Attention(channels, heads=1), block()[0]])
        self.up = nn.ModuleList(block(2 * channels) for _ in range(depth + 1))
        self.head = nn.Sequential(group_norm(channels), SiLU(), zeroed(convolution(rank, channels, out_channels)))

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        if x.ndim != self.rank + 2 or x.shape[1] != self.in_channels:
            wanted = f"(B, {self.in_channels}{', *' * self.rank})"
            raise ValueError(f"this network takes x of shape {wanted}; got {tuple(x.shape)}")
        e = self.embedding((label - self.low) * self.label_scale, classes, vector)
        h = self.stem(torch.cat([x, fourier_features(x, self.fourier)], dim=1) if self.fourier else x)
        skips = [h]
        for block in self.down:
            skips.append(self._run(block, skips[-1], e))
        h = self._run(self.middle, skips[-1], e)
        for block in self.up:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), e)
        y = self.head(h).to(x.dtype)
        if self.base_measure:
            base = self.base_channels
            y = torch.cat([y[:, :base] + x[:, :base], y[:, base:]], dim=1)
        return y

    def _run(self, block: nn.Module, h: Tensor, e: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(block, h, e, use_reentrant=False)
            return recomputed
        features: Tensor = block(h, e)
        return features
