"""The variational bound as the loss: a continuous-time or T-step chain whose γ may be learned (VDM, sections 4 and 5).

    −log p(x) <= KL(q(z_1|x) ‖ p(z_1))                                        prior
               + E[−log p(x|z_0)]                                             reconstruction
               + (T/2) E_{ε, i}[ expm1(γ_t − γ_s) |ε − ε̂|² ]                  diffusion in T steps, t = i/T, s = t − 1/T
              or ½ E_{ε, t}[ γ′(t) |ε − ε̂|² ]                                 T = ∞

One backward pass trains the network and, where γ is learned, its ends and its interior:

* With T steps everything gets the gradient of the bound.
* At T = ∞ the bound is an integral over γ, the same for every interior (V7), and the gradient that reaches the interior
  is noise. What the interior does change is the variance of the estimate. Since E[L] is fixed, min Var[L] = min E[L²],
  and ∇L² = 2L ∇L: the gradient g that arrives at an example's s(t) and s′(t), through which alone the interior acts
  (`Learned`), becomes 2 L g, L being that example's diffusion term. Network and ends keep the gradient of the bound.

The optimum is a γ at which every t costs the same; there γ spends its time where the network's errors are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from logsnr.decoders import gaussian_density, softmax
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import Normal, prior_kl
from logsnr.level import over
from logsnr.loss import Loss
from logsnr.objectives.matching import squared_eps_error
from logsnr.objectives.objective import Objective, Setting, of_a_bound

UNITS: Mapping[str, Callable[[int], float]] = {
    "bits_per_dim": lambda dims: 1 / (dims * math.log(2)),
    "nats": lambda dims: 1.0,
}


class VDM(Objective):
    """The bound of each example, with one evaluation of the model.

    steps: T, None for ∞. unit: of what is minimised and logged, "bits_per_dim" (the authors'; of the size of a mean
    squared error, so that learning rates carry over) or "nats". The unit is also that of L in 2 L g.

    ValueError for a table, which has no time between its knots, and for an unknown unit.
    """

    weighs = False

    def __init__(self, setting: Setting, steps: int | None = None, unit: str = "bits_per_dim") -> None:
        super().__init__()
        if setting.path.schedule.steps:
            raise ValueError(f"loss 'vdm' on a table of {setting.path.schedule.steps} levels; allowed: continuous time")
        if unit not in UNITS or (steps is not None and steps < 1):
            raise ValueError(f"loss 'vdm' with steps={steps}, unit={unit!r}; allowed: 1 or more, {', '.join(UNITS)}")
        learns = any(parameter.requires_grad for parameter in setting.path.parameters())
        if learns and not math.isfinite(setting.path.scale.noise_limit):
            raise ValueError(
                f"loss 'vdm' with a learned schedule on scale {setting.path.scale.name!r}: its prior moves with γ(1); "
                "allowed: scale vp, sub_vp, straight"
            )
        self.path, self.steps, self.unit = setting.path, steps, UNITS[unit]
        self.times = of_a_bound(setting.times, "vdm")
        self.decoder = gaussian_density if setting.lattice is None else softmax(setting.lattice)

    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. Parts and total in the unit; `unweighted` is the diffusion term in nats."""
        unit = self.unit(x0[0].numel())
        t, importance = self.times.draw(draws)
        diffusion = self.diffusion(model, x0, t, draws.normal("eps", x0), unit, importance, **condition)
        parts = {
            "prior": unit * self.prior(x0),
            "reconstruction": unit * self.reconstruction(x0, draws.normal("eps/last", x0)),
            "diffusion": diffusion,
        }
        nats = (diffusion / (unit * importance.to(diffusion))).detach()
        return Loss(sum(parts.values(), torch.zeros_like(diffusion)), parts, t, nats)

    def prior(self, x0: Tensor) -> Tensor:
        """KL(q(z_1|x) ‖ p(z_1)) in nats, (B,)."""
        return prior_kl(x0, self.path.highest, self.path.prior_std)

    def reconstruction(self, x0: Tensor, eps: Tensor) -> Tensor:
        """−log p(x|z_0) in nats, (B,), with z_0/α_0 = x + e^{γ_0/2} ε: no model is asked."""
        gamma = over(self.path.lowest.gamma, x0)
        return -self.decoder(x0, Normal(x0 + torch.exp(0.5 * gamma) * eps, gamma))

    def diffusion(
        self,
        model: Model,
        x0: Tensor,
        t: Tensor,
        eps: Tensor,
        unit: float = 1.0,
        importance: Tensor | float = 1.0,
        **condition: Tensor,
    ) -> Tensor:
        """The diffusion term estimated at time t, (B,), `unit` times nats; at T = ∞ its gradient is the interior's.

        importance: 1/density of t, part of the estimate whose variance the interior minimises.
        """
        span, known = 1 - self.path.schedule.t_min, list[Tensor]()
        if self.steps is None:
            level, slope = self.path.moving(t, lambda value: _squaring(value, known))
            weight = 0.5 * span * slope
        else:
            number = ((t - self.path.schedule.t_min) / span * self.steps).floor().clamp(max=self.steps - 1)
            below, level = (self.path.at(1 - span * (1 - i / self.steps)) for i in (number, number + 1))
            # at pure noise the weight is ∞ and the error 0
            weight = 0.5 * self.steps * torch.expm1(self.path.within(level).gamma - below.gamma)
        prediction = model(level.perturb(x0, eps), level, **condition)
        error = squared_eps_error(prediction, x0, eps, self.path.within(level))
        term = unit * (importance * weight).to(error) * error.reshape(len(x0), -1).sum(1)
        known.append(term.detach())
        return term


def _squaring(value: Tensor, known: list[Tensor]) -> Tensor:
    """`value` (B,), whose gradient g becomes 2 L g with the L (B,) that will be in `known` by then."""
    if value.requires_grad:
        value.register_hook(lambda g: 2 * known[0].to(g) * g)
    return value
