"""The probability flow's velocity and its derivatives, from one forward pass of the network (`angle`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from logsnr.angle import at_angle, log_power
from logsnr.denoiser import Model
from logsnr.level import over
from logsnr.objectives.sliced import derivatives
from logsnr.path import Path

ROWS = 64  # of a Jacobian at once: a matter of memory only


class Velocity(NamedTuple):
    """v̂ (B, D) at u, and its Jacobian ∂v̂_i/∂u_j (B, D, D)."""

    value: Tensor
    jacobian: Tensor


@dataclass(frozen=True)
class Field:
    """v̂(u, φ) of a model on a path. shape: of one example; u is (B, D), flat."""

    model: Model
    path: Path
    shape: tuple[int, ...]
    condition: Mapping[str, Tensor] = field(default_factory=dict)

    def value(self, u: Tensor, phi: Tensor) -> Tensor:
        """v̂, (B, D), at angles φ (B,) float64."""
        level = at_angle(self.path, phi.clone())  # a graph cannot keep tensors of inference mode
        power = over(log_power(level).exp(), u)
        condition = {key: value.clone() for key, value in self.condition.items()}
        prediction = self.model((power * u).unflatten(1, self.shape), level, **condition)
        return prediction.v.flatten(1) / power

    def jacobian(self, u: Tensor, phi: Tensor) -> Velocity:
        """v̂ and all of its derivatives: one forward pass and D backward."""
        with derivatives():
            at = u.clone().detach().requires_grad_()
            v = self.value(at, phi)
            rows = []
            for first in range(0, v.shape[1], ROWS):
                kept = first + ROWS < v.shape[1]
                basis = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)[first : first + ROWS]
                ones = basis.unsqueeze(1).expand(-1, len(v), -1)
                (part,) = torch.autograd.grad(v, at, ones, retain_graph=kept, is_grads_batched=True)
                rows.append(part)
        return Velocity(v.detach(), torch.cat(rows).transpose(0, 1))

    def probed(self, u: Tensor, phi: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
        """v̂ (B, D) and the mean of pᵀ(∂v̂/∂u)p over probes (k, B, D), (B,): its divergence if E[ppᵀ] = I.

        One forward pass and k backward (Hutchinson 1990; Grathwohl et al. 2019).
        """
        with derivatives():
            at, traces = u.clone().detach().requires_grad_(), []
            v = self.value(at, phi)
            for i, p in enumerate(probes.clone()):
                (row,) = torch.autograd.grad(v, at, p, retain_graph=i + 1 < len(probes))
                traces.append((row * p).sum(1))
        return v.detach(), torch.stack(traces).mean(0)
