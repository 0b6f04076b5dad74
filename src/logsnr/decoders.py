"""p(data | z₀): from a Gaussian in model units to a probability of what was observed.

Discrete data needs a probability, not a density: the Gaussian's mass in the bin around the observed value (D9; DDPM,
eq. 13),

    log p(x0) = Σ_i log[ Φ((x0_i + w/2 − μ_i)/σ_i) − Φ((x0_i − w/2 − μ_i)/σ_i) ],

with the first and the last bin open to −∞ and +∞, so that the masses of all levels sum to one. Continuous data has no
bins; its decoder is the density itself, and its likelihood stays in nats.

A `softmax` decoder (V3; VDM, eq. 8) takes p as the law of z₀/α₀ given x and lets the values of the lattice share the
probability in proportion to it,

    p(x | z₀) = Π_i q(z₀_i | x_i) / Σ_v q(z₀_i | v),   q(z₀ | v) ∝ exp(−(z₀/α₀ − v)²/2e^γ₀).

Its most probable value is the lattice's nearest to z₀/α₀, whatever γ₀: decoding is rounding.

A decoder is a function (x0, p) → (B,) log probability in nats, summed over dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.kernels import Normal

Decoder = Callable[[Tensor, Normal], Tensor]
LogMass = Callable[[Tensor, Tensor], Tensor]


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log[Φ(high) − Φ(low)] for low < high, any shape, ±∞ allowed; exact in both tails.

    Both ends are reflected to the lower tail, where log Φ keeps its digits.
    """
    upper = low + high > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    log_high = torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high))


def tanh_log_mass(low: Tensor, high: Tensor) -> Tensor:
    """The same with the tanh approximation of Φ and the floor of 1e-12 of DDPM's and Improved DDPM's programs.

    For comparison with their figures only: Φ is off by up to 1.8e-4, a far value costs at most 27.6 nats.
    """

    def cdf(x: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    first, last = torch.isneginf(low), torch.isposinf(high)
    lower = torch.where(first, 0.0, cdf(torch.where(first, 0.0, low)))
    # the programs form 1 − Φ for the last bin and Φ for the first: the same differences
    upper = torch.where(last, 1.0, cdf(torch.where(last, 0.0, high)))
    return torch.log((upper - lower).clamp(min=1e-12))


def discretised_gaussian(lattice: Lattice, mass: LogMass = log_mass) -> Decoder:
    """D9 on the lattice of a data transform. ValueError for values off the lattice."""

    def log_prob(x0: Tensor, p: Normal) -> Tensor:
        level = lattice.index(x0)
        inverse_std = torch.exp(-0.5 * p.log_var)
        low = torch.where(level == 0, -torch.inf, (x0 - lattice.width / 2 - p.mean) * inverse_std)
        high = torch.where(level == lattice.count - 1, torch.inf, (x0 + lattice.width / 2 - p.mean) * inverse_std)
        return mass(low, high).reshape(len(x0), -1).sum(1)

    return log_prob


LEAST_LOG_RATIO = -100.0  # of a value's share to the largest: e^-100 is nothing beside 1 in any precision


def softmax_log_prob(lattice: Lattice, level: Tensor, p: Normal) -> Tensor:
    """log p(value number `level` | z₀) of each dimension, in nats; p = N(z₀/α₀, e^γ₀). level: the shape of p.mean.

    The sum over values runs over those near the mean: the j-th from the nearest has at most exp(−j(j − 1)w²/2e^γ₀)
    of its share, so the window that holds every share above e^-100 is the same as the whole lattice.
    """
    widest = math.exp(float(p.log_var.detach().max())) / lattice.width**2
    reach = min(lattice.count - 1, math.ceil(0.5 + math.sqrt(0.25 - 2 * LEAST_LOG_RATIO * widest)))
    count, nearest = min(lattice.count, 2 * reach + 1), lattice.nearest(p.mean)
    first = (nearest - reach).clamp(0, lattice.count - count)
    number = first.unsqueeze(0) + torch.arange(count, device=level.device).reshape(-1, *(1,) * level.ndim)
    off = p.mean - (lattice.low + lattice.width * nearest.to(p.mean))

    def log_ratio(k: Tensor) -> Tensor:
        """log q(z₀|v_k)/q(z₀|v), v the nearest value: the difference of two squares as a product keeps its digits."""
        further = lattice.width * (k - nearest).to(p.mean)
        return -further * (0.5 * further - off) * torch.exp(-p.log_var)

    return log_ratio(level) - torch.logsumexp(log_ratio(number), dim=0)


def softmax(lattice: Lattice) -> Decoder:
    """V3 on the lattice of a data transform. ValueError for values off the lattice."""

    def log_prob(x0: Tensor, p: Normal) -> Tensor:
        return softmax_log_prob(lattice, lattice.index(x0), p).reshape(len(x0), -1).sum(1)

    return log_prob


def gaussian_density(x0: Tensor, p: Normal) -> Tensor:
    """log N(x0; μ, σ²): the decoder of continuous data, a density in model units."""
    return p.log_prob(x0)
