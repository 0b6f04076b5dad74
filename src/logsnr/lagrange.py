"""Polynomials through nodes that differ from example to example: their integrals and their slopes, as weights.

A polynomial through values f_j at nodes x_j is Σ_j f_j ℓ_j(x), ℓ_j(x) = Π_{m≠j} (x − x_m)/(x_j − x_m). Whatever is
linear in it is a sum of weights times values. All arguments are float64 on the CPU, with any leading shape; `present`
says which of k nodes there are, so that examples with fewer are treated alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def integrals(nodes: Tensor, present: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """∫ ℓ_j from low to high, (…, k), of nodes (…, k) and ends (…); 0 for a node that is not present."""
    places, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss((nodes.shape[-1] + 1) // 2))
    half = 0.5 * (high - low)
    x = (0.5 * (high + low)).unsqueeze(-1) + half.unsqueeze(-1) * places
    return half.unsqueeze(-1) * torch.einsum("g,...gj->...j", weights, _basis(nodes, present, x))


def _basis(nodes: Tensor, present: Tensor, x: Tensor) -> Tensor:
    """ℓ_j(x), (…, g, k), at x (…, g)."""
    others = _others(present)
    over = (x.unsqueeze(-1) - nodes.unsqueeze(-2)).unsqueeze(-2)  # (…, g, 1, m)
    below = torch.where(others, nodes.unsqueeze(-1) - nodes.unsqueeze(-2), 1.0).unsqueeze(-3)  # (…, 1, j, m)
    ratio = torch.where(others.unsqueeze(-3), over / below, 1.0)
    return ratio.prod(-1) * present.unsqueeze(-2)


def slopes(nodes: Tensor, present: Tensor, at: Tensor) -> Tensor:
    """ℓ_j′ at the node number `at` (…), int64, as (…, k), in the barycentric form (Berrut and Trefethen 2004, 9.4)."""
    difference = torch.where(_others(present), nodes.unsqueeze(-1) - nodes.unsqueeze(-2), 1.0)
    inverse = difference.prod(-1)  # 1/w_j
    own = torch.nn.functional.one_hot(at, nodes.shape[-1]).bool()
    of_own = (inverse * own).sum(-1, keepdim=True)
    away = torch.where(own, 1.0, (nodes * own).sum(-1, keepdim=True) - nodes)
    weight = torch.where(present & ~own, of_own / (inverse * away), 0.0)
    return torch.where(own, -weight.sum(-1, keepdim=True), weight)


def _others(present: Tensor) -> Tensor:
    """(…, j, m): m is a node of ℓ_j's product."""
    return present.unsqueeze(-2) & ~torch.eye(present.shape[-1], dtype=torch.bool)
