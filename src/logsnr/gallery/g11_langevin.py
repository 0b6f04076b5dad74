"""Langevin dynamics needs its noise, and a small step or a Metropolis test.

x ← x + ε ∇log p(x) + √(2ε) z draws from p. Where a note leaves out the noise, what remains is gradient ascent: every
point climbs to the top of its mode, and the spread there goes to 0.

With the noise the spread is right but for the step size, since a finite step ε does not keep p: in a mode of variance 1
the chain settles at 1/(1 − ε/2). The bias falls with ε, and is gone at any ε if each step may be refused by the test of
Metropolis (MALA), which costs the density beside the score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import samplers
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, style

CENTRES = 6 * torch.tensor([[0.0, 1.0], [-(0.75**0.5), -0.5], [0.75**0.5, -0.5]]).double()
LAW = logsnr.mixture(torch.tensor([0.3, 0.3, 0.4]), CENTRES, 1.0)
ONE, ZERO = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
SMALL = 0.02  # ε of the two chains in the plane
SIZES = (0.1, 0.2, 0.4, 0.8)  # ε of the chains whose variances are compared
SETTLED, STILL = 10.0, 20.0  # Langevin time until the law, and until rest


def langevin(x: Tensor, step_size: float, time: float, seed: int, kind: str) -> Tensor:
    """x after time/ε steps of the law's Langevin dynamics; kind: "noise", "no noise", "Metropolis"."""
    size = torch.tensor(step_size, dtype=torch.float64)
    for step in range(math.ceil(time / step_size)):
        draws = logsnr.Draws(seed, step, torch.arange(len(x)), len(x))
        z = torch.zeros_like(x) if kind == "no noise" else draws.normal("z", x)
        if kind == "Metropolis":
            x, _ = samplers.metropolis_step(x, log_prob, score, size, z, draws.uniform("accept"))
        else:
            x, _ = samplers.langevin_step(x, score(x), size, z)
    return x


def score(x: Tensor) -> Tensor:
    """∇log p(x)."""
    return LAW.score(x, ONE, ZERO)


def log_prob(x: Tensor) -> Tensor:
    """log p(x)."""
    return LAW.log_prob(x, ONE, ZERO)


def spread(x: Tensor) -> float:
    """The variance of a coordinate within a mode, whose points are those nearest to its centre."""
    nearest = torch.cdist(x, CENTRES).argmin(1)
    groups = [x[nearest == k] for k in range(len(CENTRES))]
    return sum(float(((group - group.mean(0)) ** 2).sum()) for group in groups) / (2 * (len(x) - len(CENTRES)))


@dataclass(frozen=True)
class Found:
    """start, silent, noisy: points (N, 2) of the chains, and their ends without and with noise.

    plain, adjusted: the variance for each ε. count: points of the chains whose variances are compared.
    """

    start: Tensor
    silent: Tensor
    noisy: Tensor
    plain: Tensor
    adjusted: Tensor
    count: int

    @property
    def error(self) -> float:
        """The standard error of a variance 1 within the modes of `count` points in the plane."""
        return self.count**-0.5


def measure(setting: Setting) -> Found:
    """Chains from one wide start: without noise, with noise, and at four step sizes without and with the test."""
    count = setting.of(20_000, 5000)
    start = 4 * setting.draws(count, step=10**6).normal("start", torch.empty(count, 2, dtype=torch.float64))
    silent = langevin(start[:1000], SMALL, STILL, setting.seed, "no noise")
    noisy = langevin(start, SMALL, SETTLED, setting.seed, "noise")
    plain, adjusted = (
        torch.tensor([spread(langevin(start, size, SETTLED, setting.seed, kind)) for size in SIZES])
        for kind in ("noise", "Metropolis")
    )
    return Found(start, silent, noisy, plain, adjusted, count)


def biased(step_size: Tensor) -> Tensor:
    """The stationary variance of plain Langevin dynamics where the score is −x."""
    return 1 / (1 - step_size / 2)


def checks(found: Found) -> tuple[Check, ...]:
    """Spread within a mode, whose truth is 1."""
    sizes, error = torch.tensor(SIZES), found.error
    closed = biased(sizes)
    return (
        below("variance within a mode without noise", spread(found.silent), 1e-10),
        between(f"variance within a mode with noise, ε = {SMALL}", spread(found.noisy), 0.95, 1.05, error),
        above("halvings of ε that lower the bias, of 3", float((found.plain.diff() > 0).sum()), 3),
        above("bias at ε = 0.8 over that at ε = 0.1", float((found.plain[-1] - 1) / (found.plain[0] - 1)), 4),
        below(
            "plain variance from 1/(1 − ε/2), most, in standard errors",
            float(((found.plain - closed) / (closed * error)).abs().max()),
            4,
        ),
        below(
            "variance with the Metropolis test from 1, most over ε, in standard errors",
            float((found.adjusted - 1).abs().max()) / error,
            4,
        ),
        above(f"the same without it at ε = {SIZES[1]}", float(found.plain[1] - 1) / error, 4),
    )


def draw(found: Found, figure: Figure) -> None:
    """Two clouds and the contours of the density; variance against step size."""
    figure.set_size_inches(9, 3.6)
    silent, noisy, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    axis = torch.linspace(-10, 10, 161, dtype=torch.float64)
    density = log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(161, 161).T
    silent.plot(*found.start[:600].T.numpy(), ".", markersize=2, color="C6")
    silent.plot(*found.silent.T.numpy(), ".", markersize=9, color="C1")
    noisy.plot(*found.noisy[:4000].T.numpy(), ".", markersize=1.5, alpha=0.6, color="C0")
    for axes, title in ((silent, "no noise: all grey points end on three"), (noisy, "with noise: the law")):
        axes.contour(axis, axis, density, levels=3, colors=style.ink(), linewidths=0.8, zorder=3)
        axes.set(xlim=(-9, 9), ylim=(-7, 10), aspect="equal", title=title, xlabel="x₁", xticks=(-5, 0, 5))
        axes.set(yticks=(-5, 0, 5, 10))
    silent.set_ylabel("x₂")
    line = torch.linspace(0.08, 0.95, 200)
    right.plot(line, biased(line), color="C0", linewidth=1, label="1/(1 − ε/2)")
    for values, colour, marker, text in (
        (found.plain, "C0", "o", "plain Langevin"),
        (found.adjusted, "C2", "s", "with Metropolis test"),
    ):
        right.errorbar(SIZES, values, 2 * found.error * values, fmt=marker, color=colour, label=text)
    right.axhline(1, color=style.ink(), linewidth=1, linestyle="--", label="truth")
    right.set(xscale="log", xlabel="step size ε", ylabel="variance within a mode", ylim=(0.85, 2.1))
    right.set(title="a finite step has a bias", xticks=SIZES, xticklabels=SIZES)
    right.minorticks_off()
    right.legend(loc="upper left")


EXHIBIT = Exhibit("NCSN, eq. 4; Roberts and Tweedie 1996", ("N3",), measure, checks, draw, langevin)
