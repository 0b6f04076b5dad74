"""Non-Markov is real, and costs no training: one set of marginals, many joint laws, one optimum.

DDIM's q_σ has DDPM's marginals for every η. Yet at η < 1 it is no chain: with x_t known, x_{t−1} and x_{t+1} still
tell of each other, because the forward kernel looks at x_0. "Everything follows from q(x_t | x_0)" is thus wrong.

Theorem 1: the bound J_σ of q_σ is L_γ = Σ γ_t |ε − ε_θ|² and a constant, so that networks trained by DDPM serve every
η. Here γ_t is derived: it is the divergence that a unit error of ε_θ causes between two backward kernels. The weight
with coefficient 1 for x_0, as in the paper's proof, leaves no constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, implicit, kernels, objectives
from logsnr.gallery import Check, Exhibit, Setting, above, below, near, style

V, STEPS = 0.36, 20  # variance of the data, steps of the chain
PATH = logsnr.Path(logsnr.table_of_betas(betas.linear(STEPS, 1e-3, 0.3)), logsnr.vp)
GRID = PATH.grid(STEPS)
MIDDLE = 4  # x_3, x_4 and x_5 are looked at
ETAS, BOUND_ETA = (0.5, 1.0), 0.5  # of the drawn triples, and of the bound
Kernel = Callable[[Tensor, Tensor, logsnr.Level, logsnr.Level, float], logsnr.Normal]


FLOOR = kernels.posterior_log_var(PATH.at(2 / STEPS), PATH.at(1 / STEPS))  # of p(x0 | x_1), as in DDPM


def derived_weight(t: logsnr.Level, s: logsnr.Level, eta: float) -> Tensor:
    """γ_t of Theorem 1: what the bound loses in step t → s where ε_θ is off by 1, in nats."""
    x_t = x0 = torch.zeros(1, 1).double()
    guess = x0 + t.sigma / t.alpha  # as x0 = (x_t − σ_t ε)/α_t
    if s.is_clean:  # the last step, −log p(x0 | x_1)
        return 0.5 * guess.squeeze() ** 2 / (eta**2 * FLOOR.exp())
    true, model = (implicit.backward(x_t, each, t, s, eta) for each in (x0, guess))
    return true.kl(model).squeeze()


def printed_weight(t: logsnr.Level, s: logsnr.Level, eta: float) -> Tensor:
    """The same with coefficient 1 for x_0 in the mean of the kernel: (σ_t/α_t)²/2c²."""
    log_var = FLOOR if s.is_clean else kernels.posterior_log_var(t, s)
    return 0.5 * torch.exp(t.gamma - log_var) / eta**2


def joint(levels: list[logsnr.Level], kernel: Kernel, eta: float) -> Tensor:
    """x_0 and a state at each level, drawn from the one before and x_0: rows of coefficients of unit normals."""
    unit = torch.eye(len(levels) + 1).double()
    x0 = V**0.5 * unit[:1]
    states = [x0, levels[0].perturb(x0, unit[1:2])]
    for i, (here, there) in enumerate(pairwise(levels), 2):
        law = kernel(states[-1], x0, here, there, eta)  # linear in both, so it acts on coefficients
        states.append(law.mean + torch.exp(0.5 * law.log_var) * unit[i : i + 1])
    return torch.cat(states)


def neighbours(states: Tensor) -> tuple[Tensor, float]:
    """What x_{t−1} and x_{t+1} have beside x_t, (2, L + 1), and its correlation: the lag-2 partial correlation."""
    rest = states[[1, 3]] - torch.outer(states[[1, 3]] @ states[2] / (states[2] @ states[2]), states[2])
    return rest, float(torch.cosine_similarity(rest[0], rest[1], dim=0))


def bound(model: logsnr.denoiser.Model, x0: Tensor, noise: list[Tensor], eta: float) -> float:
    """J_σ in nats, a mean over examples: divergences between the family's kernels at x_0 and at x̂_0, and a density."""
    total = kernels.prior_kl(x0, PATH.highest, PATH.prior_std)
    for t, s, eps in zip(GRID[:-1], GRID[1:], noise, strict=True):
        x = t.perturb(x0, eps)
        guess = model(x, t).x0
        if s.is_clean:
            total -= logsnr.Normal(guess, FLOOR + 2 * math.log(eta)).log_prob(x0)
        else:
            total += implicit.backward(x, x0, t, s, eta).kl(implicit.backward(x, guess, t, s, eta))
    return float(total.mean())


