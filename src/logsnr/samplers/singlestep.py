"""DPM-Solver: exponential integrators for the probability flow that need no memory, of order 1 to 3 (2206.00927).

With λ = −γ/2 and h = λ_s − λ_t the flow is, in the units of every path,

    x_s = (α_s/α_t) x_t − σ_s ∫_{λ_t}^{λ_s} e^{λ_s − λ} ε̂ dλ        (eq. 3.4)

and ε̂ is expanded in λ from its values at t and at stages between t and s, each of which is a step of lower order:

    1        x_s = α_s x̂0 + σ_s ε̂                                      DDIM with η = 0
    2        x_s − σ_s expm1(h)/(2 r₁) (ε̂₁ − ε̂)                         stage at r₁ = 1/2          (algorithm 1)
    3        x_s − σ_s (expm1(h)/h − 1)/r₂ (ε̂₂ − ε̂)                     stages at r₁ = 1/3, r₂ = 2/3 (algorithm 2)

as many evaluations as the order. From pure noise or up to it, where there is no stage between, it is of order 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.samplers.euler import euler
from logsnr.samplers.loop import Sampler, Step, evaluations

FIRST, SECOND = 1 / 3, 2 / 3  # stages of order 3
EVEN = 1 / 2  # and of order 2 by itself


class Pair(NamedTuple):
    """x at s by a step of some order and by the one below it, which shares its stages, both (B, *)."""

    lower: Tensor
    higher: Tensor


def pair(model: Model, path: Path, prediction: Prediction, t: Level, s: Level, order: int) -> Pair:
    """Steps of `order` (2 or 3) and order − 1 from what was predicted at t to s, levels of shape () or (B,)."""
    h = 0.5 * (t.gamma - s.gamma)

    def between(share: float) -> Level:
        return path.at_gamma(t.gamma + share * (s.gamma - t.gamma))

    def second(to: Level, factor: Tensor, change: Tensor) -> Tensor:
        return euler(prediction, to) - over(to.sigma * factor, change) * change

    if order == 2:
        middle = between(EVEN)
        change = model(euler(prediction, middle), middle).eps - prediction.eps
        return Pair(euler(prediction, s), second(s, torch.expm1(h) / (2 * EVEN), change))
    first, last = between(FIRST), between(SECOND)
    change = model(euler(prediction, first), first).eps - prediction.eps
    inner = second(last, SECOND / FIRST * _beyond(SECOND * h), change)
    further = model(inner, last).eps - prediction.eps
    return Pair(second(s, torch.expm1(h) / (2 * FIRST), change), second(s, _beyond(h) / SECOND, further))


def _beyond(h: Tensor) -> Tensor:
    """expm1(h)/h − 1."""
    return torch.expm1(h) / h - 1


def lowered(path: Path, t: Level, s: Level, eta: float) -> Level:
    """The level to step down to where noise up to s follows, σ_down of `euler_ancestral`; not below the lowest.

    η times the posterior's share of the variance is noise: σ̃_down² = σ̃_s² (1 − η² (1 − σ̃_s²/σ̃_t²)).
    """
    if not eta:
        return s
    kept = 1 + eta**2 * torch.expm1(s.gamma - t.gamma)
    return path.at_gamma(torch.maximum(s.gamma + torch.log(kept.clamp(min=0)), path.lowest.gamma.expand_as(s.gamma)))


def raised(x: Tensor, low: Level, s: Level, noise: Callable[[str], Tensor], name: str = "step") -> Tensor:
    """x at `low`, made noisier up to s: (α_s/α_low) x + α_s √(σ̃_s² − σ̃_low²) z."""
    std = s.sigma * torch.sqrt(-torch.expm1(low.gamma - s.gamma))
    return over(torch.exp(s.log_alpha - low.log_alpha), x) * x + over(std, x) * noise(name)


class Singlestep(Sampler):
    """The step above. order: 1, 2 or 3. eta: η > 0 steps further down and adds noise, as `euler_ancestral` does."""

    scale_free = True

    def __init__(self, path: Path, order: int = 3, eta: float = 0.0) -> None:
        if order not in (1, 2, 3) or not 0 <= eta <= 1:
            raise ValueError(f"order = {order}, eta = {eta}; allowed: order 1, 2, 3 and 0 <= eta <= 1")
        self.path, self.count, self.eta = path, order, eta
        self.stochastic = eta > 0
        self.order = None if self.stochastic else order

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        low = lowered(self.path, t, s, self.eta)
        count = 1 if torch.isposinf(t.gamma) or torch.isposinf(s.gamma) else self.count
        if count == 1:
            moved = euler(prediction, low)
        else:
            moved = pair(model, self.path, prediction, t, low, count).higher
        if not self.stochastic:
            return Step(moved, moved, prediction, s, evaluations(x, count))
        mean = over(torch.exp(s.log_alpha - low.log_alpha), x) * moved
        return Step(raised(moved, low, s, noise), mean, prediction, s, evaluations(x, count))
