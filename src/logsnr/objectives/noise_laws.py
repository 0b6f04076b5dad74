"""Laws of the noise: how often each σ̃ = σ/α is practised, as EDM and flow matching state it.

Such a law is part of the objective: the importance weight is 1, and another law is another loss. (A law that only
lowers the variance of the same loss weighs by 1/density, see `times`.) Each is cut to the levels of the schedule and
drawn by its quantile function at a uniform number, so that `stratified` draws cover it evenly; on a table the knot
nearest in time is drawn.

    log_normal         log σ̃ ~ N(mean, std²)         EDM, table 1; on the straight schedule log σ̃ = logit t
    logit_normal       logit t ~ N(mean, std²)       Esser et al. 2024, eq. 19
    log_uniform        log σ̃ uniform                 NCSN's geometric levels, in continuous time
    log_logistic       log σ̃ logistic                k-diffusion
    cosine             σ̃ = σ_d tan(π u/2)            uniform t of the cosine schedule (k-diffusion)
    split_log_normal   two half-normals of log σ̃     k-diffusion
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.draws import Draws
from logsnr.objectives.times import TimeLaw, Times
from logsnr.registry import positive
from logsnr.schedules import NoiseSchedule, time_of


class CutLaw(TimeLaw):
    """A law given by `quantile` and its inverse `share`, cut to what the schedule has, with importance weight 1."""

    weighs = False

    def __init__(self, schedule: NoiseSchedule, *, stratified: bool) -> None:
        super().__init__()
        self.schedule, self.stratified = schedule, stratified

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The log σ̃ (or logit t) below which the share u of the uncut law lies; the shape of u."""

    @abstractmethod
    def share(self, value: Tensor) -> Tensor:
        """The inverse of `quantile`."""

    def ends(self) -> Tensor:
        """(2,): the lowest and highest log σ̃ of the schedule."""
        return self.schedule(torch.tensor([self.schedule.t_min, 1.0], dtype=torch.float64)).detach().double().cpu() / 2

    def time(self, value: Tensor) -> Tensor:
        """t at log σ̃ = value."""
        return time_of(self.schedule, 2 * value)

    def draw(self, draws: Draws) -> Times:
        u = draws.stratified("t") if self.stratified else draws.uniform("t")
        lowest, highest = self.share(self.ends())
        t = self.time(self.quantile(lowest + (highest - lowest) * u)).clamp(self.schedule.t_min, 1)
        if self.schedule.steps:
            t = torch.round(t * self.schedule.steps).clamp(min=1) / self.schedule.steps
        return Times(t, torch.ones_like(t))

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""


class LogNormal(CutLaw):
    """log σ̃ ~ N(mean, std²) (EDM, table 1: −1.2, 1.2)."""

    def __init__(
        self, schedule: NoiseSchedule, *, mean: float = -1.2, std: float = 1.2, stratified: bool = True
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        positive(std=std)
        self.mean, self.std = mean, std

    def quantile(self, u: Tensor) -> Tensor:
        return self.mean + self.std * torch.special.ndtri(u)

    def share(self, value: Tensor) -> Tensor:
        return torch.special.ndtr((value - self.mean) / self.std)


class LogitNormal(LogNormal):
    """logit t ~ N(mean, std²), whatever the schedule makes of t (Esser et al. 2024, eq. 19)."""

    def __init__(
        self, schedule: NoiseSchedule, *, mean: float = 0.0, std: float = 1.0, stratified: bool = True
    ) -> None:
        super().__init__(schedule, mean=mean, std=std, stratified=stratified)

    def ends(self) -> Tensor:
        return torch.logit(torch.tensor([self.schedule.t_min, 1.0], dtype=torch.float64))

    def time(self, value: Tensor) -> Tensor:
        return torch.sigmoid(value)


class LogUniform(CutLaw):
    """log σ̃ uniform between the ends of the schedule, which must be finite."""

    def __init__(self, schedule: NoiseSchedule, *, stratified: bool = True) -> None:
        super().__init__(schedule, stratified=stratified)
        if not self.ends().isfinite().all():
            raise ValueError(f"log_uniform times between log σ = {self.ends().tolist()}; allowed: log_normal, uniform")

    def quantile(self, u: Tensor) -> Tensor:
        low, high = self.ends()
        return low + (high - low) * u

    def share(self, value: Tensor) -> Tensor:
        low, high = self.ends()
        return (value - low) / (high - low)


class LogLogistic(CutLaw):
    """log σ̃ logistic about `mean` with scale `scale`."""

    def __init__(
        self, schedule: NoiseSchedule, *, mean: float = -1.0, scale: float = 0.7, stratified: bool = True
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        positive(scale=scale)
        self.mean, self.scale = mean, scale

    def quantile(self, u: Tensor) -> Tensor:
        return self.mean + self.scale * torch.logit(u)

    def share(self, value: Tensor) -> Tensor:
        return torch.sigmoid((value - self.mean) / self.scale)


class Cosine(CutLaw):
    """σ̃ = σ_d tan(π u/2)."""

    def __init__(self, schedule: NoiseSchedule, *, sigma_data: float = 0.5, stratified: bool = True) -> None:
        super().__init__(schedule, stratified=stratified)
        positive(sigma_data=sigma_data)
        self.log_sigma_data = math.log(sigma_data)

    def quantile(self, u: Tensor) -> Tensor:
        return self.log_sigma_data + torch.log(torch.tan(0.5 * math.pi * u))

    def share(self, value: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(torch.exp(value - self.log_sigma_data))


class SplitLogNormal(CutLaw):
    """Two half-normals of log σ̃ that meet at `mode`, of std `below` and `above`, each with its std's share."""

    def __init__(
        self,
        schedule: NoiseSchedule,
        *,
        mode: float = -1.0,
        below: float = 0.5,
        above: float = 1.0,
        stratified: bool = True,
    ) -> None:
        super().__init__(schedule, stratified=stratified)
        positive(below=below, above=above)
        self.mode, self.below, self.above = mode, below, above

    def quantile(self, u: Tensor) -> Tensor:
        total = self.below + self.above
        left = (0.5 * total / self.below * u).clamp(max=0.5)  # each half is still at the mode on the other's side
        right = (0.5 * total / self.above * (1 - u)).clamp(max=0.5)
        return self.mode + self.below * torch.special.ndtri(left) - self.above * torch.special.ndtri(right)

    def share(self, value: Tensor) -> Tensor:
        total, off = self.below + self.above, value - self.mode
        left = 2 * self.below / total * torch.special.ndtr(off / self.below)
        return torch.where(off < 0, left, 1 - 2 * self.above / total * torch.special.ndtr(-off / self.above))


NOISE_LAWS: dict[str, Callable[..., TimeLaw]] = {
    "log_normal": LogNormal,
    "logit_normal": LogitNormal,
    "log_uniform": LogUniform,
    "log_logistic": LogLogistic,
    "cosine": Cosine,
    "split_log_normal": SplitLogNormal,
}
