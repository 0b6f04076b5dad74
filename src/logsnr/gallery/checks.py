"""A figure beside its bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Check:
    """It holds if low <= figure <= high; a figure that is not a number holds nowhere.

    what: in words, with the unit. standard_error: of the figure, where it is an estimate.
    """

    what: str
    figure: float
    low: float = -math.inf
    high: float = math.inf
    standard_error: float | None = None

    @property
    def holds(self) -> bool:
        return self.low <= self.figure <= self.high

    @property
    def bar(self) -> str:
        """What is asked of the figure: "at most 0.1", "at least 3", "0.9 to 1.1"."""
        if math.isinf(self.low):
            return f"at most {self.high:.4g}"
        return f"at least {self.low:.4g}" if math.isinf(self.high) else f"{self.low:.4g} to {self.high:.4g}"

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "what": self.what,
            "figure": self.figure,
            "standard_error": self.standard_error,
            "bar": self.bar,
            "holds": self.holds,
        }


def below(what: str, figure: float, bar: float, standard_error: float | None = None) -> Check:
    """figure <= bar."""
    return between(what, figure, -math.inf, bar, standard_error)


def above(what: str, figure: float, bar: float, standard_error: float | None = None) -> Check:
    """figure >= bar."""
    return between(what, figure, bar, math.inf, standard_error)


def between(what: str, figure: float, low: float, high: float, standard_error: float | None = None) -> Check:
    """low <= figure <= high."""
    error = None if standard_error is None else float(standard_error)
    return Check(what, float(figure), float(low), float(high), error)


def near(what: str, figure: float, truth: float, standard_error: float, errors: float = 4.0) -> Check:
    """|figure − truth| <= `errors` standard errors."""
    margin = errors * float(standard_error)
    return between(what, figure, float(truth) - margin, float(truth) + margin, float(standard_error))


def mean(values: Tensor | np.ndarray) -> float:
    """Of draws (n,)."""
    return float(torch.as_tensor(values).double().mean())


def standard_error(values: Tensor | np.ndarray) -> float:
    """Of the mean of independent draws (n,): std/√n. Means of stratified ones scatter less."""
    return float(torch.as_tensor(values).double().std()) / len(values) ** 0.5