def weighted(model: logsnr.denoiser.Model, x0: Tensor, noise: list[Tensor], weights: list[Tensor]) -> float:
    """L_γ, a mean over examples, on the same noises."""
    total = torch.zeros(len(x0)).double()
    for t, eps, weight in zip(GRID[:-1], noise, weights, strict=True):
        total += weight * (model(t.perturb(x0, eps), t).eps - eps).square().sum(1)
    return float(total.mean())


def of_noise(rule: Callable[[Tensor], Tensor]) -> logsnr.denoiser.Model:
    """The model of a network ε_θ that ignores the level."""

    def model(x: Tensor, level: logsnr.Level, **condition: Tensor) -> logsnr.Prediction:
        return logsnr.Prediction(x, level, logsnr.prediction.eps(level), rule(x))

    return model


MODELS = {
    "exact": logsnr.Oracle(logsnr.gaussian(torch.zeros(3), V)),
    "0": of_noise(torch.zeros_like),
    "0.4x − 0.1": of_noise(lambda x: 0.4 * x - 0.1),
    "sin 3x": of_noise(lambda x: torch.sin(3 * x)),
}


@dataclass(frozen=True)
class Found:
    """etas, partial: lag-2 partial correlation, exact. sampled: the same of `count` triples, at ETAS. rest: (count, 2)
    by η of ETAS, x_{t−1} and x_{t+1} without what x_t says. factorisations: largest difference of two
    covariances. bounds, gaps, printed: J_σ, J_σ − L_γ and the same with the printed weight, by model. library:
    largest relative distance of the derived weight from `objectives.WEIGHTS["ddim"]`. marginals: largest
    difference of a state's variance from α²V + σ², over η.
    """

    etas: Tensor
    partial: list[float]
    rest: dict[float, Tensor]
    factorisations: float
    bounds: dict[str, float]
    gaps: dict[str, float]
    printed: dict[str, float]
    library: float
    marginals: float


def measure(setting: Setting) -> Found:
    """The joint law of three states by both factorisations; J_σ and L_γ of four networks on the same noises."""
    etas, levels = torch.linspace(0, 1, 21), [PATH.at(i / STEPS) for i in (MIDDLE - 1, MIDDLE, MIDDLE + 1)]
    correlations, rest, apart, off, count = [], {}, 0.0, 0.0, setting.of(100_000, 10_000)
    of_marginals = torch.stack([level.alpha**2 * V + level.sigma**2 for level in levels])
    normals = setting.draws(count).normal("states", torch.empty(count, 4, dtype=torch.float64))
    for eta in etas.tolist():
        up, down = joint(levels, implicit.forward, eta), joint(levels[::-1], implicit.backward, eta)[[0, 3, 2, 1]]
        apart = max(apart, float((up @ up.T - down @ down.T).abs().max()))
        off = max(off, float(((up @ up.T).diag()[1:] - of_marginals).abs().max()))
        left, correlation = neighbours(up)
        correlations.append(correlation)
        if eta in ETAS:
            rest[eta] = normals @ left.T

    draws = setting.draws(setting.of(2_000, 200), step=1)
    x0 = V**0.5 * draws.normal("x0", torch.empty(len(draws.index), 3, dtype=torch.float64))
    noise = [draws.normal(f"eps/{i}", x0) for i in range(STEPS)]
    derived, printed = ([rule(t, s, BOUND_ETA) for t, s in pairwise(GRID)] for rule in (derived_weight, printed_weight))
    bounds = {name: bound(model, x0, noise, BOUND_ETA) for name, model in MODELS.items()}
    gaps, wrong = (
        {name: bounds[name] - weighted(model, x0, noise, weights) for name, model in MODELS.items()}
        for weights in (derived, printed)
    )
    library = objectives.WEIGHTS["ddim"](PATH, GRID[:-1], eta=BOUND_ETA)
    distance = float((torch.stack(derived) / library - 1).abs().max())
    return Found(etas, correlations, rest, apart, bounds, gaps, wrong, distance, off)


