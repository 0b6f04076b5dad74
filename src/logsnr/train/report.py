"""What one step has to say: the record behind every line of the log and every progress bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

BINS = 8


@dataclass(frozen=True)
class Report:
    """The state of the run once a step is over.

    step: finished steps, 1 after the first. images: seen so far. loss, parts: means over the global batch.
    loss_bins: mean unweighted error in 8 equal bins of time in [0, 1], None where no example fell.
    lr: rate of this step. grad_norm: before clipping. seconds: duration of the step. skipped: nothing moved,
    as the loss or the gradient was not finite.
    """

    step: int
    images: int
    loss: float
    parts: Mapping[str, float]
    loss_bins: tuple[float | None, ...]
    lr: float
    grad_norm: float
    seconds: float
    skipped: bool

    def record(self) -> dict[str, Any]:
        """The same as JSON values; what is not finite becomes None."""
        plain: dict[str, Any] = _finite({**asdict(self), "parts": dict(self.parts)})
        return plain


def binned(times: Tensor, values: Tensor) -> tuple[float | None, ...]:
    """Mean of `values` (B,) in equal bins of `times` (B,) in [0, 1], None where empty; CPU tensors."""
    place = (times * BINS).long().clamp(0, BINS - 1)
    counts = torch.bincount(place, minlength=BINS).tolist()
    totals = torch.bincount(place, weights=values, minlength=BINS).tolist()
    return tuple(total / count if count else None for total, count in zip(totals, counts, strict=True))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_finite(item) for item in value]
    return value
