"""Entropy ≤ cross-entropy ≤ bound: the loss of DDPM bounds what no model can go below.

H(q) ≤ −E_q log p_θ(x_0) ≤ E_q L: no code is shorter than the entropy of the data, and the variational bound costs what
p_θ(x_0) costs and more. All three are found by quadrature, on a mixture with its exact denoiser and with a poor one.
Bayes' rule turns the sum over forward steps into one over posteriors: two forms, one number on every single path.

Three slips are shown. −E_q[p_θ(x_0)] lacks the log and lies below the entropy. Without E_q the bound is none: single
paths fall below −log p_θ(x_0). And with β_t for the variance of q(x_{t−1} | x_t, x_0) the sums no longer agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import kernels
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, near, standard_error, style

LAW = logsnr.mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-0.8], [0.7]]), 0.04)
PATH = logsnr.Path(logsnr.Linear(-6, 6), logsnr.vp)
MEAN = LAW.weights @ LAW.means
VARIANCE = LAW.weights @ (LAW.variances + (LAW.means - MEAN) ** 2)
MODELS = {"exact": logsnr.Oracle(LAW), "poor": logsnr.Oracle(logsnr.gaussian(MEAN, VARIANCE))}
ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)
LINE = torch.linspace(-5.5, 5.5, 1301, dtype=torch.float64).unsqueeze(1)  # of x, at every level
DATA = torch.linspace(-2.4, 2.4, 161, dtype=torch.float64).unsqueeze(1)
NOISE = torch.linspace(-6, 6, 121, dtype=torch.float64)
PATHS_STEPS = 16


def model_density(of: logsnr.Bound, model: logsnr.Oracle) -> Tensor:
    """p_θ(x_0) on LINE: the prior's density pushed down the chain, kernel by kernel."""
    width = (LINE[1] - LINE[0]).squeeze()
    density = torch.distributions.Normal(0.0, of.prior_std).log_prob(LINE.squeeze()).exp()
    for t, s in pairwise(of.grid):
        step = kernels.reverse(model(LINE, t), s, of.rule)  # p_θ(x_s | x_t), from every x_t of LINE
        to = torch.distributions.Normal(step.mean, torch.exp(0.5 * step.log_var)).log_prob(LINE.T)
        density = width * density @ to.exp()
    return density


@dataclass(frozen=True)
class Costs:
    """Of a model by its number of steps, in nats: the cross-entropy, the mean bound, the cross-entropy without log."""

    cross_entropy: list[float]
    bound: list[float]
    no_log: list[float]


@dataclass(frozen=True)
class Found:
    """entropy: of the data. costs: by model. densities: p_θ(x_0) of the exact denoiser on LINE, by steps.

    On paths of PATHS_STEPS steps: forward, telescoped, slipped: the value in two forms and with a wrong variance;
    cross: −log p_θ(x_0) at their x_0. in_mean: the bound by quadrature.
    """

    steps: tuple[int, ...]
    entropy: float
    costs: dict[str, Costs]
    densities: dict[int, Tensor]
    forward: Tensor
    telescoped: Tensor
    slipped: Tensor
    cross: Tensor
    in_mean: float


def chain(steps: int) -> logsnr.Bound:
    """DDPM's bound on so many steps, its variance the small one."""
    return logsnr.bound_for(PATH.grid(steps), PATH.prior_std, "small", None)


def mean_bound(of: logsnr.Bound, model: logsnr.Oracle) -> float:
    """E_q L in nats by quadrature over x_0 and the noise of each level."""
    q = LAW.log_prob(DATA, ONE, ZERO).exp()
    x0, eps = DATA.repeat_interleave(len(NOISE), 0), NOISE.repeat(len(DATA)).unsqueeze(1)
    normal = torch.exp(-0.5 * NOISE**2) / math.sqrt(2 * math.pi)
    total = of.prior(DATA)
    for i in range(of.steps):
        term = of.term(model, x0, eps, torch.full((len(x0),), i)).reshape(len(DATA), len(NOISE))
        total = total + torch.trapezoid(term * normal, NOISE)
    return float(torch.trapezoid(q * total, DATA.squeeze()))


