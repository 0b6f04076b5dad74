"""Denoising score matching: the regression that trains almost every family.

    L = E_{t, x0, ε}  w(t) · (1/D) |ε − ε̂(α_t x0 + σ_t ε)|²

With w = 1 this is DDPM's L_simple (D8, eq. 14), the σ²-weighted denoising score matching of NCSN (N2), and DDIM's L_γ
with γ = 1 (M3); other weights are other papers.
"""

from __future__ import annotations

from torch import Tensor

from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.level import Level, over
from logsnr.loss import Loss
from logsnr.objectives.objective import Objective, Setting, fixed
from logsnr.objectives.times import TimeLaw
from logsnr.objectives.weights import Weight
from logsnr.path import Path
from logsnr.prediction import Prediction, determinant


def native_error(prediction: Prediction, x0: Tensor, eps: Tensor) -> Tensor:
    """y − (a x0 + b ε), the error in what the network natively predicts, (B, *)."""
    a, b = prediction.direction
    return prediction.value - (over(a, x0) * x0 + over(b, x0) * eps)


def squared_eps_error(prediction: Prediction, x0: Tensor, eps: Tensor, level: Level | None = None) -> Tensor:
    """(ε − ε̂)² at x_t = α x0 + σ ε, (B, *). level: the prediction's, or one that stands for it (`Path.within`).

    The error is taken in what the network natively predicts and multiplied by (α/Δ)², exactly the error in ε: at low
    noise ε̂ of an x0-predicting network would be a difference of near-equal numbers.
    """
    error, level = native_error(prediction, x0, eps), prediction.level if level is None else level
    return over((level.alpha / determinant(level, prediction.direction)) ** 2, error) * error**2


def noise_error(prediction: Prediction, x0: Tensor, eps: Tensor, level: Level | None = None) -> Tensor:
    """Mean over dimensions of `squared_eps_error`, (B,)."""
    return squared_eps_error(prediction, x0, eps, level).reshape(len(x0), -1).mean(1)


class Matching(Objective):
    """w(t) · mean over dimensions of |ε − ε̂|², for each example."""

    def __init__(self, path: Path, weight: Weight, times: TimeLaw) -> None:
        super().__init__()
        self.path, self.weight, self.times = fixed(path, "matching"), weight, times

    @classmethod
    def of(cls, setting: Setting) -> Matching:
        """With the path, weight and law of times of a run."""
        return cls(setting.path, setting.weight, setting.times)

    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. Returns the loss of each example at its own time."""
        t, importance = self.times.draw(draws)
        level, eps = self.path.at(t), draws.normal("eps", x0)
        prediction = model(level.perturb(x0, eps), level, **condition)
        native = (native_error(prediction, x0, eps) ** 2).reshape(len(x0), -1).mean(1)
        known = self.path.within(level)  # at pure noise (Δ/α)² and a weight such as 1/α² are ∞, their ratio is not
        to_eps = (known.alpha / determinant(known, prediction.direction)) ** 2
        unweighted = to_eps.to(native) * native
        drawn = (self.weight(self.path, known) * to_eps).to(native) * native
        total = importance.to(native) * drawn
        return Loss(total, {"matching": total}, t, unweighted.detach(), drawn.detach())
