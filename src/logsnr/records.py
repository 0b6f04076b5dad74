"""Records and their text: frozen dataclasses to plain JSON and YAML values and back, every key and type checked."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """A named part and its options, as `{name: beta_table, betas: linear}` in YAML."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


def read_yaml(text: str, where: str) -> Any:
    """YAML text as plain values. ValueError names `where` and the line."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None


def number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a string."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def plain(value: Any) -> Any:
    """The same for JSON, which has no ∞ and no NaN: null stands for them (log SNR at pure noise)."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
    return value


def json_text(value: Any) -> str:
    """A record of plain values as JSON, with a last line break."""
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def to_dict(config: Any) -> Any:
    """Plain JSON and YAML values of a configuration."""
    if dataclasses.is_dataclass(config):
        record = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
        options = record.pop("options", {})  # a part's options stand beside its name
        return {**record, **options}
    if isinstance(config, Mapping):
        return {key: to_dict(value) for key, value in config.items()}
    return list(config) if isinstance(config, tuple) else config


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf by its dotted name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def read(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`, recursively; `where` is the dotted name for the error."""
    if kind is Part or (value is not None and Part in typing.get_args(kind)):
        if isinstance(value, str):
            return Part(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(f"{where} = {value!r}; allowed: a name, or a mapping with a name and options")
        options = {key: number(option) for key, option in value.items() if key != "name"}
        for key, option in options.items():
            if isinstance(option, float) and not math.isfinite(option):
                raise ValueError(f"{where}.{key} = {option}; allowed: a finite number")
        return Part(value["name"], options)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} = {value!r}; allowed: a mapping with the keys {', '.join(hints)}")
        for key in value:
            if key not in hints:
                raise ValueError(f"unknown key {where + '.' if where else ''}{key}; allowed: {', '.join(hints)}")
        values = {key: read(hints[key], item, f"{where}.{key}".strip(".")) for key, item in value.items()}
        missing = [f.name for f in dataclasses.fields(kind) if f.name not in values and _required(f)]
        if missing:
            raise ValueError(f"{where or 'the configuration'} lacks {', '.join(missing)}")
        return typing.cast(Any, kind)(**values)
    return _leaf(kind, value, where)


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _leaf(kind: Any, value: Any, where: str) -> Any:
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and type(None) in allowed:
        return None
    given = number(value)
    finite = isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    for choice in allowed:
        if typing.get_origin(choice) is tuple:
            items = value if isinstance(value, (list, tuple)) else [value]
            return tuple(_leaf(typing.get_args(choice)[0], item, where) for item in items)
        if choice is float and finite:
            return float(given)
        if choice is int and finite and float(given).is_integer():
            return int(given)
        if choice in (str, bool) and isinstance(value, choice):
            return value
    names = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false", type(None): "none"}
    raise ValueError(f"{where} = {value!r}; allowed: {' or '.join(names[choice] for choice in allowed)}")


def compact(value: Any) -> str:
    """A record of plain values as JSON in one line, without a line break."""
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)
