"""Exponential moving averages."""

from __future__ import annotations

import math

import torch

from logsnr.train.ema import decay, lerp

from .reference import Reference


def replay(reference: Reference, first: torch.Tensor, rows: torch.Tensor, rate: float) -> torch.Tensor:
    """The average after each row, with the library's decay: a half-life in images, one image a step, no warm-up."""
    half_life_images = math.log(0.5) / math.log(rate)
    step = decay(1, 1, half_life_images=half_life_images, warmup_ratio=math.inf)
    average, after = first.clone(), []
    for row in rows:
        lerp([average], [row], step)
        after.append(average.clone())
    return torch.stack(after)


def ddim_ema(reference: Reference) -> None:
    """ermongroup/ddim's EMAHelper: registered at params[0], updated with the rest."""
    rows = reference.read("params")
    reference.check("shadow_after", replay(reference, rows[0], rows[1:], float(reference.read("mu"))), 1e-10)


def iddpm_ema(reference: Reference) -> None:
    """Improved DDPM's update_ema."""
    rows, first = reference.read("source"), reference.read("init")
    reference.check("target_after", replay(reference, first, rows, float(reference.read("rate"))), 1e-12)
