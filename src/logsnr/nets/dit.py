"""DiT, the diffusion transformer (Peebles & Xie 2023): a picture as a sequence of patches, steered by adaLN-Zero.

Patches of p pixels an axis become tokens of `width` features, a fixed table of sines says where each was, and every
block reads the label and the class through the scale, shift and gate of its two branches. Gates start at zero, so a
new network of any depth is the identity between its first and last matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import heads_of, mix
from .embeddings import Conditioning, sinusoidal
from .frame import framed, parse, rank_of, run
from .layers import GELU, Linear, SiLU, zeroed


@dataclass(frozen=True, kw_only=True)
class DiTOptions:
    """What may be chosen about a DiT; the defaults are DiT-S/2's.

    `patch`: pixels an axis of a patch. `width`: features of a token, at least 2 per spatial axis, a multiple of
    `heads`. `depth`: blocks. `expansion`: times `width`, the hidden features of a block's perceptron.
    `frequencies`: sinusoidal features of the label. `checkpointing`: recompute each block in the backward pass.
    """

    patch: int = 2
    width: int = 384
    depth: int = 12
    heads: int = 6
    expansion: int = 4
    frequencies: int = 256
    dropout: float = 0.0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if min(self.patch, self.width, self.depth, self.heads, self.expansion) < 1:
            raise ValueError(f"patch, width, depth, heads and expansion are positive integers; got {self}")


def patches(x: Tensor, patch: int) -> Tensor:
    """(B, C, n₁p, …, n_r p) to tokens (B, n₁⋯n_r, C pʳ), places in row-major order."""
    rank = x.ndim - 2
    split = x.reshape(*x.shape[:2], *chain.from_iterable((size // patch, patch) for size in x.shape[2:]))
    places, inside = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    return split.permute(0, *places, 1, *inside).flatten(1, rank).flatten(2)


def picture(tokens: Tensor, grid: Sequence[int], patch: int) -> Tensor:
    """The inverse of `patches`, for n = `grid` places along the axes."""
    rank = len(grid)
    split = tokens.reshape(len(tokens), *grid, -1, *(patch,) * rank)
    order = chain.from_iterable((1 + axis, 2 + rank + axis) for axis in range(rank))
    return split.permute(0, 1 + rank, *order).reshape(len(tokens), -1, *(n * patch for n in grid))


def places(grid: Sequence[int], width: int, device: torch.device) -> Tensor:
    """(n₁⋯n_r, width): the sinusoidal features of each axis's index, side by side, in equal shares of `width`."""
    shares = [width // len(grid)] * (len(grid) - 1)
    shares.append(width - sum(shares))
    tables = []
    for axis, (n, share) in enumerate(zip(grid, shares, strict=True)):
        along = sinusoidal(torch.arange(n, device=device), share)
        spread = [1] * axis + [n] + [1] * (len(grid) - 1 - axis)
        tables.append(along.reshape(*spread, share).expand(*grid, share))
    return torch.cat(tables, dim=-1).flatten(0, -2)


def modulate(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """h (1 + scale) + shift, tokens (B, N, D) by features (B, D)."""
    return torch.addcmul(shift.unsqueeze(1), h, 1 + scale.unsqueeze(1))


class Block(nn.Module):
    """h + g₁ attend(norm(h)(1 + s₁) + b₁), then h + g₂ perceptron(norm(h)(1 + s₂) + b₂): adaLN-Zero (§3.2).

    (b₁, s₁, g₁, b₂, s₂, g₂) are linear in silu(e) and start at zero, so a new block is the identity.
    """

    def __init__(self, width: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads_of(width, heads)
        self.silu = SiLU()
        self.steer = zeroed(Linear(width, 6 * width))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        hidden = expansion * width
        self.perceptron = nn.Sequential(Linear(width, hidden), GELU(), nn.Dropout(dropout), Linear(hidden, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        b1, s1, g1, b2, s2, g2 = self.steer(self.silu(e)).chunk(6, dim=-1)
        mixed = mix(self.qkv(modulate(self.norm(h), b1, s1)), self.heads, training=self.training)
        h = torch.addcmul(h, g1.unsqueeze(1), self.out(mixed))
        return torch.addcmul(h, g2.unsqueeze(1), self.perceptron(modulate(self.norm(h), b2, s2)))


class DiT(nn.Module):
    """network(x, label, classes=None, vector=None): x (B, C, *spatial), label (B,), to (B, out_channels, *spatial).

    Args:
        shape: (C, *spatial) of one example, with one to three spatial axes. Only C and the rank bind: any size runs.
        num_classes, vector_features: see `Conditioning`.
        out_channels: C unless given.
        options: see `DiTOptions`.
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
        self.in_channels, self.rank = shape[0], rank_of(shape, "DiT")
        self.options = o = parse(DiTOptions, "dit", options)
        if o.width < 2 * self.rank:
            raise ValueError(f"width must be at least 2 per spatial axis, {2 * self.rank}; got {o.width}")
        pixels = o.patch**self.rank
        self.embedding = Conditioning(o.frequencies, o.width, num_classes, vector_features)
        self.stem = Linear(self.in_channels * pixels, o.width)
        self.blocks = nn.ModuleList(Block(o.width, o.heads, o.expansion, o.dropout) for _ in range(o.depth))
        self.silu = SiLU()
        self.steer = zeroed(Linear(o.width, 2 * o.width))
        self.norm = nn.LayerNorm(o.width, eps=1e-6, elementwise_affine=False)
        self.head = zeroed(Linear(o.width, (self.in_channels if out_channels is None else out_channels) * pixels))

    def forward(self, x: Tensor, label: Tensor, classes: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        o = self.options
        x, cut = framed(x, self.in_channels, self.rank, o.patch)
        grid = [size // o.patch for size in x.shape[2:]]
        tokens = self.stem(patches(x, o.patch))
        h = tokens + places(grid, o.width, x.device).to(tokens.dtype)
        e = self.embedding(label, classes, vector)
        for block in self.blocks:
            h = run(block, h, e, checkpointing=o.checkpointing)
        shift, scale = self.steer(self.silu(e)).chunk(2, dim=-1)
        return cut(picture(self.head(modulate(self.norm(h), shift, scale)), grid, o.patch))
