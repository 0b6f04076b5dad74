"""How t is drawn in training: a module, so that a law which learns from the losses it sees is saved with the rest.

A law returns times and importance weights 1/(density) that keep the mean over t what it would be under the uniform
law; laws of the noise (`noise_laws`) define the objective instead, and weigh 1. `observe` is called once an optimiser
step with all examples' times and losses, in global order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from logsnr.draws import Draws
from logsnr.path import Path
from logsnr.scales import vp
from logsnr.schedules import NoiseSchedule


class Times(NamedTuple):
    """t: (B,) float64 in [0, 1]. weight: (B,) float64, mean 1."""

    t: Tensor
    weight: Tensor


class TimeLaw(nn.Module, ABC):
    """A distribution of t over the times of a schedule. weighs: the weights make its mean that of uniform t."""

    weighs: bool = True

    @abstractmethod
    def draw(self, draws: Draws) -> Times:
        """One time for each example of `draws`."""

    @abstractmethod
    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Learn from an optimiser step: times (B,), drawn terms (B,), detached, in global order."""


class Uniform(TimeLaw):
    """t uniform: over the T knots of a table (DDPM, algorithm 1), else over [t_min, 1].

    stratified: one draw in each interval of length 1/B of the batch (VDM, appendix I.1): the same mean over t, with
    less variance between batches.
    """

    def __init__(self, schedule: NoiseSchedule, *, stratified: bool = True) -> None:
        super().__init__()
        self.steps, self.t_min, self.stratified = schedule.steps, schedule.t_min, stratified

    def draw(self, draws: Draws) -> Times:
        u = draws.stratified("t") if self.stratified else draws.uniform("t")
        if self.steps:
            t = (torch.floor(u * self.steps) + 1) / self.steps
        else:
            t = self.t_min + (1 - self.t_min) * u
        return Times(t, torch.ones_like(t))

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""


class UniformLogSNR(TimeLaw):
    """t with density ∝ γ′(t) between the lowest and the highest level: γ uniform (ScoreFlow).

    It is the importance sampling of likelihood weighting: with the weight γ′ on the ε error (g² on the score's, divided
    by σ² in ScoreFlow's p(t) ∝ g²/σ²) every drawn example weighs the same. γ′ grows without bound towards t = 0, so
    the law needs an end, and it is the schedule's own t_min. On a table of T knots a knot is drawn ∝ γ′ at it.

    ValueError for a schedule with an infinite end.
    """

    def __init__(self, schedule: NoiseSchedule, *, stratified: bool = True) -> None:
        super().__init__()
        self.path, self.stratified = Path(schedule, vp), stratified  # any scale: only γ(t) and its inverse are used
        low, high = (float(level.gamma.detach()) for level in (self.path.lowest, self.path.highest))
        if not math.isfinite(high - low):
            raise ValueError(f"times 'log_snr' between γ = {low:.6g} and {high:.6g}; allowed: finite ends")

    def draw(self, draws: Draws) -> Times:
        u = draws.stratified("t") if self.stratified else draws.uniform("t")
        path = self.path
        if path.schedule.steps:
            return self._knots(u, path.schedule.steps)
        low, high = path.lowest.gamma.detach(), path.highest.gamma.detach()
        t = path.time_of(low + (high - low) * u)
        density = (1 - path.schedule.t_min) * path.slope(t).gamma.detach() / (high - low)
        return Times(t, 1 / density)

    def _knots(self, u: Tensor, steps: int) -> Times:
        """Of T knots, each with its probability; the weight is that of the uniform law over it."""
        knots = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        probability = self.path.slope(knots).gamma
        probability = probability / probability.sum()
        chosen = torch.searchsorted(probability.cumsum(0), u, right=True).clamp(max=steps - 1)
        return Times(knots[chosen], 1 / (steps * probability[chosen]))

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""


TIMES: dict[str, Callable[..., TimeLaw]] = {"uniform": Uniform}
TIMES["log_snr"] = UniformLogSNR
