"""Convolutions of 3 × 3 with 16 products where 36 are written (Winograd 1980; Lavin & Gray 2016, section 4.1).

An output of 2 × 2 pixels and the 4 × 4 of the input d on which it depends, kernel g, over C channels:

    y = Aᵀ [Σ_C (G g Gᵀ) ⊙ (Bᵀ d B)] A

    Bᵀ = | 1  0 −1  0 |     G = |  1   0   0 |     Aᵀ = | 1  1  1  0 |
         | 0  1  1  0 |         |  ½   ½   ½ |          | 0  1 −1 −1 |
         | 0 −1  1  0 |         |  ½  −½   ½ |
         | 0  1  0 −1 |         |  0   0   1 |

For each of the 16 points the sum over channels is a matrix product over all tiles. The gradient of the input is the
same convolution of dy by the kernel turned round; that of the kernel, by the chain rule, Gᵀ [Σ (Bᵀ d B)(A dy Aᵀ)] G,
the sum over all tiles. Products are in bfloat16, sums in float32. Both factors of a product are rounded after their
transform, where a plain convolution in bfloat16 has the one for nothing: on noise the errors are about twice as large.

A row of the result does not depend on the batch; nor do rows of the gradient of the input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import native

MULTIPLE = 16  # of channels
BLOCK = 64  # tiles of a gradient's sum, as in the C


def suits(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether `layer` of x (B, C, H, W), which autocast would do in bfloat16, is what this is for."""
    if not native.pictures(x) or not torch.is_autocast_enabled("cpu"):
        return False
    weight, bias, kernels = layer.weight, layer.bias, native.library()
    kind = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    return (
        kind == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (weight, bias) if t is not None)
        and weight.shape[1] == x.shape[1]
        and not (weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE)
        and weight.is_contiguous(memory_format=torch.channels_last)
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and kernels is not None
        and bool(kernels.convolves())
    )


def convolved(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """What `layer` makes of an x that it `suits`, in bfloat16; differentiable as often as one likes."""
    y: Tensor = _Convolution.apply(x, layer.weight, layer.bias)
    return y


class _Convolution(torch.autograd.Function):
    """x (B, C, H, W) bfloat16; weight (K, C, 3, 3) float32; bias (K,) float32 or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return _convolved(x, _transformed(weight, adjoint=False), len(weight), bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient's own gradient: by PyTorch's kernels
            return native.graph_of_gradients(_plain, (x, weight, bias), dy)
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = _convolved(dy, _transformed(weight, adjoint=True), weight.shape[1], None)
        if any(ctx.needs_input_grad[1:]):
            dweight, dbias = _slopes(x, dy, weight)
        return dx, dweight, dbias if bias is not None else None


def _transformed(weight: Tensor, *, adjoint: bool) -> Tensor:
    u = torch.empty(16 * weight[:, :, 0, 0].numel(), dtype=torch.bfloat16)
    native.call("transform_weights", *weight.shape[:2], adjoint, weight, u)
    return u


def _convolved(x: Tensor, u: Tensor, channels: int, bias: Tensor | None) -> Tensor:
    batch, given, *size = x.shape
    y = torch.empty(batch, channels, *size, dtype=x.dtype, memory_format=torch.channels_last)
    native.call("convolve", batch, *size, given, channels, x, u, bias, y)
    return y


def _slopes(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    channels, given = weight.shape[:2]
    blocks = -(-len(x) * ((x.shape[2] + 1) // 2) * ((x.shape[3] + 1) // 2) // BLOCK)
    threads = max(1, min(torch.get_num_threads(), blocks))  # each has sums of its own
    room = torch.empty(threads, 16 * given * channels + channels)
    dweight, dbias = torch.empty_like(weight), torch.empty(channels)
    native.call("slopes_of_weights", len(x), *x.shape[2:], given, channels, threads, x, dy, room, dweight, dbias)
    return dweight, dbias


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same by PyTorch's kernels."""
    return F.conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), padding=1)
