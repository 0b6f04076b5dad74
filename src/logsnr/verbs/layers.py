"""From parsed flags to layers of configuration."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.config import RunConfig as RunConfig
from logsnr.config import assignment, resolve
from logsnr.records import read_yaml


def flags(args: Namespace) -> dict[str, Any]:
    """The flags that name a leaf (dotted, or one of the top level) and were given, as a nested mapping."""
    nested: dict[str, Any] = {}
    for dest, value in vars(args).items():
        if value is None or ("." not in dest and dest not in ("seed", "network")):
            continue
        place = nested
        *rooms, leaf = dest.split(".")
        for room in rooms:
            place = place.setdefault(room, {})
        place[leaf] = {"name": value} if dest == "network" else value
    return nested


def configuration(args: Namespace) -> RunConfig:
    """Recipe < --config < --set < flags. ValueError for an unknown key or bad value."""
    layers: list[dict[str, Any]] = []
    if args.config:
        path = Path(args.config)
        if not path.is_file():
            raise ValueError(f"--config {path}: no such file; allowed: a YAML file, e.g. a run.yaml")
        record = read_yaml(path.read_text(), str(path)) or {}
        if not isinstance(record, dict):
            raise ValueError(f"--config {path}: holds {type(record).__name__}; allowed: a mapping of keys")
        if record.get("recipe", args.recipe) != args.recipe:
            raise ValueError(f"--config {path} is of recipe {record['recipe']!r}; the command says {args.recipe!r}")
        layers.append(record)
    layers += [assignment(text) for text in args.assignments]
    return resolve(args.recipe, [*layers, flags(args)])


def machine_options(args: Namespace) -> dict[str, Any]:
    """The machine flags that were given; a run's own stand for the others."""
    given: dict[str, Any] = flags(args).get("machine", {})
    return given
