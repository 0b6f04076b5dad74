"""Weights of the squared noise error |ε − ε̂|² over noise levels, one function each.

They are defined once, on the ε error. The error of any other target is a known multiple of it ((Δ/α)² with the
determinant of `prediction`), so a weight means the same whatever the network predicts. With SNR = e^{−γ}, and v on the
vp scale:

    |ε − ε̂|² = SNR |x0 − x̂0|² = |v − v̂|²/(1 + e^γ) = |velocity error|²/(1 + e^{γ/2})² = |F − F̂|²/(1 + e^γ/σ_d²)

so "the plain squared error of v" is a weight too, and so is min-SNR, in whichever symbol a paper writes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.level import Level
from logsnr.objectives.by_step import ddim, table
from logsnr.path import Path
from logsnr.registry import positive

Weight = Callable[[Path, Level], Tensor]  # with any options bound


def simple(path: Path, level: Level) -> Tensor:
    """1: L_simple (DDPM, eq. 14); the x0 error weighted by SNR."""
    return torch.ones_like(level.gamma)


def likelihood(path: Path, level: Level) -> Tensor:
    """γ′: likelihood weighting, λ = g² on the score error (ScoreFlow, theorem 1), twice VDM's integrand (eq. 15).

    g² |ŝ − s|² = σ² γ′ |ε̂ − ε|²/σ², on every scale (F7).
    """
    return path.slope(level.t).gamma


def sigma_power(path: Path, level: Level, power: float = 2.0) -> Tensor:
    """σ^{p − 2}: λ(σ) = σ^p on the error of the score, which is (ε − ε̂)/σ; p = 2 is NCSN's choice (N2, eq. 6)."""
    return torch.exp((power - 2) * level.log_sigma)


def v(path: Path, level: Level) -> Tensor:
    """1 + e^γ: the plain error of v, SNR + 1 on the x0 error (Salimans and Ho 2022, section 4)."""
    return 1 + torch.exp(level.gamma)


def velocity(path: Path, level: Level) -> Tensor:
    """(1 + e^{γ/2})²: the plain error of ε − x0, 1/α² on the straight scale (flow matching; Lipman et al. 2023)."""
    return (1 + torch.exp(0.5 * level.gamma)) ** 2


def edm(path: Path, level: Level, sigma_data: float = 0.5) -> Tensor:
    """1 + e^γ/σ_d²: the plain error of F, (σ̃² + σ_d²)/(σ̃ σ_d)² on the x0 error (EDM, table 1 and eq. 8)."""
    positive(sigma_data=sigma_data)
    return 1 + torch.exp(level.gamma - 2 * math.log(sigma_data))


def truncated(path: Path, level: Level) -> Tensor:
    """max(1, e^γ): max(SNR, 1) on the x0 error (Salimans and Ho 2022, section 4)."""
    return torch.exp(level.gamma).clamp(min=1)


def min_snr(path: Path, level: Level, most: float = 5.0) -> Tensor:
    """min(SNR, most)/SNR; min(SNR, most) on the x0 error, min(SNR, most)/(SNR + 1) on v (Hang et al. 2023, eq. 8)."""
    positive(most=most)
    return (most * torch.exp(level.gamma)).clamp(max=1)


def soft_min_snr(path: Path, level: Level, sigma_data: float = 0.5) -> Tensor:
    """sigmoid(γ − 2 log σ_d): 1/(σ̃² + σ_d²) on the x0 error, a smooth min(SNR, 1/σ_d²) (Crowson et al. 2024)."""
    positive(sigma_data=sigma_data)
    return torch.sigmoid(level.gamma - 2 * math.log(sigma_data))


def p2(path: Path, level: Level, power: float = 1.0, offset: float = 1.0) -> Tensor:
    """(offset + SNR)^−power, the paper's k and γ: less weight where only detail is left (Choi et al. 2022, eq. 8)."""
    positive(offset=offset)
    return torch.exp(-power * torch.logaddexp(torch.full_like(level.gamma, math.log(offset)), -level.gamma))


def sigmoid(path: Path, level: Level, bias: float = 2.0) -> Tensor:
    """γ′ sigmoid(γ + bias): the bound, less where SNR is above e^bias (Kingma and Gao 2023, section 5)."""
    return path.slope(level.t).gamma * torch.sigmoid(level.gamma + bias)


WEIGHTS: dict[str, Callable[..., Tensor]] = {
    "simple": simple,
    "likelihood": likelihood,
    "v": v,
    "velocity": velocity,
    "edm": edm,
    "truncated": truncated,
    "min_snr": min_snr,
    "soft_min_snr": soft_min_snr,
    "p2": p2,
    "sigmoid": sigmoid,
    "sigma_power": sigma_power,
    "table": table,
    "ddim": ddim,
}