def _spread(values: dict[str, float]) -> float:
    return max(values.values()) - min(values.values())


def checks(found: Found) -> tuple[Check, ...]:
    """Zero at η = 1 alone; one covariance; one constant with the derived weight and none with the printed one."""
    exact = dict(zip([round(eta, 2) for eta in found.etas.tolist()], found.partial, strict=True))
    sampled = {eta: float(torch.corrcoef(rest.T)[0, 1]) for eta, rest in found.rest.items()}
    count = len(found.rest[1.0])
    return (
        below("lag-2 partial correlation at η = 1, absolute", abs(exact[1.0]), 1e-12),
        above("the same at η = 0.8", abs(exact[0.8]), 0.05),
        above("the same at η = 0.5", abs(exact[0.5]), 0.05),
        *(
            near(f"of {count:,} drawn triples, η = {eta}", sampled[eta], exact[eta], (1 - exact[eta] ** 2) / count**0.5)
            for eta in ETAS
        ),
        below("variance of a state from α²V + σ², largest difference over η", found.marginals, 1e-12),
        below("covariance by forward and by backward kernels, largest difference", found.factorisations, 1e-12),
        below(f"J_σ − L_γ, spread over {len(MODELS)} networks, nats", _spread(found.gaps), 1e-10),
        above("J_σ itself, its spread, nats", _spread(found.bounds), 1),
        above("J_σ − L_γ with the printed weight, its spread, nats", _spread(found.printed), 1),
        below("derived γ_t against the library's, largest relative distance", found.library, 1e-10),
    )


def draw(found: Found, figure: Figure) -> None:
    """Neighbours with x_t known, at two η; the partial correlation against η; J − L of the networks."""
    panels = figure.subplot_mosaic([["0.5", "line", "gaps"], ["1.0", "line", "gaps"]], width_ratios=[0.75, 1.2, 1.2])
    colours, line, gaps = {0.5: "C1", 1.0: "C0"}, panels["line"], panels["gaps"]
    line.plot(found.etas, found.partial, color=style.ink())
    for eta, colour in colours.items():
        axes, rest = panels[str(eta)], found.rest[eta]
        axes.plot(*(rest[:3000] / rest.std(0)).T.numpy(), ".", markersize=1.5, alpha=0.5, color=colour)
        axes.set(xlim=(-3.6, 3.6), ylim=(-3.6, 3.6), aspect="equal", ylabel="x$_{t+1}$", xticks=[], yticks=[])
        axes.set_title(f"x$_t$ known, η = {eta:g}", color=colour)
        line.plot(eta, torch.corrcoef(rest.T)[0, 1], "o", color=colour, ms=7)
    panels["1.0"].set_xlabel("x$_{t−1}$")
    line.text(0.82, -0.025, "Markov", color="C0", ha="right")
    line.text(0.54, -0.37, "drawn triples", color="C1")
    line.set(xlabel="η", ylim=(-1.03, 0.06), title="Correlation of x$_{t−1}$ and x$_{t+1}$, x$_t$ known")
    gaps.plot(list(found.printed.values()), "o", color="C1", ms=7)
    gaps.plot(list(found.gaps.values()), "o-", color="C0", ms=7)
    gaps.text(1.5, 0.05 * min(found.printed.values()), "γ$_t$ derived: one constant", color="C0", ha="center", va="top")
    gaps.text(1.5, 0.97 * min(found.printed.values()), "with coefficient 1 for x$_0$", color="C1", ha="center")
    gaps.set_xticks(range(len(MODELS)), [name.replace(" − ", "\n− ") for name in MODELS])
    gaps.set(xlabel="ε$_θ$(x)", title="J$_σ$ − L$_γ$ of four networks, nats", xlim=(-0.4, 3.4))


EXHIBIT = Exhibit("DDIM, section 3 and theorem 1", ("M1", "M3", "M7"), measure, checks, draw, derived_weight)
