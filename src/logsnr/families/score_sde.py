"""Score-based generative modelling through SDEs (Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole 2021)."""

from typing import Any


def vp_sde() -> dict[str, Any]:
    """Variance preserving: β from 0.1 to 20 (eq. 32), times from 1e-5, label 999 t, the noise as target.

    The paper's sampler is `--sampler predictor_corrector --steps 1000`; the default is 50 steps on EDM's ρ grid with
    most of the noise of the ancestral predictor, which forgives a network more than the flow does.
    """
    return {
        "schedule": {"name": "beta_linear", "beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-5},
        "scale": "vp",
        "target": "eps",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.8}, "steps": 50, "spacing": {"name": "rho"}},
    }


def subvp_sde() -> dict[str, Any]:
    """Sub-VP: the same β, a smaller variance, σ = 1 − α² (eq. 29). Else as `vp_sde`, but steps equal in t, η = 0.9."""
    return {
        "schedule": {"name": "beta_linear", "beta_min": 0.1, "beta_max": 20.0, "t_min": 1e-5},
        "scale": "sub_vp",
        "target": "eps",
        "label": "time",
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.9}, "steps": 50},
    }


def ve_sde() -> dict[str, Any]:
    """Variance exploding: geometric σ from 0.01 (eq. 30); the network sees x/√(1 + σ²) and 999 t, affine in log σ.

    "eps" is −σ times the score, so the loss is the paper's. σ_max is to be the largest distance between two examples
    (NCSNv2): 10 suits the embedded digits (9.4); the paper has 50 for CIFAR-10, `--set schedule.sigma_max=50`. Sampling
    defaults to 50 nearly ancestral steps on EDM's ρ grid; the paper's is `--sampler predictor_corrector --steps 1000`.
    """
    return {
        "schedule": {"name": "geometric", "sigma_min": 0.01, "sigma_max": 10.0},
        "scale": "ve",
        "target": "eps",
        "label": "time",
        "inputs": {"name": "unit_power"},
        "variance": "small",
        "objective": {"weight": "simple", "times": {"name": "uniform"}},
        "sample": {"sampler": {"name": "ddim", "eta": 0.9}, "steps": 50, "spacing": {"name": "rho"}},
    }
