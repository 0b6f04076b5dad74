"""The variational bound of a discrete chain, every term of it (D3; DDPM, eq. 5).

    −log p(x0) <= KL(q(x_1|x0) ‖ p(x_1))                                  prior
                + Σ_{t → s} KL(q(x_s|x_t, x0) ‖ p(x_s|x_t))               diffusion, steps between finite levels
                − log p(x0 | x_last)                                      reconstruction, the step into the clean level

Everything is in nats, summed over dimensions, for each example. The sum over steps is either taken term by term, or
estimated without bias from a few steps an example, each divided by its probability: T times the mean if they are drawn
uniformly (a mean *without* the factor T is the classic error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.decoders import Decoder
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import Floored, Rule, floored, prior_kl
from logsnr.level import Level
from logsnr.likelihood.estimate import Estimate, Estimator
from logsnr.objectives import VDM, Setting, Uniform
from logsnr.objectives.weights import simple
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.terms import last_step, step_nats

STEPS = 1000  # of the chain where the schedule is continuous


@dataclass(frozen=True)
class Bound:
    """The bound along a grid that ends clean. grid: (S + 1,); rule: the reverse variance, floored on this grid."""

    grid: Level
    prior_std: float
    rule: Rule | Floored
    decoder: Decoder

    @property
    def steps(self) -> int:
        """S, the number of terms beside the prior's."""
        return len(self.grid) - 1

    @property
    def name(self) -> str:
        """vlb(S)."""
        return f"vlb({self.steps})"

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """S."""
        return {"steps": self.steps}

    def prior(self, x0: Tensor) -> Tensor:
        """KL(q(x_1|x0) ‖ N(0, prior_std² I)) in nats, (B,) (F5)."""
        return prior_kl(x0, self.grid[0], self.prior_std)

    def term(self, model: Model, x0: Tensor, eps: Tensor, step: Tensor, **condition: Tensor) -> Tensor:
        """The term of step `step`, (B,) in 0 … S − 1 counted from the noise end, in nats, (B,)."""
        return self._step(model, x0, eps, step, condition)[1]

    def _step(
        self, model: Model, x0: Tensor, eps: Tensor, step: Tensor, condition: Mapping[str, Tensor]
    ) -> tuple[Prediction, Tensor]:
        t, s = self.grid[step], self.grid[step + 1]
        prediction = model(t.perturb(x0, eps), t, **condition)
        return prediction, step_nats(prediction, x0, s, self.rule, self.decoder)

    def _steps(
        self, model: Model, x0: Tensor, draws: Draws, condition: Mapping[str, Tensor]
    ) -> Iterator[tuple[Prediction, Tensor]]:
        """The model's answer and the term of every step, from the noise end, each with noise of its own."""
        for i in range(self.steps):
            yield self._step(model, x0, draws.normal(f"eps/{i}", x0), torch.full((len(x0),), i), condition)

    def curve(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Tensor:
        """Every term once, each with its own noise: (B, S) in nats, from the noise end; the last is the decoder's (I6).

        The bound is `prior` plus their sum. S evaluations of the model an example.
        """
        return torch.stack([nats for _, nats in self._steps(model, x0, draws, condition)], dim=1)

    def rate_distortion(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> tuple[Tensor, Tensor]:
        """What a receiver of x_t knows, from the noise end to the lowest finite level (DDPM, section 4.3, figure 5).

        Rate, (B, S) in nats: the prior and the terms of the steps down to t, what x_t has cost. Distortion, (B, S): the
        mean over dimensions of (x0 − x̂0(x_t))², whose root the paper shows. S evaluations of the model an example.
        """
        paid, distortion = [self.prior(x0)], []
        for prediction, nats in self._steps(model, x0, draws, condition):
            distortion.append((x0 - prediction.x0).square().flatten(1).mean(1))
            paid.append(nats)
        return torch.stack(paid[:-1], dim=1).cumsum(1), torch.stack(distortion, dim=1)

    def estimate(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Estimate:
        """Prior + reconstruction + one drawn diffusion term divided by its probability, unbiased for each example.

        x0: (B, *) in model units. Two evaluations of the model an example. The step k, counted from the data end, has
        probability ∝ 1/k, as the terms of a chain fall about like that (Improved DDPM, figure 2): a uniform draw
        would have many times the variance. Draws are stratified over the batch.
        """
        last = torch.full((len(x0),), self.steps - 1)
        reconstruction = self.term(model, x0, draws.normal("eps/last", x0), last, **condition)
        weight = 1 / torch.arange(self.steps - 1, 0, -1, dtype=torch.float64)
        chance = weight / weight.sum()
        step = torch.searchsorted(chance.cumsum(0), draws.stratified("step"), right=True).clamp(max=self.steps - 2)
        drawn = self.term(model, x0, draws.normal("eps/step", x0), step, **condition)
        diffusion = drawn / chance[step].to(drawn)
        parts = {"prior": self.prior(x0), "diffusion": diffusion, "reconstruction": reconstruction}
        evaluations = torch.full((len(x0),), 2)
        return Estimate(parts, evaluations, self.grid[step].gamma.unsqueeze(1), diffusion.unsqueeze(1))


def bound(grid: Level, prior_std: float, variance: str, decoder: Decoder) -> Bound:
    """The bound with the named reverse variance. ValueError for an unknown name or a grid of fewer than two steps."""
    return Bound(grid, prior_std, floored(variance, grid), decoder)


def bound_for(grid: Level, prior_std: float, variance: str, lattice: Lattice | None) -> Bound:
    """The bound with the decoder that the data asks for (`terms.last_step`)."""
    return Bound(grid, prior_std, *last_step(grid, variance, lattice))


@dataclass(frozen=True)
class VDMBound:
    """VDM's bound, which is its loss: one evaluation an example, at the time its objective draws."""

    objective: VDM

    @property
    def name(self) -> str:
        """vlb(T), or vlb(inf)."""
        return f"vlb({self.objective.steps or 'inf'})"

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """T, None for ∞."""
        return {"steps": self.objective.steps}

    def estimate(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Estimate:
        """x0: (B, *) in model units. ∞ and T steps alike: prior, reconstruction by the decoder alone, diffusion."""
        loss = self.objective(model, x0, draws, **condition)
        gamma = self.objective.path.at(loss.times).gamma.unsqueeze(1)
        return Estimate(loss.parts, torch.ones(len(x0), dtype=torch.int64), gamma, loss.parts["diffusion"].unsqueeze(1))


def chain(path: Path, variance: str, lattice: Lattice | None, steps: int | None = None) -> Bound:
    """The bound of `steps` steps that end clean: all T of a table, else 1000, unless told otherwise."""
    grid = path.grid((path.schedule.steps or STEPS) if steps is None else steps)
    return bound_for(grid, path.prior_std, variance, lattice)


def vdm(path: Path, variance: str, lattice: Lattice | None, steps: int | None = None) -> VDMBound:
    """VDM's bound, in `steps` steps or continuous time, with its own decoder at the lowest level."""
    setting = Setting(path, simple, Uniform(path.schedule), variance, lattice)
    return VDMBound(VDM(setting, steps, unit="nats"))


BOUNDS: dict[str, Callable[..., Estimator]] = {"chain": chain, "vdm": vdm}
