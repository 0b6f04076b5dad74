"""The samplers under test: every name of the registry, and more than one setting where settings matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from logsnr.path import Path
from logsnr.records import Part
from logsnr.run.build import sampler
from logsnr.samplers import SAMPLERS, Sampler
from logsnr.scales import vp
from logsnr.schedules import Linear

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "ancestral": [{"variance": "small"}, {"variance": "large"}],
    "auto": [{"steps": 8}, {"steps": 12}],
    "euler": [{}, {"s_churn": 5.0, "steps": 15}],
    "euler_ancestral": [{"eta": 0.0}, {"eta": 1.0}],
    "heun": [{}, {"s_churn": 5.0, "s_max": 50.0, "steps": 15}],
    "multistep": [
        {"order": 1},
        {"order": 2},
        {"order": 3},
        {"order": 4},
        {"order": 1, "corrector": True},
        {"order": 4, "corrector": True},
    ],
    "singlestep": [{"order": 1}, {"order": 2}, {"order": 3}, {"order": 3, "eta": 0.5}],
    "dpm_adaptive": [{"rtol": 1e-4, "atol": 1e-5}],
    "ddim": [{"eta": 0.0}, {"eta": 0.5}, {"eta": 1.0}, {"eta": 1.0, "noise_variance": "large"}],
    "euler_maruyama": [{"eta": 1.0}, {"eta": 0.0}],
    "reverse_diffusion": [{"eta": 1.0}, {"eta": 0.0}],
    "adaptive": [{"rtol": 1e-6, "atol": 1e-6}],
    "predictor_corrector": [
        {"predictor": "ancestral", "corrector": "annealed"},
        {"predictor": {"name": "reverse_diffusion", "eta": 0.0}, "corrector": "langevin"},
    ],
}


@dataclass(frozen=True)
class Kind:
    """A sampler and its options; some are made for a path. What it declares does not depend on which."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def on(self, path: Path) -> Sampler:
        """The sampler for a path."""
        return sampler(Part(self.name, self.options), path)

    @property
    def declared(self) -> Sampler:
        """An instance to ask for `order`, `scale_free` and `stochastic`."""
        return self.on(Path(Linear(-8, 8), vp))

    @property
    def affine(self) -> bool:
        """Whether a step is affine in its noise; the step size of the Langevin corrector depends on the noise drawn."""
        return self.options.get("corrector") != "langevin"

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])


INSTANCES = {
    str(kind): kind for name in SAMPLERS for kind in (Kind(name, setting) for setting in SETTINGS.get(name, [{}]))
}
