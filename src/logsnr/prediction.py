"""What a network predicts, and everything that follows from it.

A parameterisation is a direction (a, b): the network is trained to return y = a x0 + b ε. Together with what it is
given, x = α x0 + σ ε, that is a 2 × 2 linear system, so one inverse yields every reading of the model (section 2;
VDM, section 3; EDM, table 1):

    x0     (1, 0)                       v         (−σ, α)          Salimans and Ho 2022
    eps    (0, 1)                       velocity  (−1, 1)          flow matching on the straight path
    score  (0, −1/σ)                    edm       (√sigmoid(u)/σ_d, −√sigmoid(−u)), u = γ − 2 log σ_d   EDM, eq. 7

    x0 = (b x − σ y)/Δ,   ε = (α y − a x)/Δ,   Δ = α b − σ a

The 2 × 2 arithmetic runs on levels, in float64; only its results are cast to the data. A new target is a function of a
level that returns two numbers, and a line in `TARGETS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from logsnr.level import Level, over


class Direction(NamedTuple):
    """y = a x0 + b ε; each of shape () or (B,)."""

    a: Tensor
    b: Tensor


Target = Callable[[Level], Direction]


def x0(level: Level) -> Direction:
    """The clean data."""
    return Direction(torch.ones_like(level.gamma), torch.zeros_like(level.gamma))


def eps(level: Level) -> Direction:
    """The noise (DDPM, eq. 14)."""
    return Direction(torch.zeros_like(level.gamma), torch.ones_like(level.gamma))


def score(level: Level) -> Direction:
    """∇ log q(x_t | x0) = −ε/σ (NCSN, eq. 2)."""
    return Direction(torch.zeros_like(level.gamma), -torch.exp(-level.log_sigma))


def v(level: Level) -> Direction:
    """v = α ε − σ x0 (Salimans and Ho 2022, section 4)."""
    return Direction(-level.sigma, level.alpha)


def velocity(level: Level) -> Direction:
    """ε − x0, dx/dt of the straight path (Lipman et al. 2023, with t = 1 the noise end)."""
    return Direction(-torch.ones_like(level.gamma), torch.ones_like(level.gamma))


def scaled_score(level: Level) -> Direction:
    """σ ∇ log q(x_t | x0) = −ε: NCSNv2's s_θ(x, σ) = s_θ(x)/σ is the score of a network that predicts this (N6)."""
    return Direction(torch.zeros_like(level.gamma), -torch.ones_like(level.gamma))


def edm(level: Level, sigma_data: float = 0.5) -> Direction:
    """F = (x0 − c_skip x̃)/c_out of x̃ = x0 + σ̃ ε, σ̃ = e^{γ/2} (EDM, eq. 7 and table 1): unit variance at every level.

    With c_skip = σ_d²/(σ̃² + σ_d²), c_out = σ̃ σ_d/√(σ̃² + σ_d²) and u = γ − 2 log σ_d the two numbers are √sigmoid(u)/σ_d
    and −√sigmoid(−u), finite at both ends. sigma_data: standard deviation of the data, in model units. At σ_d = 1 it is
    −v of the vp scale.
    """
    if not sigma_data > 0:
        raise ValueError(f"sigma_data = {sigma_data}; allowed: above 0, the standard deviation of the data")
    u = level.gamma - 2 * math.log(sigma_data)
    return Direction(torch.exp(0.5 * logsigmoid(u)) / sigma_data, -torch.exp(0.5 * logsigmoid(-u)))


TARGETS: dict[str, Callable[..., Direction]] = {
    "x0": x0,
    "eps": eps,
    "score": score,
    "v": v,
    "velocity": velocity,
    "edm": edm,
    "scaled_score": scaled_score,
}


def determinant(level: Level, direction: Direction) -> Tensor:
    """Δ = α b − σ a: a squared error in y is (Δ/α)² times that in ε and (Δ/σ)² times that in x0."""
    return level.alpha * direction.b - level.sigma * direction.a


@dataclass(frozen=True)
class Prediction:
    """A network's answer `value` (B, *) = a x̂0 + b ε̂ at the noisy `x` (B, *), read in any parameterisation.

    direction: the (a, b) the network was trained for. spread: what the network said of the reverse variance, (B, *), or
    None. The native value is kept, so that ε̂ of a noise-predicting network is its output and not a rounding of it.
    """

    x: Tensor
    level: Level
    direction: Direction
    value: Tensor
    spread: Tensor | None = None

    def along(self, wanted: Direction) -> Tensor:
        """The prediction of a x0 + b ε for any other direction, (B, *)."""
        (a, b), level = self.direction, self.level
        delta = determinant(level, self.direction)
        of_x = (wanted.a * b - wanted.b * a) / delta
        of_value = (wanted.b * level.alpha - wanted.a * level.sigma) / delta
        return over(of_x, self.x) * self.x + over(of_value, self.x) * self.value

    @property
    def x0(self) -> Tensor:
        """x̂0, the denoised data E[x0 | x_t], (B, *)."""
        return self.along(x0(self.level))

    @property
    def eps(self) -> Tensor:
        """ε̂, the noise, (B, *)."""
        return self.along(eps(self.level))

    @property
    def score(self) -> Tensor:
        """ŝ = −ε̂/σ, (B, *)."""
        return self.along(score(self.level))

    @property
    def v(self) -> Tensor:
        """v̂ = α ε̂ − σ x̂0, (B, *)."""
        return self.along(v(self.level))

    def clipped(self, low: float, high: float) -> Prediction:
        """The same with x̂0 held within the range of the data; ε̂ then follows from x and the clipped x̂0."""
        return replace(self, direction=x0(self.level), value=self.x0.clamp(low, high))

    def detached(self) -> Prediction:
        """Value without gradient, spread with it: Improved DDPM's stop-gradient on the mean (section 3.1)."""
        return replace(self, value=self.value.detach())
