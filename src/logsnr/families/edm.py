"""Elucidating the Design Space of Diffusion-Based Generative Models (Karras, Aittala, Aila and Laine 2022)."""

from typing import Any


def edm() -> dict[str, Any]:
    """Table 1, last column: x + σ ε, σ from 0.002 to 80, F with c_skip, c_out, c_in, ¼ log σ, log σ ~ N(−1.2, 1.2²).

    σ_data is 0.5, the paper's for images in [−1, 1]. Sampling defaults to `auto`, 20 evaluations; the
    paper's is `--sampler heun --spacing rho --steps 18`.
    """
    return {
        "schedule": {"name": "geometric", "sigma_min": 0.002, "sigma_max": 80.0},
        "scale": "ve",
        "target": {"name": "edm", "sigma_data": 0.5},
        "inputs": {"name": "unit_variance", "sigma_data": 0.5},
        "label": "log_sigma",
        "variance": "small",
        "objective": {
            "weight": {"name": "edm", "sigma_data": 0.5},
            "times": {"name": "log_normal", "mean": -1.2, "std": 1.2},
        },
        "sample": {"sampler": "auto", "steps": 20},
    }
