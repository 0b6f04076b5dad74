"""Flow matching on the straight path (Lipman et al. 2023; Liu, Gong and Liu 2023; Esser et al. 2024)."""

from typing import Any


def flow() -> dict[str, Any]:
    """x_t = (1 − t) x0 + t ε, t from 0 to 1 with both ends, the velocity ε − x0 and its plain squared error.

    `--set objective.times=logit_normal` is the law of Esser et al. (2024, section 3.1). Sampling defaults to 50
    steps of DDIM with η = 0.6, whose fresh noise forgives a network its errors; `--sampler auto --steps 20` follows the
    flow, nearer than the 50 do.
    """
    return {
        "schedule": {"name": "straight"},
        "scale": "straight",
        "target": "velocity",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "velocity", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.6}, "steps": 50},
    }
