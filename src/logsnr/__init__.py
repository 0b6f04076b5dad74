"""Every diffusion model is a denoiser and a log-SNR curve.

The names below are the library; each is imported when it is first used, so that `import logsnr` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Level": "level",
    "Draws": "draws",
    "Loss": "loss",
    "bits_per_dim": "loss",
    "NoiseSchedule": "schedules",
    "Linear": "schedules",
    "BetaLinear": "schedules",
    "Cosine": "schedules",
    "Table": "schedules",
    "geometric": "schedules",
    "table_of_betas": "schedules",
    "Scale": "scales",
    "vp": "scales",
    "ve": "scales",
    "sub_vp": "scales",
    "straight": "scales",
    "Path": "path",
    "Prediction": "prediction",
    "Denoiser": "denoiser",
    "Clipped": "denoiser",
    "Oracle": "oracles",
    "Mixture": "data.toys",
    "mixture": "data.toys",
    "gaussian": "data.toys",
    "point": "data.toys",
    "finite": "data.toys",
    "Normal": "kernels",
    "Dynamics": "dynamics",
    "Process": "process",
    "Bound": "likelihood",
    "bound_for": "likelihood",
    "Matching": "objectives",
    "VLB": "objectives",
    "Hybrid": "objectives",
    "Sliced": "objectives",
    "Task": "objectives",
    "Uniform": "objectives",
    "Sampler": "samplers",
    "Step": "samplers",
    "DDIM": "samplers",
    "Ancestral": "samplers",
    "EulerMaruyama": "samplers",
    "ReverseDiffusion": "samplers",
    "PredictorCorrector": "samplers",
    "Adaptive": "samplers",
    "UniformLogSNR": "objectives",
    "AnnealedLangevin": "samplers",
    "simulate": "samplers",
    "seeded": "samplers",
    "prior": "samplers",
    "encode": "samplers",
    "slerp": "samplers",
    "load": "run",
    "train_recipe": "run.training",
}
_ROOMS = (
    "betas", "config", "data", "decoders", "denoiser", "draws", "dynamics", "families", "guidance", "implicit",
    "kernels", "level", "likelihood", "loss", "metrics", "nets", "objectives", "oracles", "path", "pictures",
    "prediction", "process", "report", "run", "samplers", "scales", "schedules", "train",
)  # fmt: skip

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"logsnr.{_HOME[name]}"), name)
    if name in _ROOMS:
        return import_module(f"logsnr.{name}")
    raise AttributeError(f"module 'logsnr' has no attribute {name!r}; it has {', '.join([*_HOME, *_ROOMS])}")


def __dir__() -> list[str]:
    return [*__all__, *_ROOMS]
