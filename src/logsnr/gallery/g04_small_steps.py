"""Small β makes the reverse Gaussian; large β does not.

q(x_{t−1} | x_t, x_0) is a normal by Bayes' rule with three Gaussians. But a model has to learn q(x_{t−1} | x_t), a
mixture of these over all x_0 that may have led to x_t. For data at two points its distance to the best normal
falls with the third power of β, so that a chain of many small steps may be modelled by normals.

Notes that call q(x_{t−1} | x_t) itself normal are refuted at β = 0.9, where it has two humps. The variance of the best
normal depends on the data: β_t is optimal for x_0 ~ N(0, I), β̃_t for a single point, and each is wrong for the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, kernels
from logsnr.gallery import Check, Exhibit, Setting, above, below, style

BELOW, STEPS = 0.8, (0.9, 0.1, 0.01, 0.001)  # ᾱ_{t−1}, and β_t
ONE, ZERO = torch.tensor(1.0), torch.tensor(0.0)
SHOWN = 0.2  # the x_t whose reverse law is drawn


def off_normal(x: float, t: logsnr.Level, s: logsnr.Level, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL in nats of q(x_s | x_t = x) to its best normal, for data at ±1; and both densities at mean + std · z."""
    x0 = torch.tensor([[-1.0], [1.0]]).double()
    x_t = torch.full_like(x0, x)
    share = logsnr.Normal(t.alpha * x0, 2 * t.log_sigma).log_prob(x_t).softmax(0)  # p(x0 | x_t)
    each = kernels.posterior(x_t, x0, t, s)  # q(x_s | x_t, x0) is normal
    true = logsnr.mixture(share, each.mean, each.log_var.exp())  # q(x_s | x_t) is a mixture of two

    mean = share @ each.mean
    variance = each.log_var.exp() + share.prod() * each.mean.diff(dim=0).squeeze(0) ** 2
    best = logsnr.gaussian(mean, variance)
    log_p, log_n = (law.log_prob((mean + variance.sqrt() * z).unsqueeze(1), ONE, ZERO) for law in (true, best))
    ratio = log_p - log_n  # ∫ n (r log r − r + 1), r = p/n: no term is negative, so none cancels
    nats = variance.sqrt() * torch.trapezoid(log_n.exp() * (ratio.exp() * ratio - torch.expm1(ratio)), z)
    return nats.squeeze(), variance.sqrt() * log_p.exp(), variance.sqrt() * log_n.exp()


@dataclass(frozen=True)
class Found:
    """By β of STEPS: mean and centre, nats, over x_t and at x_t = 0; shapes, the two densities at x_t = SHOWN.

    optimal: largest relative distance of the best Σ from β_t and β̃_t of DDPM's table. positions: of Σ between
    log β̃ = 0 and log β = 1 at t = 2; costs: KL in nats there, by the variance of the data.
    """

    mean: tuple[float, ...]
    centre: tuple[float, ...]
    z: Tensor
    shapes: tuple[tuple[Tensor, Tensor], ...]
    optimal: dict[str, float]
    positions: Tensor
    costs: dict[float, Tensor]


def at_alpha_bar(alpha_bar: float) -> logsnr.Level:
    """The VP level of that ᾱ."""
    path = logsnr.Path(logsnr.Linear(-20, 20), logsnr.vp)
    return path.at_gamma(torch.tensor(math.log1p(-alpha_bar) - math.log(alpha_bar)).double())


def of_steps(z: Tensor, places: Tensor) -> list[tuple[float, float, tuple[Tensor, Tensor]]]:
    """For each β the mean over x_t, on a grid of x_t, the value at x_t = 0, and the densities at x_t = SHOWN."""
    found, s, law = [], at_alpha_bar(BELOW), logsnr.finite(torch.tensor([[-1.0], [1.0]]).double())
    for beta in STEPS:
        t = at_alpha_bar(BELOW * (1 - beta))
        nats = torch.stack([off_normal(float(x), t, s, z)[0] for x in places])
        density = law.log_prob(places.unsqueeze(1), t.alpha, t.sigma).exp()
        _, *shapes = off_normal(SHOWN, t, s, z)
        mean = float(torch.trapezoid(density * nats, places))
        found.append((mean, float(off_normal(0.0, t, s, z)[0]), (shapes[0], shapes[1])))
    return found


def best_variance(variance: float, t: logsnr.Level, s: logsnr.Level) -> Tensor:
    """Var(x_s | x_t) for x_0 of that variance: by Bayes' rule precisions add, 1/Var(x_s) + α²_{t|s}/σ²_{t|s}."""
    ahead = torch.exp(2 * (t.log_alpha - s.log_alpha) - kernels.transition_log_var(t, s))
    return 1 / (1 / (s.alpha**2 * variance + s.sigma**2) + ahead)


