"""log p along computed nodes of the flow: a quadrature that knows what their errors cost.

Let u(φ) be any smooth curve, near the flow or not. If s = ∇log p_φ, then d log p(u(φ))/dφ = −∇·v̂ + s·(u′ − v̂), so

    log p(u₀) = log p(u₁) + ∫ ∇·v̂ dφ + ∫ s·(v̂ − u′) dφ :

to first order an error of the curve changes log p by its defect v̂ − u′ times the score. (The score is the solution of
the adjoint equation s′ = −∇(∇·v̂) − Jᵀs, for which a general problem would need a second solve: Pierce and Giles 2000.)
Of a model whose field is not exactly the gradient of one density this corrects to first order in the defect times how
little it is; the value is that of the flow.

Three uses, none of which evaluates the network:

* both integrals over a step use the nodes on either side of it, whereas the solver knew only those before;
* the defect of a step is the integral of v̂ so found, less u_n − u_{n−1};
* ∇·v̂ was evaluated at the predicted point, c away from u_n: ∇(∇·v̂)·c = −(s′ + Jᵀs)·c, s′ the slope of s over nodes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from logsnr.lagrange import integrals, slopes
from logsnr.likelihood.newton import Nodes, gathered

WIDTH, NARROW = 8, 6  # nodes of the polynomials on either side of a step; the difference is the error
SLOPE = 5  # nodes of s′
DOUBT = 0.2


class Integral(NamedTuple):
    """log p(u₀) − log p(u₁). steps: (B, N − 1) of each step, 0 where an example has none; error: (B,) nats.

    error: what a narrower polynomial would change, and `DOUBT` of the corrections of first order: in nineteen of twenty
    examples of mixtures more than what is left of them.
    """

    steps: Tensor
    error: Tensor


def log_density_lost(nodes: Nodes, count: Tensor, mirrored: Tensor) -> Integral:
    """∫ ∇·v̂ + s·(v̂ − u′) dφ over the `count` (B,) nodes of each example; mirrored: (B,) bool, of the data end."""
    moved = _moved(nodes, count)
    wide, narrow = (_integrated(nodes, nodes.div - moved, count, mirrored, width) for width in (WIDTH, NARROW))
    as_evaluated, _ = _integrated(nodes, nodes.div, count, mirrored, WIDTH)
    corrections = (as_evaluated - wide[0]).sum(1).abs() + wide[1].sum(1).abs()
    return Integral(wide.sum(0), (wide - narrow).sum((0, 2)).abs() + DOUBT * corrections)


def _moved(nodes: Nodes, count: Tensor) -> Tensor:
    """(s′ + Jᵀs)·c of each node, (B, N)."""
    index, present = _centred(nodes, count, SLOPE, 0, torch.zeros_like(count, dtype=torch.bool))
    place = (torch.arange(index.shape[1]).unsqueeze(-1) - index[..., :1]).clamp(0, SLOPE - 1).squeeze(-1)
    weight = slopes(_at(nodes.phi, index), present, place)
    along = torch.einsum("bnk,bnkd->bnd", weight.to(nodes.s), _at(nodes.s, index))
    return (along * nodes.away).sum(-1).cpu().double() + nodes.lift


def _integrated(nodes: Nodes, div: Tensor, count: Tensor, mirrored: Tensor, width: int) -> Tensor:
    """(∫ ∇·v̂, s·defect) of each step, (2, B, N − 1), by polynomials through `width` nodes around it."""
    index, present = _centred(nodes, count, width, 1, mirrored)
    sign = torch.where(index < 0, -1.0, 1.0).double()
    index = torch.where(present, index.abs(), 0)[:, 1:]
    places = sign[:, 1:] * _at(nodes.phi, index)
    weight = sign[:, 1:] * integrals(places, present[:, 1:], nodes.phi[:, :-1], nodes.phi[:, 1:])
    defect = torch.einsum("bnk,bnkd->bnd", weight.to(nodes.v), _at(nodes.v, index)) - nodes.u.diff(dim=1)
    parts = torch.stack([(weight * _at(div, index)).sum(-1), (nodes.s[:, 1:] * defect).sum(-1).cpu().double()])
    return torch.where(torch.arange(1, nodes.phi.shape[1]) < count.unsqueeze(1), parts, 0.0)


def _centred(nodes: Nodes, count: Tensor, width: int, before: int, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (B, N, width) of the nodes around each node (and the one `before` it), and which of them there are.

    Negative ones are mirror images, of which there are as many as nodes; windows are moved inwards at the ends.
    """
    own = torch.arange(nodes.phi.shape[1]).expand(len(count), -1)
    least = torch.where(mirrored, 1 - count, 0).unsqueeze(1)
    first = own - (width - 1 + before) // 2
    first = torch.minimum(first, count.unsqueeze(1) - width).maximum(least).unsqueeze(-1)
    index = first + torch.arange(width)
    present = index < count.reshape(-1, 1, 1)
    return torch.where(present, index, 0), present


def _at(array: Tensor, index: Tensor) -> Tensor:
    """array (B, N, …) at index (B, M, k): (B, M, k, …)."""
    return gathered(array, index.flatten(1)).unflatten(1, index.shape[1:])
