"""The probability flow as a rotation: the variable in which every path is the same bounded motion.

Write x with unit power, u = x/√(α² + σ²), and log-SNR as the angle φ = atan(σ/α) = atan e^{γ/2}. Then, on every path,

    u = cos φ x̂0 + sin φ ε̂,    du/dφ = cos φ ε̂ − sin φ x̂0 = v̂(u, φ),                        (S3; Score SDE, eq. 13)

from φ = 0, clean data, to φ = π/2, pure noise. Scale and schedule are gone, and what is left is as smooth as the
denoiser: the exponential (semi-linear) form of the flow, bounded at both ends. Score and velocity are one another,

    ∇ log p(u) = −u − v̂/tan φ,

and along the flow d log p/dφ = −∇·v̂.

In units where α = 1 the flow depends on σ² alone, so u and the score are even functions of φ, v̂ and its divergence odd:
where the data is smooth at the lowest level, what was found at φ is known at −φ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.level import Level
from logsnr.path import Path


def log_power(level: Level) -> Tensor:
    """log √(α² + σ²), the shape of the level."""
    return 0.5 * torch.logaddexp(2 * level.log_alpha, 2 * level.log_sigma)


def angle(level: Level) -> Tensor:
    """φ, whatever the units."""
    return torch.atan2(level.sigma, level.alpha)


def at_angle(path: Path, phi: Tensor) -> Level:
    """The levels of the path at angles φ (B,), float64, but for their times.

    t is 0, a time whose level is another: the time of a γ takes a bisection, and labels that need it look it up
    (`Path.time_of_level`).
    """
    gamma = 2 * (torch.log(torch.sin(phi)) - torch.log(torch.cos(phi)))
    return Level(torch.zeros_like(phi), gamma, path.scale.log_alpha(gamma), path.scale.log_sigma(gamma))
