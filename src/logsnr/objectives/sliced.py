"""Sliced score matching: the score of a density from its samples alone, without the density of any noise (N5).

    J(s) = E_x [ tr ∇s + ½ |s|² ] = ½ E_x |s − ∇log p|² − ½ E_x |∇log p|²          (Hyvärinen 2005)

needs D derivatives for its trace. Projected on random directions with E[vvᵀ] = I it needs one vector-Jacobian product,

    basic               E_v [ vᵀ∇(vᵀs) + ½ (vᵀs)² ]        Song, Garg, Shi and Ermon 2019, eq. 8
    variance-reduced    E_v [ vᵀ∇(vᵀs) ] + ½ |s|²          eq. 9, the mean over v of the last term in closed form

On noisy data the two kinds of score matching are one. With q the marginal law of x_t and s = −ε̂/σ,

    E (1/D) |ε − ε̂|² = 1 + (2σ²/D) E [ tr ∇s + ½ |s|² ],

because E sᵀ∇log q(x_t | x0) = −E tr ∇s and E|ε|² = D. So the objective here is w(t) times the right-hand side: at equal
weight it has the mean and the gradient of `Matching`, only its variance is larger. In score units that is σ²-weighted
sliced matching, w σ², ½σ² E|s − ∇log q|² up to a constant (NCSN, section 4 and appendix).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from logsnr.denoiser import Model
from logsnr.draws import Draws
from logsnr.level import Level, over
from logsnr.loss import Loss
from logsnr.objectives.objective import Objective, Setting, fixed
from logsnr.registry import lookup

Projection = Callable[[Tensor], Tensor]


def rademacher(z: Tensor) -> Tensor:
    """±1, each with probability ½: the signs of the normals z (B, *). The least variance of the three."""
    return torch.where(z < 0, -1.0, 1.0).to(z)


def gaussian(z: Tensor) -> Tensor:
    """z itself, N(0, I) (what the original NCSN program draws)."""
    return z


def sphere(z: Tensor) -> Tensor:
    """√D z/|z|, uniform on the sphere of radius √D, so that E[vvᵀ] = I."""
    length = z.flatten(1).norm(dim=1)
    return over(z[0].numel() ** 0.5 / length, z) * z


PROJECTIONS: dict[str, Projection] = {"rademacher": rademacher, "gaussian": gaussian, "sphere": sphere}


class Slices(NamedTuple):
    """The two terms for each example, (B,): trace, vᵀ∇(vᵀs), and norm, ½(vᵀs)² or ½|s|²; means over projections."""

    trace: Tensor
    norm: Tensor


def sliced_score_matching(
    score: Callable[[Tensor], Tensor], x: Tensor, projections: Tensor, *, variance_reduced: bool = True
) -> Slices:
    """The terms of J for each example of x (B, *), at the given projections (k, B, *) with E[vvᵀ] = I.

    score: x → s of the same shape, example by example. Their sum estimates tr ∇s + ½|s|² without bias. One
    vector-Jacobian product a projection; differentiable in the parameters of `score` where gradients are enabled, and
    computable where they are not.
    """
    train = torch.is_grad_enabled()
    with derivatives():
        at = x.clone().detach().requires_grad_()  # clones: a graph cannot keep tensors of inference mode
        s = score(at)
        traces, norms = [], []
        for v in projections.clone():
            vs = (v * s).flatten(1).sum(1)
            (gradient,) = torch.autograd.grad(vs.sum(), at, create_graph=train, retain_graph=True)
            traces.append((v * gradient).flatten(1).sum(1))
            norms.append(vs**2)
        norm = (s**2).flatten(1).sum(1) if variance_reduced else torch.stack(norms).mean(0)
        terms = Slices(torch.stack(traces).mean(0), 0.5 * norm)
    return terms if train else Slices(*(term.detach() for term in terms))


@contextmanager
def derivatives() -> Iterator[None]:
    """Gradients with respect to the input, whatever the caller's mode; attention whose gradient has a gradient."""
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


class Sliced(Objective):
    """w(t) · [1 + (2σ²/D)(vᵀ∇(vᵀŝ) + ½|ŝ|²)] at x_t, for each example: the mean of `Matching` by the module's identity.

    projections: a name in `PROJECTIONS`. count: projections an example. variance_reduced: ½|ŝ|² for ½(vᵀŝ)².
    """

    def __init__(
        self, setting: Setting, projections: str = "rademacher", count: int = 1, *, variance_reduced: bool = True
    ) -> None:
        super().__init__()
        if count < 1:
            raise ValueError(f"count = {count} projections an example; allowed: at least 1")
        self.path, self.weight, self.times = fixed(setting.path, "sliced"), setting.weight, setting.times
        self.project = lookup(PROJECTIONS, projections, "projection")
        self.count, self.variance_reduced = count, variance_reduced

    def forward(self, model: Model, x0: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """x0: (B, *) float in model units. Returns the loss of each example at its own time."""
        t, importance = self.times.draw(draws)
        level, eps = self.path.at(t), draws.normal("eps", x0)
        vectors = torch.stack([self.project(draws.normal(f"projection/{i}", x0)) for i in range(self.count)])
        terms = sliced_score_matching(
            _score(model, level, condition), level.perturb(x0, eps), vectors, variance_reduced=self.variance_reduced
        )
        to_eps = (2 / x0[0].numel() * level.sigma**2).to(x0)
        unweighted = 1 + to_eps * (terms.trace + terms.norm)
        own, importance = self.weight(self.path, level).to(x0), importance.to(x0)
        parts = {name: importance * own * to_eps * term for name, term in terms._asdict().items()}
        return Loss(importance * own * unweighted, parts, t, unweighted.detach(), (own * unweighted).detach())


def _score(model: Model, level: Level, condition: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """x → ŝ(x) of the model at a level, of copies that a graph may keep."""

    def score(x: Tensor) -> Tensor:
        fields = (field.clone() for field in (level.t, level.gamma, level.log_alpha, level.log_sigma))
        return model(x, Level(*fields), **{key: value.clone() for key, value in condition.items()}).score

    return score
