"""Flow matching and rectified flow (Lipman, Chen, Ben-Hamu, Nickel and Le 2023; Liu, Gong and Liu 2023)."""

from typing import Any


def flow() -> dict[str, Any]:
    """x_t = (1 − t) x0 + t ε, the network predicts ε − x0, plain squared error, t uniform; pure noise at t = 1.

    Lipman et al. run time the other way. Esser et al.'s law is `objective.times=logit_normal`. Sampling defaults to
    `auto`, 20 evaluations; the papers' is `--sampler euler`, equal steps of t.
    """
    return {
        "schedule": {"name": "straight"},
        "scale": "straight",
        "target": "velocity",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "velocity", "times": {"name": "uniform"}},
        "sample": {"sampler": "auto", "steps": 20},
    }
