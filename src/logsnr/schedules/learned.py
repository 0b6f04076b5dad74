"""A schedule that is trained with the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from logsnr.monotone import Monotone, inverse_softplus, softplus
from logsnr.registry import lookup
from logsnr.schedules.schedule import NoiseSchedule


class Learned(NoiseSchedule):
    """γ(t) = γ₀ + (γ₁ − γ₀) s(t), s(t) = (γ̃(t) − γ̃(0))/(γ̃(1) − γ̃(0)): the ends are exact at every step of training.

    interior: γ̃, an increasing module of t; None for s = t. ends: "pinned", or "learned": parameters too, as shifts
    from where they start, their distance through a softplus, so that they never cross. gamma_min: None for the noise
    that is to the data's distance of values, `levels` of them in [−1, 1], what VDM's −13.3 is to that of 8 bits.
    """

    def __init__(
        self,
        interior: nn.Module | None,
        gamma_min: float | None = None,
        gamma_max: float = 5.0,
        *,
        ends: str = "learned",
        levels: int = 256,
    ) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels = {levels} of a learned schedule; allowed: at least 2")
        low = -13.3 + 2 * math.log(255 / (levels - 1)) if gamma_min is None else gamma_min
        if ends not in ("pinned", "learned") or not -math.inf < low < gamma_max < math.inf:
            allowed = "allowed: ends pinned or learned, finite gamma_min < gamma_max"
            raise ValueError(f"ends={ends!r}, gamma_min={low:.6g}, gamma_max={gamma_max}; {allowed}")
        self.interior, self.low = interior, low
        self.width = inverse_softplus(torch.tensor(gamma_max - low, dtype=torch.float64))
        self.shifts = nn.Parameter(torch.zeros(2)) if ends == "learned" else torch.zeros(2)

    def shape(self, t: Tensor) -> Tensor:
        """s(t), of the shape of t."""
        if self.interior is None:
            return t
        ends = self.interior(torch.tensor([0.0, 1.0]).to(t))
        return (self.interior(t) - ends[0]) / (ends[1] - ends[0])

    def place(self, shape: Tensor) -> Tensor:
        """γ of s."""
        low, width = self.shifts.to(shape)
        return self.low + low + softplus(self.width.to(shape) + width) * shape

    def forward(self, t: Tensor) -> Tensor:
        return self.place(self.shape(t))

    def moving(self, t: Tensor, through: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """(γ, γ′); `through` meets s(t) and s′(t), by which alone the interior's parameters act, and only they."""
        shape, slope = map(through, torch.func.jvp(self.shape, (t,), (torch.ones_like(t),))[:2])
        gamma, slope = torch.func.jvp(self.place, (shape,), (slope,))[:2]
        return gamma, slope


def learned(
    schedules: Mapping[str, Callable[..., NoiseSchedule]],
    gamma_min: float | None = None,
    gamma_max: float = 5.0,
    *,
    ends: str = "learned",
    levels: int = 256,
    init: str = "linear",
    width: int = 1024,
) -> Learned:
    """The monotone network, started in the shape of the one of `schedules` named `init`."""
    interior, guide = Monotone(width), lookup(schedules, init, "schedule")()
    low, high = guide(torch.tensor([guide.t_min, 1.0], dtype=torch.float64)).detach()
    interior.fit(lambda t: (guide(guide.t_min + (1 - guide.t_min) * t) - low) / (high - low))
    return Learned(interior, gamma_min, gamma_max, ends=ends, levels=levels)