def on_paths(of: logsnr.Bound, model: logsnr.Oracle, x0: Tensor, draws: logsnr.Draws) -> tuple[Tensor, Tensor, Tensor]:
    """log q(x_1 … x_T | x_0)/p_θ(x_0 … x_T) of each path: by forward kernels, by posteriors, by wrong posteriors."""
    levels = list(of.grid)[::-1]  # clean, then 1 … T
    x = [x0, levels[1].perturb(x0, draws.normal("step/1", x0))]
    first = logsnr.Normal(levels[1].alpha * x0, 2 * levels[1].log_sigma)
    forward = first.log_prob(x[1])
    decoded = kernels.reverse(model(x[1], levels[1]), levels[0], of.rule).log_prob(x0)
    backward = slipped = modelled = torch.zeros(len(x0)).double()
    for i, (s, t) in enumerate(pairwise(levels[1:]), 2):
        step = kernels.transition(x[-1], s, t)
        x.append(step.sample(draws.normal(f"step/{i}", x0)))
        forward = forward + step.log_prob(x[i])
        posterior = kernels.posterior(x[i], x0, t, s)
        backward = backward + posterior.log_prob(x[i - 1])
        slipped = slipped + logsnr.Normal(posterior.mean, step.log_var).log_prob(x[i - 1])
        modelled = modelled + kernels.reverse(model(x[i], t), s, of.rule).log_prob(x[i - 1])
    last = logsnr.Normal(levels[-1].alpha * x0, 2 * levels[-1].log_sigma).log_prob(x[-1])
    prior = logsnr.Normal(torch.zeros_like(x0), 2 * torch.tensor(of.prior_std).double().log()).log_prob(x[-1])
    rest = prior + modelled + decoded
    return forward - rest, last + backward - rest, last + slipped - rest


def measure(setting: Setting) -> Found:
    """Quadrature for every number of steps; two forms of the bound on paths."""
    steps = setting.of((8, 16, 32, 64, 128), (8, 16))
    q, x = LAW.log_prob(LINE, ONE, ZERO), LINE.squeeze()

    def mean(value: Tensor) -> float:
        return float(torch.trapezoid(q.exp() * value, x))

    costs: dict[str, Costs] = {}
    densities: dict[int, Tensor] = {}
    for name, model in MODELS.items():
        of = [model_density(chain(count), model) for count in steps]
        bounds = [mean_bound(chain(count), model) for count in steps]
        costs[name] = Costs([mean(-p.log()) for p in of], bounds, [mean(-p) for p in of])
        densities = densities or dict(zip(steps, of, strict=True))
    x0 = LAW.sample(setting.of(20_000, 4_000), setting.seed)
    values = on_paths(chain(PATHS_STEPS), MODELS["exact"], x0, setting.draws(len(x0)))
    place = ((x0.squeeze() - x[0]) / (x[1] - x[0])).long()
    share = (x0.squeeze() - x[place]) / (x[1] - x[0])
    cross = -torch.lerp(densities[PATHS_STEPS][place], densities[PATHS_STEPS][place + 1], share).log()
    return Found(steps, mean(-q), costs, densities, *values, cross, costs["exact"].bound[steps.index(PATHS_STEPS)])


