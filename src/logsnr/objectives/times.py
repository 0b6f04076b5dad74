"""How t is drawn in training: a module, so that a law which learns from the losses it sees is saved with the rest.

A law returns times and importance weights 1/(density) that keep the mean over t what it would be under the uniform
law; laws of the noise (`noise_laws`) define the objective instead, and weigh 1. `observe` is called once an optimiser
step with all examples' times and losses, in global order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from logsnr.draws import Draws
from logsnr.schedules import NoiseSchedule


class Times(NamedTuple):
    """t: (B,) float64 in [0, 1]. weight: (B,) float64, mean 1."""

    t: Tensor
    weight: Tensor


class TimeLaw(nn.Module, ABC):
    """A distribution of t over the times of a schedule."""

    @abstractmethod
    def draw(self, draws: Draws) -> Times:
        """One time for each example of `draws`."""

    @abstractmethod
    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Learn from an optimiser step: times (B,), unweighted losses (B,), detached, in global order."""


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


TIMES: dict[str, Callable[..., TimeLaw]] = {"uniform": Uniform}
