"""RunConfig: everything that a run is, as one frozen record that can be printed, saved and rebuilt from.

    flag  >  YAML (--config)  >  recipe  >  default

A recipe names a part of every kind (schedule, target, network, …) and its options; parts are looked up by name where
they are defined, so this module knows words and numbers only, and importing it costs nothing. Every unknown key and
every value of the wrong type is an error that says what is allowed.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from logsnr.families import FAMILIES
from logsnr.records import Part, number, read, read_yaml, to_dict

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class DataConfig:
    """What is learned. size: height and width images are resized to; channels: 1, 3, 4 or as they are."""

    source: str = "digits"
    size: tuple[int, ...] | None = None
    channels: int | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if self.size is not None and not (len(self.size) in (1, 2) and min(self.size) >= 1):
            raise ValueError(f"data.size = {list(self.size)}; allowed: one side or [height, width], at least 1")


@dataclass(frozen=True)
class ConditionConfig:
    """What the model is told beside the noise level. use: of classes, vector, image. drop: how often it is not told."""

    use: tuple[str, ...] = ()
    drop: float = 0.1

    def __post_init__(self) -> None:
        known = ("classes", "vector", "image")
        for name in self.use:
            if name not in known or self.use.count(name) > 1:
                raise ValueError(f"condition.use = {list(self.use)}; allowed: each at most once of {', '.join(known)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"condition.drop = {self.drop}; allowed: 0 to below 1")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: a loss, its weight on the ε error, and a law of t."""

    loss: Part = field(default_factory=lambda: Part("matching"))
    weight: Part = field(default_factory=lambda: Part("simple"))
    times: Part = field(default_factory=lambda: Part("uniform"))


@dataclass(frozen=True)
class SampleConfig:
    """How the run is sampled unless told otherwise. width: examples a network call, part of the result's last bits.

    steps: a number, or text as for `path.Path.grid`: "10,15,20" in equal sections of the time axis, "ddim25".
    spacing: None for the sampler's own, uniform if it has none. temperature: a factor on the prior.
    """

    sampler: Part = field(default_factory=lambda: Part("ddim"))
    steps: int | str = 50
    spacing: Part | None = None
    end: str = "clean"
    clip: bool = True
    width: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"sample.temperature = {self.temperature}; allowed: above 0")
        for name in ("steps", "width"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str) and value < 1:
                raise ValueError(f"sample.{name} = {value}; allowed: at least 1")


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained. Half-lives and totals in images, so that the batch size can change without them.

    lr: None for what suits the size of the network. cooldown: the last part of a run with `minutes`, over which the
    constant rate falls to 0; a run in steps keeps its rate, so that it can be prolonged, and has `decay` to fall.
    preview_every: steps, 0 for never, None for what costs less than 5 % of the time.
    """

    steps: int = 10_000
    minutes: float | None = None
    images: int | None = None
    batch_size: int = 96
    micro_batch: int | None = None
    lr: float | None = None
    decay: str = "constant"
    cooldown: float = 0.6
    warmup_steps: int = 200
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    clip_norm: float | None = 1.0
    ema_half_lives_images: tuple[int, ...] = (500_000,)
    checkpoint_every: int = 1000
    keep: int = 2
    preview_every: int | None = None
    holdout_every: int = 500
    log_every: int = 1

    def __post_init__(self) -> None:
        least = dict.fromkeys(("steps", "images", "batch_size", "micro_batch", "checkpoint_every", "keep"), 1)
        least |= {"holdout_every": 1, "log_every": 1, "preview_every": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ValueError(f"train.{name} = {value}; allowed: at least {bound}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"train.minutes = {self.minutes}; allowed: above 0")
        if not ((self.lr is None or self.lr > 0) and self.warmup_steps >= 0 and self.weight_decay >= 0):
            raise ValueError(
                f"train.lr = {self.lr}, warmup_steps = {self.warmup_steps}, weight_decay = {self.weight_decay}; "
                "allowed: lr > 0, the others >= 0"
            )
        if not 0 <= self.cooldown <= 1:
            raise ValueError(f"train.cooldown = {self.cooldown}; allowed: 0 to 1")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"train.betas = {list(self.betas)}; allowed: two numbers, 0 to below 1")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"train.clip_norm = {self.clip_norm}; allowed: above 0, or null")
        lives = self.ema_half_lives_images
        if not lives or min(lives) <= 0 or len(set(lives)) < len(lives):
            raise ValueError(f"train.ema_half_lives_images = {list(lives)}; allowed: at least one, above 0, distinct")


@dataclass(frozen=True)
class MachineConfig:
    """Where it runs. precision: of the network alone. compile: its kernels for this machine; see `run.machine`.

    engine: of several ranks, auto (ddp), ddp or fsdp; see `train.engine`.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compile: str = "auto"
    engine: str = "auto"


