"""The blocks of the U-Net; each maps features x (B, C, *) and an embedding e (B, E) to new features.

Every residual branch ends in a layer that starts at zero, so a new network of any depth is the identity
between its first and last convolution, and gradients reach every block at full size from the first step.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Linear, SiLU, at_least_float32, convolution, group_norm, normalised, whole_tiles, zeroed
from .resample import RESAMPLERS, Blur, Direction, doubled_then_convolved


class Chain(nn.ModuleList):
    """Blocks one after the other, each steered by the same embedding."""

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self:
            x = block(x, e)
        return x


class ConvResample(nn.Module):
    """A change of resolution with a convolution: DDPM's ("box"), or Score SDE's with the filter of NCSN++ ("fir").

    Up: repeated or interpolated, then convolved. Down: a convolution of stride 2, of the blurred features for "fir".
    """

    def __init__(
        self, rank: int, in_channels: int, out_channels: int, direction: Direction, *, kind: str = "box"
    ) -> None:
        super().__init__()
        stride, padding = (2, 1) if direction == "down" else (1, 1)
        self.resample: nn.Module = nn.Identity()
        if direction == "up":
            self.resample = RESAMPLERS[kind](rank, "up")
        elif kind == "fir":
            self.resample, padding = Blur(rank), 0
        self.conv = convolution(rank, in_channels, out_channels, stride=stride, padding=padding)
        self.phases = (rank, direction, kind) == (2, "up", "box")

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        if self.phases and x.dtype == torch.bfloat16:
            conv = cast(nn.Conv2d, self.conv)
            return doubled_then_convolved(x, conv.weight, cast(Tensor, conv.bias))
        return self.conv(self.resample(x))


class ResBlock(nn.Module):
    """shortcut(x) + conv₂(dropout(silu(norm₂(h) ∘ e))), h = conv₁(silu(norm₁(x))).

    Without `scale_shift` the embedding is added before norm₂ (Ho et al. 2020, appendix B); with it, it scales
    and shifts what comes out of norm₂, norm₂(h)(1 + s) + b (Nichol & Dhariwal 2021). `resample` changes the
    resolution inside both branches (BigGAN's blocks, as in Dhariwal & Nichol 2021). The sum is multiplied by `gain`:
    1/√2 keeps the variance of two equal branches (Score SDE, appendix H).
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
        resample: nn.Module | None = None,
        gain: float = 1.0,
        groups: int | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift, self.gain = scale_shift, gain
        self.silu = SiLU()
        self.resample = nn.Identity() if resample is None else resample
        self.norm1 = group_norm(in_channels, groups)
        self.conv1 = convolution(rank, in_channels, out_channels)
        self.embed = Linear(embedding, out_channels * (2 if scale_shift else 1))
        self.norm2 = group_norm(out_channels, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(convolution(rank, out_channels, out_channels))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else convolution(rank, in_channels, out_channels, width=1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(self.resample(normalised(self.norm1, x)))
        e = self.embed(self.silu(e))
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = normalised(self.norm2, h, scale=scale, shift=shift)
        else:
            h = normalised(self.norm2, h, e=e)
        y = self.shortcut(self.resample(x)) + self.conv2(self.dropout(h))
        return y if self.gain == 1 else self.gain * y


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ/√d) v; written out on a CPU: its fused kernel is slow backwards, once differentiable."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    logits = at_least_float32(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2))
    return torch.softmax(logits, dim=-1).to(v.dtype) @ v


def _attend_by_tiles(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`_attend` with every matrix padded with zeros to whole tiles, as in `Linear` and for the same reason."""
    tokens, features = q.shape[-2:]
    logits = whole_tiles(q * features**-0.5) @ whole_tiles(k).transpose(-1, -2)
    weights = torch.softmax(at_least_float32(logits[..., :tokens, :tokens]), dim=-1).to(v.dtype)
    return (whole_tiles(weights) @ whole_tiles(v))[..., :tokens, :features]


def mix(qkv: Tensor, heads: int, *, training: bool) -> Tensor:
    """(B, N, 3C) queries, keys and values of N tokens to the (B, N, C) that `heads` heads of attention make of them."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    attend = _attend if training or qkv.device.type != "cpu" else _attend_by_tiles
    return attend(q, k, v).transpose(1, 2).flatten(2)


def attend_as_one(x: Tensor, qkv: nn.Linear, out: nn.Linear) -> Tensor:
    """One head of attention over tokens x (B, N, C) by two maps instead of four.

    softmax(q kᵀ/√C) with q = Wq x + bq, k = Wk x + bk is softmax(y xᵀ), y = Wkᵀ(Wq x + bq)/√C, since what bk adds is
    the same for all keys; and Wo(p v) + bo with v = Wv x + bv is (Wo Wv) p x + Wo bv + bo, since each row of p sums
    to 1.
    """
    with torch.autocast(x.device.type, enabled=False):
        (wq, wk, wv), (bq, _, bv) = qkv.weight.float().chunk(3), qkv.bias.float().chunk(3)
        scaled = wk.T * x.shape[-1] ** -0.5
        asked, asked_bias = scaled @ wq, scaled @ bq
        told, told_bias = out.weight.float() @ wv, out.weight.float() @ bv + out.bias.float()
        x = x.contiguous()
        y = F.linear(x, asked.to(x.dtype), asked_bias.to(x.dtype))
        p = torch.softmax(y @ x.transpose(1, 2), dim=-1)
        return F.linear(p @ x, told.to(x.dtype), told_bias.to(x.dtype))


def heads_of(channels: int, heads: int) -> int:
    """`heads`; ValueError if they do not divide the channels."""
    if heads < 1 or channels % heads:
        raise ValueError(f"heads must divide the channels; got {heads} heads, {channels} channels")
    return heads


class Attention(nn.Module):
    """gain (x + W softmax(q kᵀ/√d) v) over all positions, with q, k, v linear in norm(x) (Vaswani et al. 2017)."""

    def __init__(self, channels: int, heads: int, *, gain: float = 1.0, groups: int | None = None) -> None:
        super().__init__()
        self.heads, self.gain = heads_of(channels, heads), gain
        self.norm = group_norm(channels, groups)
        self.qkv = Linear(channels, 3 * channels)
        self.out = zeroed(Linear(channels, channels))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = normalised(self.norm, x, activate=False).flatten(2).transpose(1, 2)
        if self.heads == 1 and h.dtype == torch.bfloat16 and h.device.type == "cpu":
            h = attend_as_one(h, self.qkv, self.out)
        else:
            h = self.out(mix(self.qkv(h), self.heads, training=self.training))
        y = x + h.transpose(1, 2).reshape(x.shape)
        return y if self.gain == 1 else self.gain * y
