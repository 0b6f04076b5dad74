"""What every objective and likelihood returns: a number per example, with its parts by name.

Nothing is averaged over the batch before it leaves: the mean over examples, its standard error and the curve over
noise levels are then one-liners for the trainer, the log and the audit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """total: (B,) what is minimised. parts: (B,) each, by name. times: (B,) where the noise level was drawn.

    unweighted: (B,) the error before the weights of level and time, comparable between runs: the mean squared error of
    the noise for matching, the drawn term in nats for a bound. drawn: (B,) what was drawn of the total, up to a factor
    and before the weight 1/density of its time, which is what a law of t learns from; None where it is `unweighted`.
    """

    total: Tensor
    parts: Mapping[str, Tensor]
    times: Tensor
    unweighted: Tensor
    drawn: Tensor | None = None

    @property
    def taught(self) -> Tensor:
        """`drawn`, (B,)."""
        return self.unweighted if self.drawn is None else self.drawn


def bits_per_dim(nll_nats: Tensor, dims: int, offset: float = 0.0) -> Tensor:
    """Nats per example to bits per dimension: nll / (D ln 2) + offset.

    `offset` is log₂(1/bin width) when `nll_nats` is of a density in model units (from the data transform), and 0
    when it is already of a discrete probability.
    """
    return nll_nats / (dims * math.log(2.0)) + offset