@dataclass(frozen=True)
class RunConfig:
    """A run. inputs: in which units the network sees x. variance: of the reverse kernel, for bound and sampler.

    bound: on the negative log-likelihood, by which the run is measured.
    """

    recipe: str
    schedule: Part
    scale: str
    target: Part
    label: str
    variance: str
    inputs: Part = field(default_factory=lambda: Part("unit"))
    bound: Part = field(default_factory=lambda: Part("chain"))
    data: DataConfig = field(default_factory=DataConfig)
    condition: ConditionConfig = field(default_factory=ConditionConfig)
    network: Part = field(default_factory=lambda: Part("auto"))
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed = {self.seed}; allowed: 0 to 2**63 - 1")


# What may differ between a run and its continuation: when it stops, how often it reports, where it runs.
FREE_ON_RESUME = (
    "data.source", "train.steps", "train.minutes", "train.images", "train.checkpoint_every", "train.keep",
    "train.preview_every", "train.holdout_every", "train.log_every", "machine.device", "machine.engine",
)  # fmt: skip


def recipe(name: str) -> dict[str, Any]:
    """The nested mapping of a recipe. ValueError lists the known ones; samplers are told from recipes."""
    if name in ("ddim", "ancestral"):
        raise ValueError(f"{name} is a sampler: train ddpm, then sample --sampler {name}")
    if name not in FAMILIES:
        raise ValueError(f"unknown recipe {name!r}; known: {', '.join(FAMILIES)}")
    return {"recipe": name, **FAMILIES[name]()}


def resolve(name: str, layers: typing.Iterable[Mapping[str, Any]]) -> RunConfig:
    """Recipe `name` overlaid by the layers, lowest first. ValueError for an unknown key or a bad value.

    The layers are joined before they meet the recipe, so an option and the name it belongs to may come in any order.
    """
    wanted: dict[str, Any] = {}
    for layer in layers:
        if layer.get("recipe", name) != name:
            raise ValueError(f"recipe = {layer['recipe']!r}, but the command says {name!r}; allowed: the same")
        wanted = overlay(wanted, layer)
    return from_dict(overlay(to_dict(from_dict(recipe(name))), wanted))


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of `above` over `below`; a part that is given another name keeps none of the old one's options."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):  # a bare name is a part without options
            old = {"name": old}
        elif isinstance(value, str) and isinstance(old, Mapping):
            value = {"name": value}
        if isinstance(old, Mapping) and isinstance(value, Mapping) and len({*_names(old), *_names(value)}) < 2:
            merged[key] = overlay(old, value)
        else:
            merged[key] = value
    return merged


def _names(part: Mapping[str, Any]) -> list[Any]:
    return [part["name"]] if "name" in part else []


def assignment(text: str) -> dict[str, Any]:
    """`train.lr=1e-3` as a nested mapping; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {text!r}; allowed: key=value, e.g. train.lr=1e-3")
    return nested(key.strip(), number(read_yaml(value, f"--set {text}")))


def nested(key: str, value: Any) -> dict[str, Any]:
    """A leaf by its dotted name, as a nested mapping."""
    *rooms, leaf = key.split(".")
    record = {leaf: value}
    for room in reversed(rooms):
        record = {room: record}
    return record


def from_dict(record: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict`. ValueError for an unknown key or a bad value, naming what is allowed."""
    return typing.cast(RunConfig, read(RunConfig, record, ""))


def write(config: RunConfig) -> str:
    """The configuration as YAML text."""
    import yaml

    return str(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True))
