"""Score-based generative modelling through SDEs (Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole 2021)."""

from typing import Any


def vp_sde() -> dict[str, Any]:
    """Variance preserving: β from 0.1 to 20 (eq. 32), times from 1e-5, label 999 t, the noise as target.

    The paper's sampler is `--sampler predictor_corrector --steps 1000`; the default is its flow in 50 steps.
    """
    return {
        "schedule": {"name": "beta_linear", "beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-5},
        "scale": "vp",
        "target": "eps",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.0}, "steps": 50},
    }


def subvp_sde() -> dict[str, Any]:
    """Sub-VP: the same β, a smaller variance, σ = 1 − α² (eq. 29). All else as `vp_sde`."""
    return {
        "schedule": {"name": "beta_linear", "beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-5},
        "scale": "sub_vp",
        "target": "eps",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.0}, "steps": 50},
    }


def ve_sde() -> dict[str, Any]:
    """Variance exploding: σ from 0.01 to 50, geometric (eq. 30); the network sees x/√(1 + σ²) and 999 t ∝ log σ.

    The score target times σ is the noise with its sign, so "eps" is the paper's loss. σ_max is to be the largest
    distance between two examples (NCSNv2); 50 is the paper's for CIFAR-10.
    """
    return {
        "schedule": {"name": "geometric", "sigma_min": 0.01, "sigma_max": 50.0},
        "scale": "ve",
        "target": "eps",
        "label": "time",
        "inputs": {"name": "unit_power"},
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.0}, "steps": 50},
    }
