"""The blocks of the U-Net; each maps features x (B, C, *) and an embedding e (B, E) to new features.

Every residual branch ends in a layer that starts at zero, so a new network of any depth is the identity
between its first and last convolution, and gradients reach every block at full size from the first step.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Linear, SiLU, at_least_float32, convolution, group_norm, over, zeroed

Direction = Literal["down", "up"]


class Chain(nn.ModuleList):
    """Blocks one after the other, each steered by the same embedding."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self:
            x = block(x, e)
        return x


class Resample(nn.Module):
    """Halve each side by averaging, or double it by repetition; without parameters."""

    def __init__(self, rank: int, direction: Direction | None) -> None:
        super().__init__()
        self.rank = rank
        self.direction = direction

    def forward(self, x: Tensor) -> Tensor:
        if self.direction is None:
            return x
        if self.direction == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.rank - 1](x, 2)


class ConvResample(nn.Module):
    """DDPM's change of resolution: a convolution of stride 2 down, repetition and a convolution up."""

    def __init__(self, rank: int, channels: int, direction: Direction) -> None:
        super().__init__()
        down = direction == "down"
        self.resample = Resample(rank, None if down else "up")
        self.conv = convolution(rank, channels, channels, stride=2 if down else 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        return self.conv(self.resample(x))


class ResBlock(nn.Module):
    """shortcut(x) + conv₂(dropout(silu(norm₂(h) ∘ e))), h = conv₁(silu(norm₁(x))).

    Without `scale_shift` the embedding is added before norm₂ (Ho et al. 2020, appendix B); with it, it scales
    and shifts what comes out of norm₂, norm₂(h)(1 + s) + b (Nichol & Dhariwal 2021). `resample` changes the
    resolution inside both branches (BigGAN's blocks, as in Dhariwal & Nichol 2021).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        rank: int,
        embedding: int,
        dropout: float = 0.0,
        scale_shift: bool = False,
        resample: Direction | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.silu = SiLU()
        self.resample = Resample(rank, resample)
        self.norm1 = group_norm(in_channels)
        self.conv1 = convolution(rank, in_channels, out_channels)
        self.embed = Linear(embedding, out_channels * (2 if scale_shift else 1))
        self.norm2 = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(convolution(rank, out_channels, out_channels))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else convolution(rank, in_channels, out_channels, width=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(self.resample(self.silu(self.norm1(x))))
        e = over(self.embed(self.silu(e)), h)
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        return self.shortcut(self.resample(x)) + self.conv2(self.dropout(self.silu(h)))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ/√d) v; written out on a CPU: its fused kernel is slow backwards, once differentiable."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    logits = at_least_float32(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2))
    return torch.softmax(logits, dim=-1).to(v.dtype) @ v


class Attention(nn.Module):
    """x + W softmax(q kᵀ/√d) v over all positions, with q, k, v linear in norm(x) (Vaswani et al. 2017)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads must divide the channels; got {heads} heads, {channels} channels")
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = Linear(channels, 3 * channels)
        self.out = zeroed(Linear(channels, channels))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        h = _attend(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(h).transpose(1, 2).reshape(x.shape)
