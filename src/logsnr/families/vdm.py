"""Variational Diffusion Models (Kingma, Salimans, Poole and Ho 2021)."""

from typing import Any


def vdm() -> dict[str, Any]:
    """Sections 3–6: γ a monotone network with learned ends, the bound in continuous time as the loss, ε predicted.

    γ₀ = −13.3 for 8 bits, as far below the distance of the data's values for other depths; γ₁ = 5. The chain ends at
    the lowest level, where rounding decodes. Sampling is the paper's, in 75 equal steps of γ, as the learned γ(t) is
    made for the loss. The paper's network, which keeps its resolution and takes hours where the default takes minutes,
    is `--network vdm-auto` (or vdm-cifar10, its size).
    """
    return {
        "schedule": {"name": "learned", "gamma_max": 5.0, "ends": "learned", "init": "linear"},
        "scale": "vp",
        "target": "eps",
        "label": "gamma",
        "variance": "small",
        "objective": {"loss": {"name": "vdm", "steps": None}, "times": {"name": "uniform", "stratified": True}},
        "bound": {"name": "vdm", "steps": None},
        "sample": {"sampler": {"name": "ancestral"}, "steps": 75, "spacing": "log_snr", "end": "lowest"},
    }