def checks(found: Found) -> tuple[Check, ...]:
    """The order for both models at every T, with room for the quadrature's 1e-6; two forms, one number; three slips."""
    each = [
        (c - found.entropy, b - c)
        for of in found.costs.values()
        for c, b in zip(of.cross_entropy, of.bound, strict=True)
    ]
    mass = [float(torch.trapezoid(density, LINE.squeeze())) for density in found.densities.values()]
    off = [float((other - found.telescoped).abs().max()) for other in (found.forward, found.slipped)]
    paths, loose = len(found.cross), found.telescoped - found.cross
    no_log = max(max(of.no_log) for of in found.costs.values())
    return (
        above("cross-entropy − entropy, nats, smallest of both models and every T", min(e for e, _ in each), 1e-5),
        above("bound − cross-entropy, nats, smallest of both models and every T", min(b for _, b in each), 1e-5),
        below("the bound by forward steps and by posteriors, largest difference on a path, nats", off[0], 1e-10),
        near(
            f"mean bound of {paths:,} paths, by quadrature {found.in_mean:.4f}",
            mean(found.telescoped),
            found.in_mean,
            standard_error(found.telescoped),
        ),
        below("mass of p_θ, distance from 1", max(abs(each - 1) for each in mass), 1e-5),
        above("slip: entropy − (−E p_θ), nats, log missing", found.entropy - no_log, 0.1),
        above("slip: share of single paths below −log p_θ(x_0), E missing", float((loose < 0).double().mean()), 0.05),
        above("slip: largest difference of the two forms with β_t for β̃_t, nats", off[1], 0.1),
    )


def draw(found: Found, figure: Figure) -> None:
    """Densities of the model beside the data's; the three costs against T; single paths about −log p_θ(x_0)."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.15, 1])
    x = LINE.squeeze()
    q = LAW.log_prob(LINE, ONE, ZERO).exp()
    left.fill_between(x, q, color=style.ink(), alpha=0.2, lw=0)
    left.plot(x, q, color=style.ink(), label="data")
    for count, colour in ((found.steps[0], "C2"), (found.steps[-1], "C0")):
        left.plot(x, found.densities[count], "--", color=colour, label=f"model, T = {count}")
    left.set(xlabel="x$_0$", ylabel="density", xlim=(-1.9, 2), ylim=(0, 2.5), title="The data and p$_θ$(x$_0$)")
    left.legend(loc="upper left")
    for name, colour in zip(found.costs, ("C0", "C1"), strict=True):
        of = found.costs[name]
        middle.plot(found.steps, of.bound, "o--", color=colour)
        middle.plot(found.steps, of.cross_entropy, "o-", color=colour)
        middle.fill_between(found.steps, of.cross_entropy, of.bound, color=colour, alpha=0.12, lw=0)
    middle.axhline(found.entropy, color=style.ink())
    middle.set(xscale="log", yscale="log", xlabel="steps T", title="Bound - -, cross-entropy —, nats")
    middle.set_xticks(found.steps, [str(count) for count in found.steps])
    middle.set_yticks([0.4, 0.6, 1, 2, 4], ["0.4", "0.6", "1", "2", "4"])
    middle.minorticks_off()
    middle.text(found.steps[0], 0.375, f"entropy of the data {found.entropy:.3f}", va="top")
    middle.text(found.steps[-1], 1.75, "poor denoiser", color="C1", ha="right")
    middle.text(found.steps[-1], 0.75, "exact", color="C0", ha="right")
    middle.set_ylim(0.32, 5)
    loose = found.telescoped - found.cross
    _, edges, bars = right.hist(loose.numpy(), bins=60, range=(-3, 6), color="C0", alpha=0.6)
    for edge, bar in zip(edges[:-1], bars, strict=True):
        bar.set_color("C1" if edge < -1e-9 else "C0")
    right.axvline(float(loose.mean()), color=style.ink())
    right.text(float(loose.mean()) + 0.15, right.get_ylim()[1] * 0.97, "mean: a bound", va="top")
    right.text(-2.9, right.get_ylim()[1] * 0.5, "single\npaths\nbelow", color="C1")
    right.set(
        xlabel=f"L − (−log p$_θ$(x$_0$)), nats, T = {PATHS_STEPS}", yticks=[], title="Without E$_q$ it is no bound"
    )


EXHIBIT = Exhibit("DDPM, eq. 3, 5 and app. A", ("D3", "D4", "F4"), measure, checks, draw, model_density)
