"""Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal 2021)."""

from typing import Any


def iddpm() -> dict[str, Any]:
    """Sections 3 and 4: T = 4000, cosine, a learned reverse variance, L_hybrid with λ = 0.001 in bits/dim.

    The cosine is the closed form with a bounded log-SNR; the original's β clip is `schedule={name: beta_table, betas:
    cosine}`. L_vlb with importance-sampled t is `objective.loss=vlb`, `objective.times=loss_second_moment`. Sampling
    defaults to 100 ancestral steps, section 4's strided chain.
    """
    return {
        "schedule": {"name": "cosine_table", "num_diffusion_steps": 4000},
        "scale": "vp",
        "target": "eps",
        "label": "index",
        "variance": "learned_range",
        "objective": {
            "loss": {"name": "hybrid", "vlb_weight": 0.001},
            "weight": "simple",
            "times": {"name": "uniform"},
        },
        "sample": {"sampler": {"name": "ancestral"}, "steps": 100},
    }
