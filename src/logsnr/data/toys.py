"""Data whose noisy law is known exactly: the ground truth of the tests, and of anybody's experiment.

If x0 ~ Σ_k w_k N(μ_k, diag v_k) then x_t = α x0 + σ ε ~ Σ_k w_k N(α μ_k, diag(α² v_k + σ²)), so density, score and
the best possible denoiser E[x0 | x_t] are closed forms at every level. A Gaussian is one component; a single point is
one of variance 0; a finite data set is one such component per example, and its best denoiser is the memory of that set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.draws import Draws


@dataclass(frozen=True)
class Mixture:
    """Σ_k w_k N(μ_k, diag v_k) over arrays of any shape; float64.

    weights: (K,) summing to 1. means, variances: (K, *shape), variances >= 0.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.means.shape[1:])

    def _terms(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(x; α μ_k, V_k) (B, K), x − α μ_k (B, K, D) and V_k (B or 1, K, D)."""
        a, s = alpha.double().reshape(-1, 1, 1), sigma.double().reshape(-1, 1, 1)
        components = len(self.weights)
        centred = x.cpu().double().reshape(len(x), 1, -1) - a * self.means.reshape(1, components, -1)
        variance = a**2 * self.variances.reshape(1, components, -1) + s**2
        log_density = -0.5 * (centred**2 / variance + torch.log(2 * math.pi * variance)).sum(-1)
        return self.weights.log() + log_density, centred, variance

    def log_prob(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """log p_t(x) in nats at α, σ of shape () or (B,); x: (B, *shape); returns (B,). α = 1, σ = 0 is the data."""
        return torch.logsumexp(self._terms(x, alpha, sigma)[0], dim=1)

    def score(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """∇ log p_t(x), (B, *shape): the posterior mean of the component scores."""
        logits, centred, variance = self._terms(x, alpha, sigma)
        return -(logits.softmax(1).unsqueeze(-1) * centred / variance).sum(1).reshape(x.shape)

    def x0_mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x_t = x], (B, *shape)."""
        logits, centred, variance = self._terms(x, alpha, sigma)
        gain = alpha.double().reshape(-1, 1, 1) * self.variances.reshape(1, len(self.weights), -1) / variance
        component_mean = self.means.reshape(1, len(self.weights), -1) + gain * centred
        return (logits.softmax(1).unsqueeze(-1) * component_mean).sum(1).reshape(x.shape)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """(count, *shape) float64; example i is a function of (seed, i)."""
        draws = Draws(seed, 0, torch.arange(count), count)
        chosen = torch.searchsorted(self.weights.cumsum(0), draws.uniform("component")).clamp(max=len(self.weights) - 1)
        means, variances = self.means[chosen], self.variances[chosen]
        return means + variances.sqrt() * draws.normal("example", means)


def mixture(weights: Tensor, means: Tensor, variances: Tensor | float) -> Mixture:
    """A mixture; `variances` a number or anything that broadcasts to the means. ValueError for bad weights."""
    weights, means = weights.double(), means.double()
    if len(weights) != len(means) or not (weights > 0).all() or abs(float(weights.sum()) - 1) > 1e-6:
        raise ValueError(f"weights {weights.tolist()[:8]}; allowed: one positive weight a component, summing to 1")
    variances = torch.as_tensor(variances, dtype=torch.float64).expand_as(means)
    return Mixture(weights / weights.sum(), means, variances)


def gaussian(mean: Tensor, variance: Tensor | float) -> Mixture:
    """N(mean, diag variance); mean: (*shape)."""
    return mixture(torch.ones(1), mean.unsqueeze(0), torch.as_tensor(variance, dtype=torch.float64))


def finite(examples: Tensor) -> Mixture:
    """The empirical law of a data set (N, *shape): its denoiser is exact for these examples and knows no others."""
    return mixture(torch.full((len(examples),), 1 / len(examples), dtype=torch.float64), examples, 0.0)


def point(x0: Tensor) -> Mixture:
    """All mass on one example of shape (*shape)."""
    return finite(x0.unsqueeze(0))


def _ring(components: int = 8, radius: float = 1.0, std: float = 0.08) -> Mixture:
    angle = torch.arange(components, dtype=torch.float64) * (2 * math.pi / components)
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return mixture(torch.full((components,), 1 / components, dtype=torch.float64), means, std**2)


def _grid(side: int = 5, std: float = 0.05) -> Mixture:
    axis = torch.linspace(-1, 1, side, dtype=torch.float64)
    means = torch.cartesian_prod(axis, axis)
    return mixture(torch.full((side**2,), side**-2.0, dtype=torch.float64), means, std**2)


def _curve(angle: Tensor, radius: Tensor, std: float) -> Mixture:
    means = radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)
    return mixture(torch.full((len(angle),), 1 / len(angle), dtype=torch.float64), means, std**2)


def _spiral(components: int = 200, std: float = 0.03) -> Mixture:
    place = torch.linspace(0, 1, components, dtype=torch.float64)
    return _curve(3 * math.pi * place.sqrt() + 1.0, 0.15 + 0.85 * place.sqrt(), std)


def _circle(components: int = 200, std: float = 0.02) -> Mixture:
    angle = torch.arange(components, dtype=torch.float64) * (2 * math.pi / components)
    return _curve(angle, torch.ones_like(angle), std)


TOYS: dict[str, Callable[[], Mixture]] = {
    "gaussian": lambda: gaussian(torch.tensor([0.5, -0.5]), torch.tensor([0.25, 0.04])),
    "two": lambda: mixture(torch.tensor([0.2, 0.8]), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), 0.04),
    "ring": _ring,
    "grid": _grid,
    "spiral": _spiral,
    "circle": _circle,
}
