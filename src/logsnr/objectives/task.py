"""Task: a model and what it is trained for, as one module.

This is what a trainer holds and what data parallelism wraps: every parameter, those of a learned schedule included, is
then used inside the wrapped forward.
"""

from __future__ import annotations

from torch import Tensor, nn

from logsnr.denoiser import Denoiser
from logsnr.draws import Draws
from logsnr.loss import Loss
from logsnr.objectives.objective import Objective


class Task(nn.Module):
    """(x0, draws) → Loss, the objective of the model."""

    def __init__(self, model: Denoiser, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units."""
        loss: Loss = self.objective(self.model, x0, draws, **condition)
        return loss

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Hand the law of t what an optimiser step saw."""
        self.objective.times.observe(times, losses)
