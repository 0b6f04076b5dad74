"""What a noise schedule is, and the time at which it has a level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


class NoiseSchedule(nn.Module, ABC):
    """γ(t). Subclasses define `forward` and set `t_min`; `steps` is T for a table and None in continuous time."""

    t_min: float = 0.0
    steps: int | None = None

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """γ at times `t` in [0, 1], any shape, float64 on the CPU for fixed schedules; −∞ at a clean t = 0."""

    def moving(self, t: Tensor, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(γ, γ′) at times t; `through` is applied to what is learned of them between the ends: here to nothing."""
        gamma, slope = torch.func.jvp(self, (t,), (torch.ones_like(t),))[:2]
        return gamma, slope


@torch.no_grad()
def time_of(schedule: NoiseSchedule, gamma: Tensor) -> Tensor:
    """The time at which γ(t) = gamma, by bisection to the last bit; clamped to [t_min, 1], 0 for γ = −∞."""
    low = torch.full_like(gamma, schedule.t_min)
    high = torch.ones_like(gamma)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = schedule(middle) > gamma
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    t = torch.where(gamma >= schedule(torch.ones_like(gamma)), torch.ones_like(gamma), high)
    t = torch.where(gamma <= schedule(torch.full_like(gamma, schedule.t_min)), schedule.t_min, t)
    return torch.where(torch.isneginf(gamma), 0.0, t)
