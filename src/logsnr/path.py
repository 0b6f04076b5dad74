"""Path: a schedule and a scale, which together are a diffusion process.

Two functions of time fix every process in scope, γ(t) = log σ²/α² and log α(t). As γ is monotone, log α is a function
of γ, so a path is *when* (the schedule) and *in which units* (the scale). Its SDE dx = f x dt + g dw has
f = (log α)′ and g² = σ² γ′ for every scale (F7; Score SDE, appendix B; VDM, appendix D).

Grids are decided here too. A grid of S steps has S + 1 levels from the highest down; it ends either at the `clean`
level (S finite levels, then x̂0: the last step evaluates nothing at the end) or at the `lowest` finite level (VDM, whose
decoder takes over there). On a table the levels of a grid are its own knots, each at most once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from logsnr.level import Level, clean
from logsnr.registry import lookup
from logsnr.scales import Scale
from logsnr.schedules import NoiseSchedule, time_of

ENDS = ("clean", "lowest")


@dataclass(frozen=True)
class Slope:
    """Time derivatives of a level: γ′(t) and (log α)′(t), the shape of t."""

    gamma: Tensor
    log_alpha: Tensor


class Path(nn.Module):
    """The process q(x_t | x0) = N(α_t x0, σ_t² I) with γ from `schedule` and (α, σ) from `scale`.

    ValueError when γ does not increase along a probe grid.
    """

    def __init__(self, schedule: NoiseSchedule, scale: Scale) -> None:
        super().__init__()
        self.schedule, self.scale = schedule, scale
        probe = torch.linspace(max(schedule.t_min, 1e-3), 1, 257, dtype=torch.float64)
        with torch.no_grad():
            if not (schedule(probe).diff() > 0).all():
                raise ValueError(f"the schedule {type(schedule).__name__} does not increase; allowed: γ′(t) > 0")

    def at(self, t: Tensor | float) -> Level:
        """The level at time t, a number or a float64 tensor of shape () or (B,).

        ValueError outside [0, 1] and, for a table of T knots, inside (0, 1/T).
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        lowest = self.schedule.t_min * (1 - 1e-9) if self.schedule.steps else 0.0
        bad = ~((t == 0) | ((t >= lowest) & (t <= 1)))
        if bad.any():
            raise ValueError(f"t = {float(t[bad].flatten()[0]):.6g}; allowed: 0 or {self.schedule.t_min:.6g} <= t <= 1")
        return self._level(t, self.schedule(t))

    def at_gamma(self, gamma: Tensor) -> Level:
        """The level of this path with the given γ, wherever that γ came from."""
        return self._level(self.time_of(gamma), gamma)

    def _level(self, t: Tensor, gamma: Tensor) -> Level:
        return Level(t, gamma, self.scale.log_alpha(gamma), self.scale.log_sigma(gamma))

    def within(self, level: Level, most: float = 60.0) -> Level:
        """The level with γ held in [−most, most]: where only ratios matter, its limits e^∓most stand for 0 and ∞."""
        return self._level(level.t, level.gamma.clamp(-most, most))

    def slope(self, t: Tensor) -> Slope:
        """γ′ and (log α)′ at times of shape () or (B,), by forward differentiation of the very same functions."""

        def fields(time: Tensor) -> tuple[Tensor, Tensor]:
            gamma = self.schedule(time)
            return gamma, self.scale.log_alpha(gamma)

        return Slope(*torch.func.jvp(fields, (t,), (torch.ones_like(t),))[1])

    def moving(self, t: Tensor, through: Callable[[Tensor], Tensor]) -> tuple[Level, Tensor]:
        """The level at times t, () or (B,), and γ′; `through` sees what is learned of them (`NoiseSchedule.moving`)."""
        gamma, slope = self.schedule.moving(t, through)
        return self._level(t, gamma), slope

    def perturb(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """α_t x0 + σ_t ε (F1). x0, eps: (B, *) floating point; t: () or (B,)."""
        return self.at(t).perturb(x0, eps)

    def time_of(self, gamma: Tensor) -> Tensor:
        """The time at which γ(t) = gamma, by bisection to the last bit; clamped to [t_min, 1], 0 for γ = −∞."""
        return time_of(self.schedule, gamma)

    @torch.no_grad()
    def time_of_level(self, level: Level) -> Tensor:
        """The time of a level of any path: its own t if it is one of this path, else the time of its γ."""
        own = self.schedule(level.t) == level.gamma
        return level.t if own.all() else torch.where(own, level.t, self.time_of(level.gamma))

    @property
    def lowest(self) -> Level:
        """The lowest finite level."""
        return self.at(max(self.schedule.t_min, 0.0))

    @property
    def highest(self) -> Level:
        """The noise end, t = 1."""
        return self.at(1.0)

    @property
    def prior_std(self) -> float:
        """Standard deviation of p(x_1): the limit of σ as γ → ∞ where it is finite (1), else σ of the highest level."""
        limit = self.scale.noise_limit
        return limit if limit < float("inf") else float(self.highest.sigma.detach())

    def grid(self, steps: int | str, end: str = "clean", spacing: str = "uniform", **options: float) -> Level:
        """The S + 1 levels of S steps, shape (S + 1,), from the highest down to `end` ("clean" or "lowest").

        steps: S; or text, "10,15,20" for so many equal steps in each of three equal sections of the time axis, counted
        from the data (Improved DDPM's respacing: a coarser grid, nothing more), "ddim25" for one section, 25 equal
        strides. spacing: of S steps, a name in `SPACINGS`, with its options. ValueError for S < 1, an unknown name, a
        section that a table has too few levels for, or more levels than it has.
        """
        if end not in ENDS:
            raise ValueError(f"unknown end {end!r} of a grid; known: {', '.join(ENDS)}")
        times = lookup(SPACINGS, spacing, "spacing")
        counts = section_counts(steps)
        finite = sum(counts) + (end == "lowest")
        most = self.schedule.steps or float("inf")
        if min(counts) < 1 or finite > most:
            raise ValueError(f"{steps} steps to the {end} level; allowed: 1 to {most - (end == 'lowest')}")
        if isinstance(steps, int) or steps.isdigit():
            t = times(self, torch.linspace(1, 0, finite, dtype=torch.float64), **options)
        elif times is _uniform:
            t = self._sections(counts)[:finite]
        else:
            raise ValueError(
                f"steps {steps!r} with spacing {spacing!r}; allowed: spacing uniform, or a number of steps"
            )
        if end == "lowest":  # a law may end above it, where the next thing is x̂0
            t = torch.cat([t[:-1], t.new_tensor([self.schedule.t_min])])
        if self.schedule.steps:
            t = _distinct_knots(t, self.schedule.steps)
        return self.at(t).then(clean()) if end == "clean" else self.at(t)

    def _sections(self, counts: tuple[int, ...]) -> Tensor:
        """Descending times with counts[j] equal steps in the j-th equal section of (0, 1]; the last is t_min."""
        levels = (self.schedule.steps or math.inf) / len(counts)
        if max(counts) > levels:
            raise ValueError(
                f"a section of {max(counts)} steps has {math.floor(levels)} levels; allowed: one step each"
            )
        parts = [(j + torch.arange(1, n + 1, dtype=torch.float64) / n) / len(counts) for j, n in enumerate(counts)]
        start = torch.zeros(1, dtype=torch.float64)
        return torch.cat([start, *parts]).clamp(min=self.schedule.t_min).flip(0)


def section_counts(steps: int | str) -> tuple[int, ...]:
    """How many steps in each equal section of the time axis: (25,) of 25, "25" or "ddim25", (10, 15) of "10,15"."""
    if isinstance(steps, int):
        return (steps,)
    if not re.fullmatch(r"(ddim)?\d+|\d+(,\d+)+", steps):
        raise ValueError(f"steps {steps!r}; allowed: a number, counts of equal sections as 10,15,20, or ddim25")
    return tuple(int(count) for count in steps.removeprefix("ddim").split(","))


def _distinct_knots(t: Tensor, steps: int) -> Tensor:
    """Descending times moved to knots i/T, each used once: pushed up where two would share one, kept within T."""
    knots = torch.floor(t.flip(0) * steps + 0.5).clamp(1, steps)
    order = torch.arange(len(t), dtype=t.dtype)
    knots = torch.cummax(knots - order, 0).values + order
    return torch.minimum(knots, steps - order.flip(0)).flip(0) / steps


def _uniform(path: Path, u: Tensor) -> Tensor:
    """Equal steps of time from 1 down to t_min, both included: DDPM's whole chain when S = T."""
    return path.schedule.t_min + (1 - path.schedule.t_min) * u


def _quadratic(path: Path, u: Tensor) -> Tensor:
    """Times ∝ u² from 1 down to t_min: more steps near the data, the idea of DDIM's "quadratic" τ."""
    return _uniform(path, u**2)


def _log_snr(path: Path, u: Tensor) -> Tensor:
    """Equal steps of γ between the lowest and the highest finite level."""
    low, high = path.lowest.gamma, path.highest.gamma
    if not (high - low).isfinite():
        raise ValueError(f"spacing 'log_snr' between γ = {float(low):.6g} and {float(high):.6g}; allowed: finite ends")
    t = path.time_of(low + (high - low) * u)
    return torch.where(u == 1, 1.0, torch.where(u == 0, path.schedule.t_min, t))


def _rho(path: Path, u: Tensor, rho: float = 7.0) -> Tensor:
    """σ̃^{1/ρ} in equal steps, σ̃ = σ/α (EDM, eq. 5; Karras et al.'s ρ = 7)."""
    low, high = (0.5 * level.gamma / rho for level in (path.lowest, path.highest))
    if not (high - low).isfinite() or rho <= 0:
        raise ValueError(f"spacing 'rho' = {rho} up to γ = {float(2 * rho * high):.6g}; allowed: finite ends, or auto")
    root = low.exp() + (high.exp() - low.exp()) * u
    return _between(path, u, 2 * rho * root.log())


def _auto(path: Path, u: Tensor, sigma_data: float = 0.7) -> Tensor:
    """Levels dense about the noise at which data is decided, sparse in both tails, for a high-order solver.

    In λ = −γ/2, from the highest level up, density 1/(1 + (λ − c)²/w²) about c = −log(2.4 σ_d): w = 1.2 on the side of
    noise, 2 on the side of data (3 below 14 levels). Where x̂0 follows, the last level is at most
    λ = 1.4 log S − 0.2 − log(σ_d/0.7): few steps are better spent above it. sigma_data: standard deviation of the data.
    See docs/choose-a-sampler.md.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data}; allowed: above 0")
    # pure noise itself is the first level alone: beyond γ = 60 times are no longer distinct
    low, high = (-0.5 * path.highest.gamma).clamp(min=-30.0), -0.5 * path.lowest.gamma
    last = 1.4 * math.log(len(u)) - 0.2 - math.log(sigma_data / 0.7)
    high = torch.minimum(high, torch.clamp(0.5 * (low + high), min=last))
    centre = -math.log(2.4 * sigma_data)

    def width(side: Tensor) -> Tensor:
        return torch.where(side < 0, 1.2, 3.0 if len(u) < 14 else 2.0)

    ends = torch.stack([low, high]) - centre
    places = width(ends) * torch.atan(ends / width(ends))  # the integral of the density; finite at pure noise
    place = places[1] + (places[0] - places[1]) * u
    return _between(path, u, -2 * (centre + width(place) * torch.tan(place / width(place))))


def _between(path: Path, u: Tensor, gamma: Tensor) -> Tensor:
    """Times at levels γ, the first one exactly at the top and one at the bottom exactly there."""
    t = path.time_of(gamma)
    at_bottom = (u == 0) & torch.isclose(gamma, path.lowest.gamma.expand_as(gamma), rtol=0, atol=1e-9)
    return torch.where(u == 1, 1.0, torch.where(at_bottom, path.schedule.t_min, t))


SPACINGS: dict[str, Callable[..., Tensor]] = {
    "uniform": _uniform,
    "quadratic": _quadratic,
    "log_snr": _log_snr,
    "rho": _rho,
    "auto": _auto,
}
