"""What every likelihood returns: nats for each example, part by part, and at which levels they were found.

An estimate is of −log p(x0) or of an upper bound on it. Nothing is averaged over examples here: means, standard errors,
curves over log-SNR and orderings between estimators are taken where all examples are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.draws import Draws


@dataclass(frozen=True)
class Estimate:
    """parts: (B,) nats each, by name; their sum is the estimate.

    evaluations: (B,) int64, of the network. gamma: (B, J) the levels at which one part was read, and nats: (B, J) what
    was found at each; the rows of `nats` sum to that part. errors: (B,) nats each, bounds on what the numerics may have
    left of an example, by name ("solver"); {} where an estimate is unbiased.
    """

    parts: Mapping[str, Tensor]
    evaluations: Tensor
    gamma: Tensor
    nats: Tensor
    errors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """Σ parts, (B,) nats."""
        return torch.stack(list(self.parts.values())).sum(0)


class Estimator(Protocol):
    """An estimate of −log p(x0), or of a bound on it, for each example; example i depends on its own draws alone."""

    @property
    def name(self) -> str:
        """What it estimates, as "vlb(1000)" or "ode": estimates of different names are never one column."""
        ...

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """What the estimate depends on beside the model and the draws, by name."""
        ...

    def estimate(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Estimate:
        """x0: (B, *) in model units."""
        ...
