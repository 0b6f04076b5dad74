"""DDIM: a family of processes with the same marginals, from the Markov chain (η = 1) to an ODE solver (η = 0).

    x_s = α_s x̂0 + √(σ_s² − c²) ε̂ + c' ε

Song, Meng and Ermon 2021, eq. 12 and 16, with α, σ in place of √ᾱ, √(1 − ᾱ). c² = η² σ_s² (1 − exp(γ_s − γ_t)) is η²
times the posterior variance, in any units.

    setting                       paper
    η = 0                         DDIM: deterministic, Euler's method for d(x/α) = ε̂ d(σ/α)
    η = 1                         DDPM's ancestral step with the small variance
    η = 1, noise_variance large   σ̂ of section 5: only the noise is larger, the coefficient of ε̂ stays

As η <= 1, c <= σ_s and the root is real; σ̂ may exceed σ_s, which is why it must not enter the root. With η = 0 nothing
asks for s to be the lower level: the same step goes up a grid (`samplers.encode`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.implicit import kept
from logsnr.kernels import named_rule, small
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, evaluations


class DDIM(Sampler):
    """The step above. eta: η in [0, 1].

    noise_variance: "small" for c' = c; "large" for c' = η · standard deviation of the transition.
    """

    order = 1

    def __init__(self, eta: float = 0.0, noise_variance: str = "small") -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta = {eta}; allowed: 0 (deterministic) to 1 (ancestral)")
        self.eta, self.rule = eta, named_rule(noise_variance)
        self.stochastic = eta > 0
        self.scale_free = not self.stochastic or self.rule is small  # β is a variance in the units of x_t

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: Any = None
    ) -> Step:
        prediction = model(x, t)
        share = kept(t, s, self.eta) if self.stochastic else torch.ones_like(t.gamma)
        mean = over(s.alpha, x) * prediction.x0 + over(s.sigma * share.sqrt(), x) * prediction.eps
        if not self.stochastic:
            return Step(mean, mean, prediction, s, evaluations(x, 1))
        std = self.eta * torch.exp(0.5 * self.rule(prediction, t, s))
        return Step(mean + std * noise("step"), mean, prediction, s, evaluations(x, 1))
