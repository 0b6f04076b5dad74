"""Task: a model and what it is trained for, as one module.

This is what a trainer holds and what data parallelism wraps: every parameter, those of a learned schedule included, is
then used inside the wrapped forward.

Conditions are dropped here and nowhere else. With probability `drop` an example is trained without any of its
conditions, so that one model knows p(x | c) and p(x) (Ho and Salimans 2022, algorithm 1). The coin is the example's
own, a function of (seed, step, place in the batch); it is thrown in training mode only, as dropout is.
"""

from __future__ import annotations

from torch import Tensor, nn

from logsnr.data.conditions import without
from logsnr.denoiser import Denoiser
from logsnr.draws import Draws
from logsnr.loss import Loss
from logsnr.objectives.objective import Objective


class Task(nn.Module):
    """(x0, draws) → Loss, the objective of the model.

    drop: probability that an example is trained without its conditions. num_classes: the index of the null class.
    """

    def __init__(self, model: Denoiser, objective: Objective, *, drop: float = 0.0, num_classes: int = 0) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.drop, self.num_classes = drop, num_classes

    def forward(self, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. condition: (B, *) by keyword, see `data.conditions`."""
        if self.training and self.drop and condition:
            condition = without(condition, draws.uniform("condition") < self.drop, self.num_classes)
        loss: Loss = self.objective(self.model, x0, draws, **condition)
        return loss

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Hand the law of t what an optimiser step saw."""
        self.objective.times.observe(times, losses)
