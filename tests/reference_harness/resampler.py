"""Improved DDPM's importance sampling of t."""

from __future__ import annotations

import torch
from torch import Tensor

from logsnr import betas
from logsnr.objectives import LossSecondMoment

from .parts import table
from .reference import Reference


class Chosen:
    """Stands for `Draws` where the drawn indices were recorded: u in the middle of the interval of each."""

    def __init__(self, index: Tensor, chances: Tensor) -> None:
        self.u = (chances.cumsum(0) - 0.5 * chances)[index]

    def uniform(self, name: str) -> Tensor:
        return self.u


def resampler(reference: Reference) -> None:
    """LossSecondMomentResampler: the law after each batch of losses, and the importance weights 1/(T p_t).

    Before the histories are full the original's weights are ones, not normalised; the library's law always sums to 1.
    """
    steps = reference.number("num_timesteps")
    law = LossSecondMoment(
        table(betas.linear(steps)).schedule,
        history_per_term=reference.number("history_per_term"),
        uniform_prob=float(reference.read("uniform_prob")),
        stratified=False,
    )
    after, full = [law.chances() * steps], [law.full]
    for index, losses in zip(reference.read("update_ts"), reference.read("update_losses"), strict=True):
        law.observe((index + 1).double() / steps, losses)
        after.append(law.chances() * (1 if law.full else steps))
        full.append(law.full)
    reference.check("weights_after", torch.stack(after), 1e-12)
    reference.check("warmed_up", torch.tensor(full), 0.0)
    index = reference.read("sample_indices")
    times = law.draw(Chosen(index, law.chances()))
    reference.fact("sampled t", (times.t * steps).round() - 1, index, 0.0)
    reference.check("sample_weights", times.weight, 1e-6)
