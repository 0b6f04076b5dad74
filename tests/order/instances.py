"""The samplers under test: every name of the registry, and more than one setting where settings matter."""

from __future__ import annotations

from typing import Any

from logsnr.samplers import SAMPLERS, Sampler

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "ancestral": [{"variance": "small"}, {"variance": "large"}],
    "ddim": [{"eta": 0.0}, {"eta": 0.5}, {"eta": 1.0}, {"eta": 1.0, "noise_variance": "large"}],
}


def _title(name: str, setting: dict[str, Any]) -> str:
    return "-".join([name, *(f"{key}={value}" for key, value in setting.items())])


INSTANCES: dict[str, Sampler] = {
    _title(name, setting): SAMPLERS[name](**setting) for name in SAMPLERS for setting in SETTINGS.get(name, [{}])
}
