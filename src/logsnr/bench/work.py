"""What a contender is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Work:
    """go: does the work once and may return what it has to show (JSON). facts: what is true of every turn.

    Of the facts, `units` is the number of `unit` in a turn, and `flops` its floating-point operations.
    """

    go: Callable[[], Any]
    facts: dict[str, Any] = field(default_factory=dict)
