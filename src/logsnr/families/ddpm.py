"""Denoising Diffusion Probabilistic Models (Ho, Jain and Abbeel 2020)."""

from typing import Any


def ddpm() -> dict[str, Any]:
    """Section 4: T = 1000, β from 1e-4 to 0.02, a noise-predicting U-Net, L_simple, β_t as the reverse variance.

    Sampling defaults to DDIM in 50 steps with η = 0.7: a little fresh noise in every step forgives a network that has
    not had the paper's 800,000. `--sampler ancestral --steps 1000` is algorithm 2, `--sampler ddim` has η = 0.
    """
    return {
        "schedule": {"name": "beta_table", "betas": "linear", "num_diffusion_steps": 1000},
        "scale": "vp",
        "target": "eps",
        "label": "index",
        "variance": "large",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.7}, "steps": 50},
    }
