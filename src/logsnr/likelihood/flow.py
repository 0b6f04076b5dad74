"""The likelihood of the probability flow (S8; Score SDE, eq. 39), in the variables of `angle`.

    log p(u₀) = log p(u₁) + ∫ ∇·v̂(u(φ), φ) dφ     along du/dφ = v̂ from the lowest level up to the highest

The prior stands at the highest level. A density of x0 follows by the change of units u = α x0/√(α² + σ²) of the lowest
level: x0 is put there without noise, as every program does, and the density is that of the model's x_low/α_low.

The divergence is exact (`newton`, `adjoint`), or Hutchinson's estimate by probes (`dormand_prince`), which adds noise
but no bias to the estimate of log p. Each example is integrated by itself: its value does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from logsnr.angle import angle, log_power
from logsnr.data.transform import Lattice
from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.kernels import prior_kl
from logsnr.level import Level, over
from logsnr.likelihood.adjoint import log_density_lost
from logsnr.likelihood.dequantise import DEQUANTISATIONS, Dequantisation
from logsnr.likelihood.estimate import Estimate
from logsnr.likelihood.field import Field
from logsnr.likelihood.importance import tightened
from logsnr.likelihood.newton import Sweep
from logsnr.objectives.sliced import PROJECTIONS
from logsnr.path import Path
from logsnr.registry import lookup, positive
from logsnr.samplers.dormand_prince import dormand_prince

EXACT_TOLERANCE, PROBED_TOLERANCE = 5e-4, 2e-4
MOST_EVALUATIONS = 5000


class Density(NamedTuple):
    """log p of x (B, *) at the level it was given at, in nats, (B,) float64: `prior` + `steps` summed.

    prior: log density of the latent in the units of u; latent: (B, *), x at the highest level. steps: (B, J) nats, at
    gamma (B, J). error: (B,) nats, of the solver. evaluations: (B,).
    """

    prior: Tensor
    steps: Tensor
    gamma: Tensor
    error: Tensor
    evaluations: Tensor
    latent: Tensor

    @property
    def log_prob(self) -> Tensor:
        """log p, (B,)."""
        return self.prior + self.steps.sum(1)


@dataclass(frozen=True)
class Flow:
    """log p_low(x) of a model's flow between two levels of its path, N(0, prior_std² I) at the upper one.

    tolerance: with the exact divergence, of u, whose power is 1, on the change of a Newton round; with probes, of a
    step, on what its local errors cost log p, in nats per dimension.
    """

    path: Path
    low: Level
    high: Level
    prior_std: float
    tolerance: float

    @classmethod
    def of(cls, path: Path, tolerance: float) -> Flow:
        """The whole path."""
        return cls(path, path.lowest, path.highest, path.prior_std, tolerance)

    def exact(self, model: Model, x: Tensor, condition: Mapping[str, Tensor]) -> Density:
        """x: (B, *) at the lower level. D backward passes an evaluation."""
        field, u = self._field(model, x, condition), self._unit(x)
        ends = (angle(self.low), angle(self.high))
        sweep = Sweep(field, self.path, u, ends, self.tolerance, MOST_EVALUATIONS)
        found = log_density_lost(sweep.nodes, sweep.count, sweep.mirrored)
        last = (sweep.count - 1).to(u.device)
        arrived = sweep.nodes.u[torch.arange(len(u), device=u.device), last]
        steps, gamma = _spread(found.steps, sweep.nodes.phi[:, :-1], sweep.nodes.phi.diff(dim=1))
        return self._density(x, arrived, steps, gamma, found.error, sweep.evaluations)

    def probed(self, model: Model, x: Tensor, probes: Tensor, condition: Mapping[str, Tensor]) -> Density:
        """x: (B, *) at the lower level; probes (k, B, *) with E[ppᵀ] = I. k backward passes an evaluation."""
        field, u, directions = self._field(model, x, condition), self._unit(x), probes.flatten(2)
        dims, score = u.shape[1], torch.zeros_like(u)
        starts, lengths, parts, errors = (list[Tensor]() for _ in range(4))

        def slope(y: Tensor, level: Level) -> Tensor:
            v, divergence = field.probed(y[:, :dims], level, directions)
            score.copy_(-y[:, :dims] - v / over(torch.tan(angle(level)), v))
            return torch.cat([v, divergence.unsqueeze(1)], 1)

        def in_tolerances(error: Tensor, before: Tensor, after: Tensor) -> Tensor:
            # the score is that of the last stage, where the step ends: what an error of u costs there (`adjoint`)
            cost = (score * error[:, :dims]).sum(1).abs() + error[:, dims].abs()
            return (cost / dims / self.tolerance).cpu().double()

        def watch(phi: Tensor, h: Tensor, travel: Tensor, ratio: Tensor) -> None:
            starts.append(phi)
            lengths.append(h)
            parts.append(travel[:, dims].cpu().double())
            errors.append(ratio * self.tolerance * dims)

        y = torch.cat([u, torch.zeros_like(u[:, :1])], 1)
        first, ends = slope(y, self.low.repeat(len(y))), (angle(self.low), angle(self.high))
        y, count = dormand_prince(slope, y, first, ends, self.path, in_tolerances, MOST_EVALUATIONS, watch)
        steps, gamma = _spread(torch.stack(parts, 1), torch.stack(starts, 1), torch.stack(lengths, 1))
        return self._density(x, y[:, :dims], steps, gamma, torch.stack(errors).sum(0), count)

    def _field(self, model: Model, x: Tensor, condition: Mapping[str, Tensor]) -> Field:
        return Field(model, tuple(x.shape[1:]), condition)

    def _unit(self, x: Tensor) -> Tensor:
        return (x / over(log_power(self.low).exp(), x)).flatten(1)

    def _density(
        self, x: Tensor, u: Tensor, steps: Tensor, gamma: Tensor, error: Tensor, evaluations: Tensor
    ) -> Density:
        dims, power = u.shape[1], log_power(self.high)
        latent = over(power.exp(), u) * u
        square = (latent / self.prior_std).double().cpu().pow(2).sum(1)
        prior = -0.5 * square - dims * (0.5 * math.log(2 * math.pi) + math.log(self.prior_std))
        in_units = float(power - log_power(self.low))  # of x at the lower level
        return Density(prior + dims * in_units, steps, gamma, error, evaluations, latent.unflatten(1, x.shape[1:]))


def _spread(steps: Tensor, start: Tensor, length: Tensor, pieces: int = 8) -> tuple[Tensor, Tensor]:
    """Nats of steps (B, J) evenly over the angles of each, and the γ of the pieces, (B, J · pieces) both."""
    inside = (torch.arange(pieces, dtype=torch.float64) + 0.5) / pieces
    phi = (start.unsqueeze(2) + length.unsqueeze(2) * inside).flatten(1)
    # a step that an example does not have has length 0 or less: its nats are 0, wherever they are put
    return (steps / pieces).repeat_interleave(pieces, 1), 2 * torch.log(torch.tan(phi.clamp(min=1e-9)))


@dataclass(frozen=True)
class FlowLikelihood:
    """−log p(x0) by the flow; of discrete data a bound by dequantisation, over `count` draws of its noise

        −log (1/K) Σ_k p(x0 + u_k)/q(u_k | x0),

    which falls to −log P(x0) as K grows (`importance`; Ho et al. 2019 for dequantisation).

    lattice: None for continuous data, whose density it is. probes: a divergence by so many probes; 0 for the exact one.
    By probes K > 1 takes two passes a draw: shares of the draws by one set of probes, common to all, log p by others.
    """

    flow: Flow
    lattice: Lattice | None
    dequantisation: str
    count: int
    probes: int
    project: Callable[[Tensor], Tensor]
    noise: Dequantisation = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", lookup(DEQUANTISATIONS, self.dequantisation, "dequantisation"))

    @property
    def name(self) -> str:
        """ode, with the dequantisation and the number of its draws where there are any."""
        if self.lattice is None:
            return "ode"
        word = self.dequantisation.replace("_", " ")
        return f"ode({word})" if self.count == 1 else f"ode({word}, {self.count} draws)"

    @property
    def settings(self) -> Mapping[str, float | str | None]:
        """Of the dequantisation, where there is one, the divergence and the solver."""
        found: dict[str, float | str | None] = {
            "divergence": "probes" if self.probes else "exact",
            "probes": self.probes,
            "tolerance": self.flow.tolerance,
        }
        if self.lattice is not None:
            found |= {"dequantisation": self.dequantisation, "draws": self.count}
        return found

    def estimate(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Estimate:
        """x0: (B, *) in model units, on the lattice where there is one. ValueError for values off it."""
        if self.lattice is not None:
            self.lattice.index(x0)
        noises = range(self.count)
        found = [self._once(model, x0, draws, (k, f"probe/{k}"), condition) for k in noises]
        guided = self.probes and self.count > 1
        return tightened(
            found, [self._once(model, x0, draws, (k, "guide"), condition) for k in noises] if guided else ()
        )

    def _once(
        self, model: Model, x0: Tensor, draws: Draws, draw: tuple[int, str], condition: Mapping[str, Tensor]
    ) -> Estimate:
        """draw: the number of the dequantisation's noise and the name of the probes."""
        k, probe = draw
        low, dims, parts = self.flow.low, x0[0].numel(), dict[str, Tensor]()
        x = x0
        if self.lattice is not None:
            numbers = draws.uniform(f"dequantise/{k}", tuple(x0.shape[1:]))
            u, log_q = self.noise(numbers, self.lattice.width, math.exp(0.5 * float(low.gamma)))
            x, parts["dequantisation"] = x0 + u.to(x0), log_q
        z = over(low.alpha, x) * x
        if self.probes:
            vectors = [self.project(draws.normal(f"{probe}/{i}", x0)) for i in range(self.probes)]
            density = self.flow.probed(model, z, torch.stack(vectors), condition)
        else:
            density = self.flow.exact(model, z, condition)
        parts["prior"] = -density.prior - dims * float(low.log_alpha)
        parts["flow"] = -density.steps.sum(1)
        end_point = prior_kl(x0, self.flow.high, self.flow.prior_std).cpu().double()
        errors = {"solver": density.error, "end_point": end_point}
        return Estimate(parts, density.evaluations, density.gamma, -density.steps, errors)


def ode(
    path: Path,
    variance: str,
    lattice: Lattice | None,
    *,
    dequantisation: str = "truncated_normal",
    draws: int = 1,
    probes: int = 1,
    projections: str = "rademacher",
    tolerance: float | None = None,
) -> FlowLikelihood:
    """The flow's likelihood of a path. variance: of the reverse kernel, which the flow does not have.

    tolerance: `EXACT_TOLERANCE` or `PROBED_TOLERANCE` unless told. ValueError for options out of range.
    """
    if draws < 1 or probes < 0:
        raise ValueError(f"draws = {draws}, probes = {probes}; allowed: draws >= 1, probes >= 0 (0: exact divergence)")
    tolerance = (PROBED_TOLERANCE if probes else EXACT_TOLERANCE) if tolerance is None else tolerance
    positive(tolerance=tolerance)
    project = lookup(PROJECTIONS, projections, "projection")
    return FlowLikelihood(Flow.of(path, tolerance), lattice, dequantisation, draws, probes, project)
