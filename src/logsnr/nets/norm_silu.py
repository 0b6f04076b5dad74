"""silu(g · x̂ + o), x̂ = GroupNorm without gain (Wu & He 2018) of x + e, in two passes over x in either direction.

PyTorch's own kernel for features whose channels lie innermost is many times slower backwards than for those whose
pixels do, while convolutions in bfloat16 want the channels innermost. With the sums over pixels, per example and
channel,

    S₁ = Σ (x − p),   S₂ = Σ (x − p)²,   p the first pixel,

mean μ and deviation 1/r of the groups, shifted by e, follow from (B, C) numbers alone, and z = a x + c with a = g r,
c = o + a (e − μ). Backwards, with dz = dy · silu′(z), T₁ = Σ dz, T₂ = Σ dz x̂ = r (Σ dz (x − p) + (p + e − μ) T₁),

    do = T₁,   dg = T₂,   dx = a dz − r (P + x̂ Q),   de = Σ dx,   P, Q the means of g T₁, g T₂ over a group's numbers.

The passes are a page of C (`norm_silu.c`) that the machine's own compiler translates (`native.py`); without a compiler
everything runs as before, on PyTorch's kernels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native


def suits(x: Tensor) -> bool:
    """Whether x (B, C, *) is what the passes are for."""
    return native.pictures(x)


class _NormSiLU(torch.autograd.Function):
    """x (B, N, C) bfloat16; e (B, C) or None; gain, offset (B, C) or (1, C), float32; all contiguous."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, e: Tensor | None, gain: Tensor, offset: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        batch, channels = len(x), x.shape[2]
        y, kept = torch.empty_like(x), gain.new_empty(5, batch, channels)
        each = len(gain) > 1
        native.call("norm_silu", *x.shape, groups, each, eps, silu, x, e, gain, offset, y, kept)
        ctx.save_for_backward(x, e, gain, offset, kept)
        ctx.how, ctx.eps = (groups, each, silu), eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *given, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient's own gradient: by PyTorch's kernels
            groups, _, silu = ctx.how
            plain = partial(_plain, groups=groups, eps=ctx.eps, silu=silu)
            return *native.graph_of_gradients(plain, (x, *given), dy), None, None, None
        gain = given[1]
        dy, dx, of_channels = dy.contiguous(), torch.empty_like(x), kept.new_empty(3, *kept.shape[1:])
        native.call("norm_silu_backward", *x.shape, *ctx.how, x, dy, gain, kept, dx, of_channels)
        de, dgain, doffset = of_channels
        if len(gain) == 1:
            dgain, doffset = of_channels[1:].sum(1, keepdim=True)
        return dx, de if ctx.needs_input_grad[1] else None, dgain, doffset, None, None, None


def _plain(x: Tensor, e: Tensor | None, gain: Tensor, offset: Tensor, *, groups: int, eps: float, silu: bool) -> Tensor:
    """The same by PyTorch's kernels."""
    rows = x.float() if e is None else x.float() + e.unsqueeze(1)
    z = F.group_norm(rows.transpose(1, 2), groups, eps=eps).transpose(1, 2) * gain.unsqueeze(1) + offset.unsqueeze(1)
    return (F.silu(z) if silu else z).to(x.dtype)


def norm_silu(
    x: Tensor, gain: Tensor, offset: Tensor, e: Tensor | None = None, *, groups: int, eps: float, silu: bool = True
) -> Tensor:
    """silu(gain · norm(x + e) + offset), or without silu; differentiable as often as one likes.

    x: (B, C, H, W) that `suits`. gain, offset: both (B, C) or both (1, C); e: (B, C), (1, C) or None; used in float32.
    """
    rows = x.permute(0, 2, 3, 1)
    e = None if e is None else e.float().expand(len(x), -1).contiguous()
    if len(gain) > 1:
        gain, offset = gain.expand(len(x), -1), offset.expand(len(x), -1)
    gain, offset = gain.float().contiguous(), offset.float().contiguous()
    y: Tensor = _NormSiLU.apply(rows.flatten(1, 2), e, gain, offset, groups, eps, silu)
    return y.view(rows.shape).permute(0, 3, 1, 2)
