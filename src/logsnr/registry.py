"""Parts by name: a registry is a dict, and asking for what is not in it says what is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: str, what: str) -> T:
    """registry[name]; ValueError naming what is known."""
    if name not in registry:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(registry)}")
    return registry[name]


def positive(**options: float) -> None:
    """ValueError for an option that is not above 0 and finite, by its name."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} = {value}; allowed: above 0")
