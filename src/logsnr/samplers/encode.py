"""Encoding: the decode grid walked upwards, from data to its latent, and what one does with latents (M5, M6).

A deterministic sampler is a map from the highest level to the data. Running its own steps upwards (DDIM, section 4.3)
inverts it up to the order of the method, because the step from s up to t is made with the model's answer at s, where
the step down uses the one at t. Solving the step down for its start closes the gap: with D the step from t to s,

    x_t ← x_t + κ (x_s − D(x_t)),   κ = α_t/α_s where γ_t + γ_s < 0, else σ_t/σ_s.

D is linear in x̂0 and ε̂; on Gaussian data its slope lies between σ_s/σ_t and α_s/α_t, near the first in directions that
noise dominates and near the second in those of the data, so one of the two κ makes every round a contraction. Both are
finite at α_t = 0, and α_t serves the step out of the clean level, where D(x_t) = x̂0(x_t). From the second round on the
move is mixed with the one before (Anderson 1965), which is right for a network of any slope. A model is never evaluated
at the clean level: the first step starts from α_t x0, and is only as good as its rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level, over
from logsnr.samplers.loop import Sampler, Step, finish

REFINEMENTS = 5


def encode(
    sampler: Sampler, model: Model, x0: Tensor, levels: Level, *, refinements: int = REFINEMENTS
) -> Iterator[Step]:
    """Walk x0 (B, *), data at the lower end, up `levels` (S + 1,), given in the order in which they are decoded.

    Yields after each of the S steps; the last x is the latent at levels[0]. refinements: rounds of the fixed point a
    step, each an evaluation of the step down; 0 is the plain reversed sampler. model: without clipping of x̂0, which has
    no inverse. ValueError for a sampler that draws noise or remembers earlier steps.
    """
    if sampler.stochastic:
        raise ValueError("encoding needs a sampler without noise; allowed: ddim with eta = 0, or one as deterministic")
    if refinements < 0:
        raise ValueError(f"refinements = {refinements}; allowed: at least 0")
    x = x0
    for s, t in pairwise(levels[torch.arange(len(levels) - 1, -1, -1)]):
        step = _up(sampler, model, x, s, t, refinements)
        x = step.x
        yield step


def _up(sampler: Sampler, model: Model, x: Tensor, s: Level, t: Level, refinements: int) -> Step:
    """From x at s to the x_t that the step down brings to x."""

    def step(x: Tensor, t: Level, s: Level) -> Step:
        made = finish(model, x, t, s) if s.is_clean else sampler.step(model, x, t, s, noise=_silent, memory=None)
        if made.memory is not None:
            raise ValueError("encoding needs a sampler of single steps, and this one remembers; allowed: ddim")
        return made

    if s.is_clean:
        # α x0 alone has none of the noise of its level: one round at least
        kappa, made, x_t, rounds = t.alpha, [], over(t.alpha, x) * x, max(refinements, 1)
    else:
        near_data = bool(t.gamma + s.gamma < 0)
        kappa = torch.exp(t.log_alpha - s.log_alpha if near_data else t.log_sigma - s.log_sigma)
        made, rounds = [step(x, s, t)], refinements
        x_t = made[0].x
    before: tuple[Tensor, Tensor] | None = None
    for _ in range(rounds):
        made.append(step(x_t, t, s))
        move = over(kappa, x) * (x - made[-1].x)
        x_t, before = x_t + (move if before is None else _mixed(x_t, move, *before)), (x_t, move)
    return Step(x_t, x_t, made[-1].prediction, t, torch.stack([each.evaluations for each in made]).sum(0))


def _mixed(x: Tensor, move: Tensor, x_before: Tensor, move_before: Tensor) -> Tensor:
    """The move of Anderson's method with one earlier round: the mixture of both with the least linear prediction of it.

    θ = ⟨m, m − m'⟩/|m − m'|² for each example; 0 repeats the plain round. Where D is linear with one slope it lands on
    the solution, whatever κ was.
    """
    change = (move - move_before).double().reshape(len(x), -1)
    square = (change**2).sum(1)
    theta = (change * move.double().reshape(len(x), -1)).sum(1) / torch.where(square > 0, square, 1.0)
    return move - over(theta.clamp(-9, 9), x) * (x - x_before + move - move_before)


def _silent(name: str) -> Tensor:
    raise AssertionError(f"a sampler that declares no noise drew {name!r}")


def slerp(first: Tensor, last: Tensor, share: Tensor | float) -> Tensor:
    """The latent at `share` of the great circle from `first` (0) to `last` (1), for each example (DDIM, eq. 67).

        sin((1 − w) θ)/sin θ · first + sin(w θ)/sin θ · last,   θ the angle between them

    first, last: (B, *). share: a number, () or (B,); 0 and 1 give the ends exactly. A straight line would leave the
    shell on which noise lives. Examples whose angle is 0 or π, where no circle is singled out, take the straight line.
    """
    w = torch.as_tensor(share, dtype=torch.float64).expand(len(first))
    a, b = (x.detach().cpu().double().reshape(len(x), -1) for x in (first, last))
    a, b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
    # the angle keeps its digits where the arc cosine of a product would not
    theta = 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))
    sine = torch.sin(theta)
    line = sine < 1e-6
    sine = torch.where(line, 1.0, sine)
    of_first = torch.where(line, 1 - w, torch.sin((1 - w) * theta) / sine)
    of_last = torch.where(line, w, torch.sin(w * theta) / sine)
    return over(of_first, first) * first + over(of_last, last) * last
