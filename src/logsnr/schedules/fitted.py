"""A schedule through any knots: what a density of levels makes of itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from logsnr.schedules.schedule import NoiseSchedule


class Fitted(NoiseSchedule):
    """γ(t) through knots (t_j, γ_j), straight between them, from t = 0 to t = 1.

    At a uniform time its level has the density 1/γ′, constant between knots: a histogram of levels is its schedule.
    times, gammas: as many, strictly increasing, times from 0 to 1; VDM's line unless told. ValueError otherwise.
    """

    def __init__(self, times: Sequence[float] = (0.0, 1.0), gammas: Sequence[float] = (-13.3, 5.0)) -> None:
        super().__init__()
        self.times, self.gammas = (torch.as_tensor(list(values), dtype=torch.float64) for values in (times, gammas))
        if len(self.times) != len(self.gammas) or len(self.times) < 2:
            raise ValueError(f"{len(self.times)} times and {len(self.gammas)} γ; allowed: as many, at least 2")
        increasing = all(bool((knots.diff() > 0).all()) for knots in (self.times, self.gammas))
        if not increasing or self.times[0] != 0 or self.times[-1] != 1 or not self.gammas.isfinite().all():
            raise ValueError("the knots of a fitted schedule do not increase from t = 0 to t = 1; allowed: finite ones")

    def forward(self, t: Tensor) -> Tensor:
        left = (torch.searchsorted(self.times, t.detach(), right=True) - 1).clamp(0, len(self.times) - 2)
        first, last, low, high = self.times[left], self.times[left + 1], self.gammas[left], self.gammas[left + 1]
        return torch.where(t >= 1, self.gammas[-1], low + (t - first) * ((high - low) / (last - first)))


def of_density(gammas: Tensor, density: Tensor) -> Fitted:
    """The schedule whose level at a uniform time has this density between neighbours of gammas (n + 1,).

    density: (n,) above 0, up to a factor.
    """
    mass = density * gammas.diff()
    times = torch.cat([mass.new_zeros(1), (mass / mass.sum()).cumsum(0)])
    times[-1] = 1.0
    return Fitted(times.tolist(), gammas.tolist())
