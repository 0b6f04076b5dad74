"""What an objective is, and what it may be made of.

A loss takes a model, data and draws, and returns a number for each example. Which path, weight, law of times, reverse
variance and lattice a run has is decided elsewhere and handed over as one record, so that losses are interchangeable:
a new one is a class with a constructor `of(setting, **options)` and a line in `OBJECTIVES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from logsnr.data.transform import Lattice
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.loss import Loss
from logsnr.objectives.times import TimeLaw
from logsnr.objectives.weights import Weight
from logsnr.path import Path


@dataclass(frozen=True)
class Setting:
    """path: the process. weight: on the ε error. times: how t is drawn. variance: name of the reverse variance.

    lattice: the values that discrete data takes in model units, None for continuous data.
    """

    path: Path
    weight: Weight
    times: TimeLaw
    variance: str
    lattice: Lattice | None


def fixed(path: Path, loss: str) -> Path:
    """The path. ValueError for a learned γ: VDM's bound tells it where to go, another loss it would minimise away."""
    if next(path.schedule.parameters(), None) is not None:
        raise ValueError(f"loss {loss!r} says nothing to a learned schedule; allowed: the loss vdm, a fixed schedule")
    return path


def of_a_bound(times: TimeLaw, loss: str) -> TimeLaw:
    """The law of t. ValueError for one that defines another loss, as a bound is an integral over t itself."""
    if not times.weighs:
        raise ValueError(
            f"a law of the noise ({type(times).__name__}) with loss {loss!r} would not be a bound; allowed: times "
            "uniform, log_snr, loss_second_moment"
        )
    return times


class Objective(nn.Module, ABC):
    """(model, x0, draws, **condition) → Loss. Subclasses keep their law of `times`, which the trainer's steps teach.

    teaches_spread: whether a spread channel of the network gets a gradient from it. weighs: whether it has a use for a
    weight, or is a bound, whose weight is its own.
    """

    times: TimeLaw
    teaches_spread: bool = False
    weighs: bool = True

    @abstractmethod
    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units."""
