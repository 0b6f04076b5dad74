"""Level: the one noun of the library.

Every diffusion process in scope adds Gaussian noise, q(x_t | x0) = N(α_t x0, σ_t² I). What all the papers vary is
only which α and σ a time t stands for; what a network can know is only their ratio, γ = log σ²/α² = −log SNR (VDM).
A `Level` is one such point of the process, for a whole batch (shape ()) or one for each example (shape (B,)).

t = 0 is data, t = 1 is noise: γ increases with t. Both ends are legal levels: γ = −∞ is clean data (α = 1, σ = 0),
γ = +∞ pure noise (α = 0). Therefore log α *and* log σ are kept: σ = exp(log α + γ/2) would be inf − inf there.

Levels are computed in float64 on the CPU and cast once, when they meet the data, by `over`: the only broadcasting
in the library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def over(value: Tensor, x: Tensor) -> Tensor:
    """Shape `value`, () or (B,), to multiply `x`, (B, *), and cast it to the dtype and device of `x`.

    ValueError when `value` has neither shape: broadcasting (B,) against the last axis of an image is the classic
    silent mistake.
    """
    if value.ndim == 0:
        return value.to(x)
    if value.ndim != 1 or x.ndim == 0 or value.shape[0] != x.shape[0]:
        raise ValueError(
            f"a level of shape {tuple(value.shape)} does not go over data of shape {tuple(x.shape)}; "
            "allowed: () or (B,) with B the first dimension of the data"
        )
    return value.to(x).reshape(-1, *(1,) * (x.ndim - 1))


@dataclass(frozen=True)
class Level:
    """A point (t, γ, log α, log σ) of a path; each field of shape () or (B,), float64 for fixed schedules."""

    t: Tensor
    gamma: Tensor
    log_alpha: Tensor
    log_sigma: Tensor

    @property
    def alpha(self) -> Tensor:
        """Signal scale α."""
        return self.log_alpha.exp()

    @property
    def sigma(self) -> Tensor:
        """Noise scale (a standard deviation) σ."""
        return self.log_sigma.exp()

    @property
    def log_snr(self) -> Tensor:
        """log α²/σ² = −γ."""
        return -self.gamma

    @property
    def is_clean(self) -> bool:
        """True when every entry is the clean end, γ = −∞."""
        return bool(torch.isneginf(self.gamma).all())

    def over(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ), ready to multiply `x` of shape (B, *)."""
        return over(self.alpha, x), over(self.sigma, x)

    def perturb(self, x0: Tensor, eps: Tensor) -> Tensor:
        """α x0 + σ ε: a sample of q(x_t | x0) (F1; DDPM eq. 4, VDM eq. 1). x0, eps: (B, *), floating point."""
        if not x0.is_floating_point():
            raise ValueError(f"data of dtype {x0.dtype} cannot be perturbed; allowed: floating point, in model units")
        alpha, sigma = self.over(x0)
        return alpha * x0 + sigma * eps

    def repeat(self, count: int) -> Level:
        """The level of shape (), once for each of `count` examples."""
        return Level(*(field.expand(count) for field in self._fields()))

    def then(self, last: Level) -> Level:
        """These levels, shape (S,), followed by one of shape ()."""
        pairs = zip(self._fields(), last._fields(), strict=True)
        return Level(*(torch.cat([field, end.reshape(1)]) for field, end in pairs))

    def _fields(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.t, self.gamma, self.log_alpha, self.log_sigma

    def __len__(self) -> int:
        return len(self.gamma)

    def __getitem__(self, key: int | slice | Tensor) -> Level:
        return Level(*(field[key] for field in self._fields()))

    def __iter__(self) -> Iterator[Level]:
        return (self[i] for i in range(len(self)))


def clean() -> Level:
    """The clean end of every path: t = 0, γ = −∞, α = 1, σ = 0."""
    low = torch.tensor(-math.inf, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    return Level(zero, low, zero, low)