def measure(setting: Setting) -> Found:
    """Integrals on grids; nothing is random here."""
    z, places = torch.linspace(-12, 12, 2401).double(), torch.linspace(-5, 5, setting.of(401, 101)).double()
    mean, centre, shapes = zip(*of_steps(z, places), strict=True)

    beta, alpha_bar = betas.linear(1000), (1 - betas.linear(1000)).cumprod(0)
    path = logsnr.Path(logsnr.table_of_betas(beta), logsnr.vp)
    t, s = (path.at(torch.arange(first, first + 999).double() / 1000) for first in (2, 1))
    small = beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])
    optimal = {
        "N(0, I), β_t": float((best_variance(1.0, t, s) / beta[1:] - 1).abs().max()),
        "a point, β̃_t": float((best_variance(0.0, t, s) / small - 1).abs().max()),
    }
    positions = torch.linspace(-0.5, 1.5, 201).double()
    log_var = small[0].log() + positions * (beta[1] / small[0]).log()
    costs, same_mean = {}, torch.zeros(len(log_var), 1).double()
    for variance in (0.0, 1.0):
        true = logsnr.Normal(same_mean, best_variance(variance, t[0], s[0]).log().expand(len(log_var), 1))
        costs[variance] = true.kl(logsnr.Normal(same_mean, log_var.unsqueeze(1)))
    return Found(mean, centre, z, shapes, optimal, positions, costs)


def checks(found: Found) -> tuple[Check, ...]:
    """Falls of at least 100-fold a decade; two optimal variances; the large step that is no normal."""
    falls = [
        above(f"fall of the KL, {where}, from β = {STEPS[i]} to {STEPS[i + 1]}", nats[i] / nats[i + 1], 100)
        for where, nats in (("mean over x_t", found.mean), ("at x_t = 0", found.centre))
        for i in (1, 2)
    ]
    optimal = [
        below(f"optimal Σ for {what}, largest relative distance", off, 1e-12) for what, off in found.optimal.items()
    ]
    own, other = ((found.positions - place).abs().argmin() for place in (0.0, 1.0))
    return (
        *falls,
        *optimal,
        above("a point's Σ for N(0, I), the step's KL in nats", float(found.costs[1.0][own]), 0.05),
        above("N(0, I)'s Σ for a point, the step's KL in nats", float(found.costs[0.0][other]), 0.05),
        above(f"KL at β = {STEPS[0]}, nats: not a normal", found.mean[0], 0.1),
    )


def draw(found: Found, figure: Figure) -> None:
    """True reverse laws beside their best normals; the distance against β; the step's KL against its variance."""
    panels = figure.subplot_mosaic([[str(i), "fall", "best"] for i in range(3)], width_ratios=[1, 1.15, 1.15])
    for i in range(3):
        axes, (true, normal) = panels[str(i)], found.shapes[i]
        axes.fill_between(found.z, true, color=style.ink(), alpha=0.2, lw=0)
        axes.plot(found.z, true, color=style.ink())
        axes.plot(found.z, normal, "--", color="C1")
        axes.text(-3.4, 0.4, f"β = {STEPS[i]:g}")
        axes.set(xlim=(-3.5, 3.5), ylim=(0, 0.56), yticks=[], xticks=[-2, 0, 2] if i == 2 else [])
    panels["0"].set_title(f"q(x$_{{t−1}}$ | x$_t$ = {SHOWN}), and a normal", color=style.ink())
    panels["0"].text(3.4, 0.4, "normal", color="C1", ha="right")
    panels["2"].set_xlabel("in standard deviations")
    fall = panels["fall"]
    bar = [found.centre[1] * (beta / STEPS[1]) ** 2 for beta in STEPS[1:]]
    fall.loglog(STEPS[1:], bar, ":", color="C6", label="100-fold a decade")
    fall.loglog(STEPS, found.centre, "o-", color="C2", label="at x$_t$ = 0, falls with β$^4$")
    fall.loglog(STEPS, found.mean, "o-", color="C0", label="mean over x$_t$, with β$^3$")
    fall.set(xlabel="β$_t$", ylim=(1e-11, 2), title="KL to the best normal, nats")
    fall.legend(loc="lower right")
    best = panels["best"]
    for variance, colour, text, at in ((0.0, "C3", "one point", (-0.2, 0.09)), (1.0, "C4", "N(0, I)", (1.05, 0.045))):
        best.plot(found.positions, found.costs[variance], color=colour)
        best.plot([variance], [0], "o", color=colour, clip_on=False, ms=6)
        best.text(*at, f"best for\n{text}", color=colour, ha="center")
    best.set(
        ylim=(0, 0.45),
        xticks=[0, 1],
        xticklabels=[r"$\tilde{\beta}_t$", r"$\beta_t$"],
        title="KL lost by another Σ, nats",
    )
    best.set_xlabel("variance Σ of the step, log scale")


EXHIBIT = Exhibit("DDPM, sections 2 and 3.2", ("D6", "F4", "D4"), measure, checks, draw, off_normal)
