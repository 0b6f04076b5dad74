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


def suits(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether `layer` of x (B, C, H, W), in bfloat16 with channels innermost, is what this is for."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.ndim != 4:
        return False
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    weight = layer.weight
    return (
        shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        and weight.dtype == torch.float32
        and not (weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE)
        and all(t.is_contiguous(memory_format=torch.channels_last) for t in (x, weight))
        and (kernels := native.library()) is not None
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
            return _differentiable(dy, x, weight, bias)
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = _convolved(dy, _transformed(weight, adjoint=True), weight.shape[1], None)
        if any(ctx.needs_input_grad[1:]):
            dweight, dbias = _slopes(x, dy, weight)
        return dx, dweight, dbias if bias is not None else None


def _transformed(weight: Tensor, *, adjoint: bool) -> Tensor:
    u = torch.empty(16 * weight[:, :, 0, 0].numel(), dtype=torch.bfloat16)
    _call("transform_weights", *weight.shape[:2], adjoint, weight, u)
    return u


def _convolved(x: Tensor, u: Tensor, channels: int, bias: Tensor | None) -> Tensor:
    batch, given, *size = x.shape
    y = torch.empty(batch, channels, *size, dtype=x.dtype, memory_format=torch.channels_last)
    _call("convolve", batch, *size, given, channels, x, u, bias, y)
    return y


def _slopes(x: Tensor, dy: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    channels, given = weight.shape[:2]
    threads = torch.get_num_threads()
    room = torch.empty(threads, 16 * given * channels + channels)
    dweight, dbias = torch.empty_like(weight), torch.empty(channels)
    _call("slopes_of_weights", len(x), *x.shape[2:], given, channels, threads, x, dy, room, dweight, dbias)
    return dweight, dbias


def _call(name: str, *arguments: int | Tensor | None) -> None:
    kernel = getattr(native.library(), name)
    if kernel(*(a.data_ptr() if torch.is_tensor(a) else a for a in arguments)):
        raise MemoryError(f"no memory for the tiles of {name} {[a for a in arguments if type(a) is int]}")


def _differentiable(dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias as a graph."""
    y = F.conv2d(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype), padding=1)
    given = (x, weight, bias)
    wanted = [t for t in given if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in given)
