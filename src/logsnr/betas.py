"""The β tables of the papers' programs: β_t, t = 1 … T, with q(x_t|x_{t−1}) = N(√(1−β_t) x_{t−1}, β_t I) (DDPM, eq. 2).

A β table is only a way to write γ at T knots (`schedules.Table`); these functions reproduce the published ones to the
last digit. Each returns (T,) float64 and is named in `BETAS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def linear(num_diffusion_steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    """β from `beta_start` to `beta_end` in equal steps (DDPM, section 4)."""
    return torch.linspace(beta_start, beta_end, num_diffusion_steps, dtype=torch.float64)


def scaled_linear(num_diffusion_steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    """DDPM's linear β for another T: both ends times 1000/T, so that ᾱ_T stays near 4e-5 (Improved DDPM's "linear")."""
    factor = 1000 / num_diffusion_steps
    return linear(num_diffusion_steps, factor * beta_start, factor * beta_end)


def quadratic(num_diffusion_steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    """√β in equal steps."""
    return linear(num_diffusion_steps, math.sqrt(beta_start), math.sqrt(beta_end)) ** 2


def constant(num_diffusion_steps: int, beta_end: float = 2e-2) -> Tensor:
    """The same β at every step."""
    return torch.full((num_diffusion_steps,), beta_end, dtype=torch.float64)


def harmonic(num_diffusion_steps: int) -> Tensor:
    """β_t = 1/(T − t + 1), the last is 1 (Sohl-Dickstein et al. 2015; "jsd" in DDPM's program).

    Its last level is pure noise, which no noise-predicting network can be read at: `Table` refuses it.
    """
    return 1 / torch.arange(num_diffusion_steps, 0, -1, dtype=torch.float64)


def sigmoid(num_diffusion_steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    """β along a logistic curve over [−6, 6] (DDIM's program)."""
    curve = torch.sigmoid(torch.linspace(-6, 6, num_diffusion_steps, dtype=torch.float64))
    return beta_start + (beta_end - beta_start) * curve


def warmup(num_diffusion_steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2, fraction: float = 0.1) -> Tensor:
    """Linear over the first `fraction` of the steps, then constant ("warmup10" and "warmup50" in DDPM's program)."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction = {fraction} of a warm-up; allowed: above 0, at most 1")
    betas = constant(num_diffusion_steps, beta_end)
    rising = int(num_diffusion_steps * fraction)
    betas[:rising] = linear(rising, beta_start, beta_end)
    return betas


def cosine(num_diffusion_steps: int, offset: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """β_t = 1 − ᾱ_t/ᾱ_{t−1} of the cosine ᾱ, clipped at `max_beta` (Improved DDPM, eq. 17 and below).

    Kept for old checkpoints: the clip leaves x̂0 = (x − σε̂)/α an amplification that depends on T (20291 for T = 1000).
    New runs use `schedules.Cosine`, the closed form with a log-SNR bound.
    """
    t = torch.arange(num_diffusion_steps + 1, dtype=torch.float64) / num_diffusion_steps
    alpha_bar = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


BETAS: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "quadratic": quadratic,
    "constant": constant,
    "harmonic": harmonic,
    "sigmoid": sigmoid,
    "warmup": warmup,
    "cosine": cosine,
}
