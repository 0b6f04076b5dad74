"""Interpolation: the noise of one sample turned into the noise of another (N7; NCSN, appendix B.3; DDIM, M6).

Where a sample is a function of its draws, a path between two sets of draws is a path between two samples. For normals
the path is a quarter turn, z(φ) = cos φ · z + sin φ · z', which is standard normal at every φ, whereas a straight line
would have variance ½ in its middle. Turned in every draw of a chain, prior and Langevin steps alike, it interpolates by
Langevin dynamics; a deterministic sampler draws its prior alone, which is the spherical interpolation of latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr.level import over
from logsnr.samplers.loop import Noise


def turned(first: Noise, last: Noise, angle: Tensor) -> Noise:
    """cos φ · first + sin φ · last, with φ = angle (B,) of each row: 0 is the first sample, π/2 the last."""

    def noise(step: int, draw: str) -> Tensor:
        one, other = first(step, draw), last(step, draw)
        return over(torch.cos(angle), one) * one + over(torch.sin(angle), other) * other

    return noise
