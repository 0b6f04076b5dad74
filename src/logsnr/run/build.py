"""From the words of a configuration to the parts they name.

A part is a constructor found by name in the registry of its room; its options are checked against the constructor's
own signature, so a newcomer's part is configurable the moment it is registered.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from logsnr import nets
from logsnr.config import RunConfig
from logsnr.data.transform import Lattice
from logsnr.denoiser import INPUTS, LABELS, Denoiser
from logsnr.kernels import named_rule
from logsnr.level import Level
from logsnr.likelihood import BOUNDS, ESTIMATORS, Estimator
from logsnr.objectives import OBJECTIVES, TIMES, WEIGHTS, Setting, Task
from logsnr.path import SPACINGS, Path, section_counts
from logsnr.prediction import TARGETS
from logsnr.records import Part
from logsnr.registry import lookup
from logsnr.samplers import SAMPLERS, Sampler
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES

T = TypeVar("T")


def make(registry: Mapping[str, Callable[..., T]], part: Part, what: str, *given: Any) -> T:
    """The named part, constructed with its options after the positional arguments that the library gives it."""
    constructor = _checked(registry, part, what, len(given))
    try:
        return constructor(*given, **part.options)
    except (TypeError, RuntimeError) as error:
        options = ", ".join(f"{key}={value!r}" for key, value in part.options.items())
        raise ValueError(f"{what} {part.name!r} does not take ({options}): {error}") from None


def bind(registry: Mapping[str, Callable[..., T]], part: Part, what: str, given: int = 1) -> Callable[..., T]:
    """The named function with its options bound; it is called with `given` positional arguments."""
    return partial(_checked(registry, part, what, given), **part.options)


def _checked(registry: Mapping[str, Callable[..., T]], part: Part, what: str, given: int) -> Callable[..., T]:
    """What the part names, having compared its options with the parameters that follow the `given` first ones."""
    function = lookup(registry, part.name, what)
    parameters = list(inspect.signature(function).parameters.values())[given:]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    for key in part.options:
        if key not in known and not open_ended:
            raise ValueError(f"unknown option {key!r} of {what} {part.name!r}; allowed: {', '.join(known) or 'none'}")
    for parameter in parameters:
        if parameter.name in part.options:
            _check_type(parameter, part.options[parameter.name], f"{what} {part.name!r}")
    return function


WORDS: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,)}
WORDS["None"] = (type(None),)


def _check_type(parameter: inspect.Parameter, value: Any, owner: str) -> None:
    """ValueError if a plain word or number is not of the parameter's type; other types are the constructor's own."""
    words = str(parameter.annotation).split(" | ")
    if not set(words) <= WORDS.keys():
        return
    if isinstance(value, bool):
        good = "bool" in words
    else:
        good = any(isinstance(value, WORDS[word]) for word in words)
    if not good:
        raise ValueError(f"option {parameter.name} = {value!r} of {owner}; allowed: {' or '.join(words)}")


def path(config: RunConfig) -> Path:
    """The diffusion process of a configuration."""
    scale = lookup(SCALES, config.scale, "scale")
    part = with_default(SCHEDULES, config.schedule, "schedule", scale=config.scale)
    if part.options.get("scale", config.scale) != config.scale:
        raise ValueError(f"schedule.scale is {part.options['scale']!r}, scale is {config.scale!r}; allowed: one scale")
    return Path(make(SCHEDULES, part, "schedule"), scale)


def with_default(registry: Mapping[str, Callable[..., Any]], part: Part, what: str, **known: Any) -> Part:
    """The part with what the configuration knows already, where its constructor asks for it and no option says."""
    asked = inspect.signature(lookup(registry, part.name, what)).parameters
    return Part(part.name, {**{key: value for key, value in known.items() if key in asked}, **part.options})


def fitted(config: RunConfig, lattice: Lattice | None) -> RunConfig:
    """The configuration with the schedule told how many values the data has, if it asks."""
    known = {} if lattice is None else {"levels": lattice.count}
    return replace(config, schedule=with_default(SCHEDULES, config.schedule, "schedule", **known))


def octaves(lattice: Lattice | None) -> list[int]:
    """n of the Fourier features sin 2ⁿπz, cos 2ⁿπz with periods of two and one distance of the data's values (V11).

    7 and 8 for 256 values (VDM, appendix C), 3 and 4 for 17; none for continuous data.
    """
    if lattice is None:
        return []
    one = round(math.log2(2 / lattice.width))
    return [one - 1, one]


def network_record(
    config: RunConfig,
    shape: tuple[int, ...],
    lattice: Lattice | None = None,
    conditions: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Everything that a checkpoint must know to build the network again, for data of this shape and lattice.

    conditions: sizes of the data's conditions (`Conditions.sizes`).
    """
    derived = {"shape", "num_classes", "vector_features", "condition_channels", "out_channels"}
    taken = derived & config.network.options.keys()
    if taken:
        raise ValueError(f"network.{min(taken)} follows from the data and the target; allowed: the size's own options")
    # a variance that the network has a say in needs a second half of its output
    out_channels = shape[0] * (2 if named_rule(config.variance).spread else 1)
    sizes: dict[str, Any] = {"out_channels": out_channels, **(conditions or {})}
    record = nets.configure(network_name(config, shape), shape, **sizes, **config.network.options)
    levels, table = record.get("levels"), path(config).schedule.steps
    if isinstance(levels, int) and levels and (config.label != "index" or levels != table):
        raise ValueError(
            f"network.levels = {levels} with label {config.label!r}, on {table or 'no'} levels of a table; allowed: "
            "label index and as many levels as the table has, or network.levels=0"
        )
    return {key: octaves(lattice) if (key, value) == ("fourier", "auto") else value for key, value in record.items()}


