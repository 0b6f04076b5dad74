"""In ten steps a learned γ lowers the loss; in continuous time it only calms it.

VDM trains γ with the rest. In T steps the loss is L_T = ½ Σ (e^{γ_t − γ_s} − 1) E|ε − ε̂(z_t)|², an upper Riemann sum,
so the gradient of the bound moves the steps to where they save most. At T = ∞ the bound is an integral that does not
know the interior of γ, which is then trained to lower the variance of the estimate, by ∇L² = 2L ∇L.

"A learned schedule improves the likelihood" is therefore true of few steps alone. With the exact denoiser, and ends
pinned at −10 and 8, L_10 falls nearly to the least that any ten steps between them can have, found by dynamic
programming; L_∞ stays where it was, and only its variance falls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import likelihood, schedules
from logsnr.gallery import Check, Exhibit, Setting, below, mean, standard_error, style

STEPS, LOW, HIGH = 10, -10.0, 8.0
LAW = logsnr.mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.0]]), 0.04)
LINE = "linear"
COLOURS = {LINE: "C0", "for ten steps": "C1", "for T = ∞": "C2"}


def learn(steps: int | None, setting: Setting) -> logsnr.Path:
    """γ between pinned ends, trained by the loss in so many steps, None for ∞; the denoiser is exact throughout."""
    schedule = schedules.SCHEDULES["learned"](LOW, HIGH, ends="pinned", init="linear", width=256)
    path, updates, batch = logsnr.Path(schedule, logsnr.vp), setting.of(400, 120), 256
    bound = likelihood.BOUNDS["vdm"](path, "small", None, steps=steps)
    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.05, betas=(0.9, 0.99))
    for step in range(updates):
        optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, 2 * (1 - step / updates))
        x0 = LAW.sample(batch, seed=10**6 * setting.seed + step)
        loss = bound.estimate(logsnr.Oracle(LAW), x0, setting.draws(batch, step)).total
        optimizer.zero_grad()
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(schedule.parameters(), 1.0)
        optimizer.step()
    return path.requires_grad_(False)


def drawn(path: logsnr.Path, steps: int | None, setting: Setting) -> Tensor:
    """Draws of the diffusion loss, (n,) nats; another seed's than the training's."""
    count = setting.of(200_000, 40_000)
    bound = likelihood.BOUNDS["vdm"](path, "small", None, steps=steps)
    x0 = LAW.sample(count, seed=10**6 * (setting.seed + 1) - 1)
    return bound.estimate(logsnr.Oracle(LAW), x0, setting.draws(count, step=10**6)).parts["diffusion"]


def noise_error(path: logsnr.Path, gamma: Tensor) -> Tensor:
    """E|ε − ε̂|² = 1 − σ² E|score|² of the exact denoiser at each γ (n,), by the trapezoidal rule over z."""
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    found = []
    for level in map(path.at_gamma, gamma):
        density = LAW.log_prob(z.unsqueeze(1), level.alpha, level.sigma).exp()
        score = LAW.score(z.unsqueeze(1), level.alpha, level.sigma)[:, 0]
        found.append(1 - level.sigma**2 * torch.trapezoid(density * score**2, z))
    return torch.stack(found)


def least(gamma: Tensor, error: Tensor) -> float:
    """The least L_T over all choices of T steps among the levels γ (n,), by dynamic programming."""
    cost = 0.5 * torch.expm1(gamma - gamma.unsqueeze(1)) * error  # of the step between level i (row) and j above it
    cost[torch.ones_like(cost).tril().bool()] = math.inf
    return likelihood.best_plan(cost, STEPS).nats


@dataclass(frozen=True)
class Found:
    """gamma, error: the integrand. By schedule: curves γ(t), knots of ten steps, draws of L_10 and of L_∞."""

    gamma: Tensor
    error: Tensor
    curves: dict[str, Tensor]
    knots: dict[str, Tensor]
    ten: dict[str, Tensor]
    infinite: dict[str, Tensor]
    least: float


def measure(setting: Setting) -> Found:
    """The line, and γ learned for ten steps and for T = ∞."""
    line = logsnr.Path(logsnr.Linear(LOW, HIGH), logsnr.vp)
    paths = {LINE: line, "for ten steps": learn(STEPS, setting), "for T = ∞": learn(None, setting)}
    gamma = torch.linspace(LOW, HIGH, setting.of(361, 121), dtype=torch.float64)
    error = noise_error(line, gamma)
    times, knots = (torch.linspace(0, 1, n + 1, dtype=torch.float64) for n in (200, STEPS))
    return Found(
        gamma,
        error,
        {name: path.at(times).gamma for name, path in paths.items()},
        {name: path.at(knots).gamma for name, path in paths.items()},
        {name: drawn(path, STEPS, setting) for name, path in paths.items()},
        {name: drawn(path, None, setting) for name, path in paths.items()},
        least(gamma, error),
    )


def checks(found: Found) -> tuple[Check, ...]:
    """Ten steps: lower, and nearly least. T = ∞: the same value, a smaller variance."""
    ten = {name: mean(nats) for name, nats in found.ten.items()}
    one, other = found.infinite[LINE], found.infinite["for T = ∞"]
    moved = max(
        abs(mean(one) - mean(each)) / math.hypot(standard_error(one), standard_error(each))
        for each in found.infinite.values()
    )
    ratio, best = ten["for ten steps"] / ten[LINE], standard_error(found.ten["for ten steps"])
    return (
        below("L_10 with γ learned for ten steps, over that of linear γ", ratio, 0.8, best / ten[LINE]),
        below(
            "the same over the least L_10 of all schedules",
            ten["for ten steps"] / found.least,
            1.05,
            best / found.least,
        ),
        below("L_∞ moved by learning γ, for ten steps or for ∞, most, in standard errors", moved, 3),
        below("variance of a draw of L_∞, learned over linear", float(other.var() / one.var()), 0.9),
    )


def draw(found: Found, figure: Figure) -> None:
    """Three curves, the Riemann sums of ten steps, and the figures."""
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.35, 1])
    figure.set_size_inches(10.2, 3.8)
    time = torch.linspace(0, 1, 201)
    for name, curve in found.curves.items():
        left.plot(time, curve, color=COLOURS[name], label=name if name == LINE else f"learned {name}")
    left.set(xlabel="t", ylabel="γ = −log SNR", title="three schedules")
    left.legend(loc="upper left")
    middle.fill_between(found.gamma, 0.5 * found.error, color=style.ink(), alpha=0.2)
    middle.plot(found.gamma, 0.5 * found.error, color=style.ink(), label="½ E|ε − ε̂|², area L_∞")
    for name in (LINE, "for ten steps"):
        knots, width = found.knots[name], found.knots[name].diff()
        error = torch.stack([found.error[(found.gamma - knot).abs().argmin()] for knot in knots[1:]])
        label = f"ten steps, {'linear γ' if name == LINE else 'learned γ'}"
        middle.stairs(0.5 * error * torch.expm1(width) / width, knots, color=COLOURS[name], linewidth=1.4, label=label)
    middle.set(xlabel="γ", ylabel="nats per unit of γ", title="ten steps are an upper sum")
    middle.legend(loc="upper right")
    bars = [("L$_{10}$", name, nats) for name, nats in found.ten.items()]
    bars += [("L$_∞$", name, found.infinite[name]) for name in (LINE, "for T = ∞")]
    for i, (_, name, nats) in enumerate(bars):
        right.barh(i, mean(nats), color=COLOURS[name], alpha=0.75, xerr=3 * standard_error(nats), ecolor=style.ink())
        place = (mean(nats) + 3 * standard_error(nats), i)
        right.annotate(f"{mean(nats):.2f}", place, (5, 0), textcoords="offset points", va="center")
    words = [f"{what}, {'linear γ' if name == LINE else 'γ learned'}" for what, name, _ in bars]
    under = [f"variance {float(nats.var()):.0f}" if what == "L$_∞$" else name for what, name, nats in bars]
    under[0] = "ten equal steps"
    right.set_yticks(range(len(bars)), [f"{first}\n{second}" for first, second in zip(words, under, strict=True)])
    right.plot([found.least] * 2, [-0.6, 2.5], ":", color=style.ink(), linewidth=1.2, label="least of ten steps")
    right.set(xlabel="nats, ± 3 standard errors", ylim=(5.2, -0.6), xlim=(0, 1.3 * max(mean(n) for _, _, n in bars)))
    right.set_title("L_10 falls, L_∞ does not move")
    right.legend(loc="lower right")


EXHIBIT = Exhibit("VDM, sections 4.2, 5.1–5.2, app. I", ("V9a", "V9b", "V4", "V7"), measure, checks, draw, learn)
