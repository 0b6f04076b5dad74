"""Training by the variational bound of a discrete chain: L_vlb, and Improved DDPM's hybrid with L_simple.

One term an example is drawn, and a sum of T terms is estimated from it, so the term is multiplied by T:

    L_vlb    = KL(q(x_T|x0) ‖ p(x_T)) + T · w_t L_t                in the mean over t the whole bound (D3)
    L_hybrid = w_t [ |ε − ε̂|²/D  +  λ · T · L_t / (D log 2) ]      I3; Improved DDPM, eq. 16, λ = 0.001

w_t = 1/(T p_t) is the importance weight of the law of t. In the hybrid the bound's term teaches the variance alone: the
mean is a constant to it (`prediction.detached`). Both terms have the same 1/D, and the bound is in bits, as in the
original (which writes λ T as T/1000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.decoders import Decoder
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import Floored, Rule, named_rule, prior_kl
from logsnr.level import Level
from logsnr.loss import Loss, bits_per_dim
from logsnr.objectives.matching import noise_error
from logsnr.objectives.objective import Objective, Setting, fixed, of_a_bound
from logsnr.objectives.times import TimeLaw
from logsnr.objectives.weights import Weight
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.terms import last_step, step_nats

STEPS = 1000  # of the chain where the schedule is continuous


@dataclass(frozen=True)
class Chain:
    """A discrete chain that ends clean. grid: (T + 1,). rule: floored on it. prior_std: of p(x_T)."""

    path: Path
    grid: Level
    rule: Rule | Floored
    decoder: Decoder

    @property
    def steps(self) -> int:
        """T, the number of terms beside the prior's."""
        return len(self.grid) - 1

    def at(self, t: Tensor) -> tuple[Level, Level]:
        """The levels (t, s) of the step whose part of the time axis `t` (B,) falls into."""
        first = self.path.schedule.t_min
        place = (t - first) / (1 - first) * self.steps
        # knot i/T of a table has place (i − 1) T/(T − 1): within the i-th part, and the last one at its end
        step = self.steps - 1 - torch.floor(place).long().clamp(0, self.steps - 1)
        return self.grid[step], self.grid[step + 1]

    def term(self, prediction: Prediction, x0: Tensor, s: Level) -> Tensor:
        """L_t in nats, (B,)."""
        return step_nats(prediction, x0, s, self.rule, self.decoder)

    def prior(self, x0: Tensor) -> Tensor:
        """The prior's term in nats, (B,)."""
        return prior_kl(x0, self.grid[0], self.path.prior_std)


def chain(path: Path, variance: str, lattice: Lattice | None, num_steps: int | None = None) -> Chain:
    """The chain of a path: all T knots of a table, or `num_steps` (1000) levels of a continuous schedule.

    ValueError for a learned schedule, or a table and another number of steps: its knots are what is drawn.
    """
    if num_steps not in (None, path.schedule.steps or num_steps):
        raise ValueError(f"num_steps = {num_steps} on a table of {path.schedule.steps} levels; allowed: all of them")
    fixed(path, "vlb")
    grid = path.grid((path.schedule.steps or STEPS) if num_steps is None else num_steps)
    return Chain(path, grid, *last_step(grid, variance, lattice))


class VLB(Objective):
    """L_vlb of a chain, one drawn term an example. units: "bits_per_dim" (of the lattice), or "nats" an example.

    parts: prior, a constant; vlb, T · w_t · L_t; the total is their sum, without bias for the whole bound.
    """

    teaches_spread = True
    weighs = False

    def __init__(self, chain: Chain, times: TimeLaw, units: str = "bits_per_dim") -> None:
        super().__init__()
        if units not in ("bits_per_dim", "nats"):
            raise ValueError(f"units = {units!r} of the loss 'vlb'; allowed: bits_per_dim, nats")
        self.chain, self.times, self.units = chain, of_a_bound(times, "vlb"), units

    @classmethod
    def of(cls, setting: Setting, *, num_steps: int | None = None, units: str = "bits_per_dim") -> VLB:
        """On the run's own chain, with its reverse variance and the data's decoder."""
        return cls(chain(setting.path, setting.variance, setting.lattice, num_steps), setting.times, units)

    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. unweighted: L_t in nats."""
        t, importance = self.times.draw(draws)
        level, s = self.chain.at(t)
        prediction = model(level.perturb(x0, draws.normal("eps", x0)), level, **condition)
        nats = self.chain.term(prediction, x0, s)
        scale = 1.0 if self.units == "nats" else 1 / (x0[0].numel() * math.log(2.0))
        vlb = (scale * self.chain.steps * importance).to(nats) * nats
        prior = scale * self.chain.prior(x0)
        return Loss(prior + vlb, {"prior": prior, "vlb": vlb}, t, nats.detach())


class Hybrid(Objective):
    """L_hybrid: `weight` · L_simple for the mean, and vlb_weight · T · L_t in bits/dim for the variance.

    parts: matching, weighted; vlb, T · w_t · L_t in bits/dim before its own weight, an estimate of the bound.
    """

    teaches_spread = True

    def __init__(self, chain: Chain, weight: Weight, times: TimeLaw, vlb_weight: float = 0.001) -> None:
        super().__init__()
        if not 0 < vlb_weight < math.inf:
            raise ValueError(f"vlb_weight = {vlb_weight} of the loss 'hybrid'; allowed: above 0, or the loss matching")
        self.chain, self.weight, self.vlb_weight = chain, weight, vlb_weight
        self.times = of_a_bound(times, "hybrid")

    @classmethod
    def of(cls, setting: Setting, *, vlb_weight: float = 0.001, num_steps: int | None = None) -> Hybrid:
        """On the run's own chain. ValueError for a reverse variance that has nothing to learn."""
        if not named_rule(setting.variance).spread:
            raise ValueError(
                f"loss 'hybrid' with variance {setting.variance!r}, which its bound could not teach; "
                "allowed: variance learned_range, or the loss matching"
            )
        ours = chain(setting.path, setting.variance, setting.lattice, num_steps)
        return cls(ours, setting.weight, setting.times, vlb_weight)

    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. One evaluation of the model. unweighted: L_t in nats."""
        t, importance = self.times.draw(draws)
        level, s = self.chain.at(t)
        eps = draws.normal("eps", x0)
        prediction = model(level.perturb(x0, eps), level, **condition)
        known = self.chain.path.within(level)  # at pure noise a weight may be ∞, and the error 0
        error = noise_error(prediction, x0, eps, known)
        matching = (self.weight(self.chain.path, known) * importance).to(error) * error
        nats = self.chain.term(prediction.detached(), x0, s)
        vlb = (self.chain.steps * importance).to(nats) * bits_per_dim(nats, x0[0].numel())
        total = matching + self.vlb_weight * vlb
        drawn = (total / importance.to(total)).detach()
        return Loss(total, {"matching": matching, "vlb": vlb}, t, nats.detach(), drawn)