def network_name(config: RunConfig, shape: tuple[int, ...]) -> str:
    """The configured size, or for "auto" and "KIND-auto" the one (of that kind) that suits data of this shape."""
    kind, hyphen, auto = config.network.name.rpartition("-")
    if auto != "auto":
        return config.network.name
    size = nets.default_size(shape)
    return kind + hyphen + size if kind + hyphen + size in nets.SIZES else size


def parameters(network: Mapping[str, Any]) -> int:
    """Of the network that a record describes; nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in nets.construct(network).parameters())


def denoiser(config: RunConfig, network: Mapping[str, Any], autocast: torch.dtype | None = None) -> Denoiser:
    """The model of a configuration, with fresh weights from its seed; the caller's generator is left as it was."""
    process = path(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        fresh = nets.construct(network)
    return Denoiser(
        fresh,
        process,
        bind(TARGETS, config.target, "target"),
        label=lookup(LABELS, config.label, "label"),
        inputs=bind(INPUTS, config.inputs, "inputs"),
        spread=named_rule(config.variance).spread,
        autocast=autocast,
    )


def task(config: RunConfig, model: Denoiser, lattice: Lattice | None, num_classes: int = 0) -> Task:
    """The model with what it is trained for, on data of that lattice and so many classes."""
    objective = make(OBJECTIVES, config.objective.loss, "loss", setting(config, model.path, lattice))
    return Task(model, objective, drop=config.condition.drop, num_classes=num_classes)


def setting(config: RunConfig, process: Path, lattice: Lattice | None) -> Setting:
    """What the losses of a configuration are made of, on data of that lattice."""
    times = make(TIMES, config.objective.times, "law of times", process.schedule)
    return Setting(process, bind(WEIGHTS, config.objective.weight, "weight", 2), times, config.variance, lattice)


def bound(config: RunConfig, process: Path, lattice: Lattice | None) -> Estimator:
    """The bound by which a run on data of that lattice is measured."""
    return make(BOUNDS, config.bound, "bound", process, config.variance, lattice)


def estimator(part: Part, config: RunConfig, process: Path, lattice: Lattice | None) -> Estimator:
    """An estimator of the likelihood of a run with that kind of bound, by name and options."""
    return make(ESTIMATORS[config.bound.name], part, "estimator", process, config.variance, lattice)


def sampler_part(part: Part, variance: str, steps: int | str) -> Part:
    """A sampler with its options; what it asks of the model's reverse variance and the steps is filled in."""
    return with_default(SAMPLERS, part, "sampler", variance=variance, steps=sum(section_counts(steps)))


def grid(process: Path, spacing: Part, steps: int | str, end: str) -> Level:
    """The levels of S steps, by the named spacing with its options."""
    bind(SPACINGS, spacing, "spacing", 2)
    return process.grid(steps, end, spacing.name, **spacing.options)


def sampler(part: Part, process: Path) -> Sampler:
    """The sampler of that name and options; one whose first parameter is `path` is made for this process."""
    first = next(iter(inspect.signature(lookup(SAMPLERS, part.name, "sampler")).parameters), None)
    return make(SAMPLERS, part, "sampler", *([process] if first == "path" else []))


def check_spread(part: Part, variance: str) -> None:
    """ValueError if a sampler wants a learned variance of a model that was given another one."""
    for key, wanted in _words(part.options):
        if key not in ("variance", "noise_variance"):
            continue
        if named_rule(wanted).spread and not named_rule(variance).spread:
            raise ValueError(
                f"{key} {wanted!r} of sampler {part.name!r} needs a model with a spread channel, and this one has "
                f"variance {variance!r}; allowed: small, large, or a model trained with variance {wanted!r}"
            )


def _words(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options, and those of the parts among them."""
    for key, value in options.items():
        yield from _words(value) if isinstance(value, Mapping) else [(key, value)]


def own_grid(config: RunConfig, process: Path) -> Level:
    """The grid that a configuration samples on: its own spacing, or the one that its sampler brings."""
    sample = config.sample
    part = sampler_part(sample.sampler, config.variance, sample.steps)
    chosen = sampler(part, process)
    check_spread(part, config.variance)
    return grid(process, sample.spacing or Part(chosen.spacing or "uniform"), sample.steps, sample.end)
