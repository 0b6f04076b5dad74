"""From the words of a configuration to the parts they name.

A part is a constructor found by name in the registry of its room; its options are checked against the constructor's
own signature, so a newcomer's part is configurable the moment it is registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch

from logsnr import nets
from logsnr.config import Part, RunConfig
from logsnr.denoiser import LABELS, Denoiser
from logsnr.kernels import VARIANCES
from logsnr.objectives import TIMES, WEIGHTS, Matching, Task
from logsnr.path import SPACINGS, Path
from logsnr.prediction import TARGETS
from logsnr.samplers import SAMPLERS, Sampler
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: str, what: str) -> T:
    """registry[name]; ValueError naming what is known."""
    if name not in registry:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(registry)}")
    return registry[name]


def make(registry: Mapping[str, Callable[..., T]], part: Part, what: str, *given: Any) -> T:
    """The named part, constructed with its options after the positional arguments that the library gives it."""
    constructor = lookup(registry, part.name, what)
    parameters = list(inspect.signature(constructor).parameters.values())[len(given) :]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    for key in part.options:
        if key not in known and not open_ended:
            raise ValueError(f"unknown option {key!r} of {what} {part.name!r}; allowed: {', '.join(known) or 'none'}")
    try:
        return constructor(*given, **part.options)
    except TypeError as error:
        options = ", ".join(f"{key}={value!r}" for key, value in part.options.items())
        raise ValueError(f"{what} {part.name!r} does not take ({options}): {error}") from None


def path(config: RunConfig) -> Path:
    """The diffusion process of a configuration."""
    return Path(make(SCHEDULES, config.schedule, "schedule"), lookup(SCALES, config.scale, "scale"))


def network_record(config: RunConfig, shape: tuple[int, ...]) -> dict[str, Any]:
    """Everything that a checkpoint must know to build the network again, for data of this shape."""
    name = nets.default_size(shape) if config.network.name == "auto" else config.network.name
    return nets.configure(name, shape, **config.network.options)


def denoiser(config: RunConfig, network: Mapping[str, Any], autocast: torch.dtype | None = None) -> Denoiser:
    """The model of a configuration, with fresh weights from its seed."""
    torch.manual_seed(config.seed)
    return Denoiser(
        nets.construct(network),
        path(config),
        lookup(TARGETS, config.target, "target"),
        label=lookup(LABELS, config.label, "label"),
        autocast=autocast,
    )


def task(config: RunConfig, model: Denoiser) -> Task:
    """The model with what it is trained for."""
    times = make(TIMES, config.objective.times, "law of times", model.path.schedule)
    return Task(model, Matching(model.path, lookup(WEIGHTS, config.objective.weight, "weight"), times))


def sampler(part: Part, variance: str) -> Sampler:
    """A sampler; those with a reverse variance take the model's unless told otherwise."""
    constructor = lookup(SAMPLERS, part.name, "sampler")
    takes = "variance" in inspect.signature(constructor).parameters
    options = {"variance": variance, **part.options} if takes else part.options
    return make(SAMPLERS, replace(part, options=options), "sampler")


def check(config: RunConfig) -> None:
    """ValueError if some part of the configuration cannot be built, without building the network."""
    process = path(config)
    lookup(TARGETS, config.target, "target")
    lookup(LABELS, config.label, "label")(process, process.highest)
    lookup(VARIANCES, config.variance, "variance")
    lookup(WEIGHTS, config.objective.weight, "weight")
    lookup(SPACINGS, config.sample.spacing, "spacing")
    make(TIMES, config.objective.times, "law of times", process.schedule)
    sampler(config.sample.sampler, config.variance)
    process.grid(config.sample.steps, config.sample.end, config.sample.spacing)
