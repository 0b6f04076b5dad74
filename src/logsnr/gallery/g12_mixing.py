"""Mixing: plain Langevin dynamics cannot weigh separated modes, annealed Langevin dynamics can.

Around a mode, ∇log p does not know how much of the mass is there: the score of w p₁ + (1 − w) p₂ is that of p₁ alone
wherever p₂ vanishes. So a chain that starts anywhere falls into the nearer mode and stays: of a mixture 1/5 : 4/5 it
makes halves, and more steps do not help. "Langevin dynamics samples from p" holds only after a time that grows as the
exponential of the barrier.

With enough noise added the modes overlap and the score knows the weights. Annealed Langevin dynamics lets the points
settle there first, then lowers the noise: at the same number of evaluations the shares come out right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import samplers
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, style

HEAVY = 0.8
CENTRES = torch.tensor([[-5.0, -5.0], [5.0, 5.0]]).double()
LAW, HALVES = (logsnr.mixture(torch.tensor([1 - heavy, heavy]), CENTRES, 1.0) for heavy in (HEAVY, 0.5))
PATH = logsnr.Path(logsnr.geometric(0.5, 20.0), logsnr.ve)
LEVELS, STEPS, RELATIVE = 10, 100, 0.1  # noise levels, steps at each, ε/σ² of a step


def plain(start: Tensor, noise: samplers.Noise) -> list[Tensor]:
    """Langevin dynamics with the exact score of the data: the states after every `STEPS` of its steps."""
    one, zero, x, states = torch.ones(()), torch.zeros(()), start, [start]
    for step in range(LEVELS * STEPS):
        x, _ = samplers.langevin_step(x, LAW.score(x, one, zero), torch.tensor(RELATIVE), noise(step, "plain"))
        states += [x] if (step + 1) % STEPS == 0 else []
    return states


def annealed(start: Tensor, noise: samplers.Noise) -> list[Tensor]:
    """The same number of steps spread over levels of falling noise: the states after every level but the first."""
    sampler = logsnr.AnnealedLangevin(PATH, STEPS, RELATIVE * float(PATH.lowest.sigma) ** 2)
    grid = PATH.grid(LEVELS - 1, end="lowest")
    return [start, *(step.x for step in logsnr.simulate(sampler, logsnr.Oracle(LAW), start, grid, noise=noise))]


def in_heavy(x: Tensor) -> Tensor:
    """Which points (N, 2) are nearer to the heavy mode."""
    return x.sum(1) > 0


def blindness(sigma: float, count: int, seed: int) -> float:
    """Root mean square difference of the scores of 1/5 : 4/5 and 1/2 : 1/2, noisy data, relative to the score's."""
    one, std = torch.ones(()), torch.tensor(sigma).double()
    x = LAW.sample(count, seed) + std * logsnr.Draws(seed, 0, torch.arange(count), count).normal(
        "blind", CENTRES[0].expand(count, 2)
    )
    true, half = LAW.score(x, one, std), HALVES.score(x, one, std)
    return float(((true - half) ** 2).mean().sqrt() / (true**2).mean().sqrt())


@dataclass(frozen=True)
class Found:
    """plain, annealed: states (N, 2) along the chains, from one start. blind: `blindness` without and with noise."""

    plain: list[Tensor]
    annealed: list[Tensor]
    blind: tuple[float, float]

    def share(self, states: Tensor) -> tuple[float, float]:
        """The part of the points in the heavy mode, and its standard error."""
        share = float(in_heavy(states).double().mean())
        return share, (share * (1 - share) / len(states)) ** 0.5


def measure(setting: Setting) -> Found:
    """Both chains from the prior N(0, 20²), which favours neither mode."""
    count = setting.of(4000, 1500)
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, 2, dtype=torch.float64))
    start = logsnr.prior(PATH, noise)
    blind = blindness(0.0, count, setting.seed), blindness(8.0, count, setting.seed)
    return Found(plain(start, noise), annealed(start, noise), blind)


def checks(found: Found) -> tuple[Check, ...]:
    """Shares of the heavy mode, whose truth is 4/5, and why."""
    moved = in_heavy(found.plain[1]) != in_heavy(found.plain[-1])
    share, error = found.share(found.annealed[-1])
    halves, of_halves = found.share(found.plain[-1])
    return (
        between("share of the heavy mode, annealed Langevin, truth 0.8", share, 0.75, 0.85, error),
        between("share of the heavy mode, plain Langevin, same steps", halves, 0.45, 0.55, of_halves),
        below("points that change mode in the last 900 of 1000 plain steps, share", float(moved.double().mean()), 1e-3),
        below("score of 1/5 : 4/5 less that of 1/2 : 1/2, relative, at the data", found.blind[0], 1e-6),
        above("the same under noise of σ = 8", found.blind[1], 0.1),
    )


def draw(found: Found, figure: Figure) -> None:
    """Where the points end, and the share of the heavy mode on the way."""
    figure.set_size_inches(9.2, 3.6)
    *clouds, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
    for axes, states, name in zip(clouds, (found.plain, found.annealed), ("plain", "annealed"), strict=True):
        points, heavy = states[-1][:1500], in_heavy(states[-1][:1500])
        for chosen, colour in ((heavy, "C0"), (~heavy, "C1")):
            axes.plot(*points[chosen].T.numpy(), ".", markersize=2, alpha=0.7, color=colour)
        share = found.share(states[-1])[0]
        axes.text(-0.5, -6, f"{1 - share:.0%}\n(truth 20%)", color="C1")
        axes.text(-6.5, 4.5, f"{share:.0%}\n(truth 80%)", color="C0")
        axes.set(xlim=(-9.5, 9.5), ylim=(-9.5, 9.5), aspect="equal", title=f"{name} Langevin", xlabel="x₁")
        axes.set(xticks=(-5, 0, 5), yticks=(-5, 0, 5))
    clouds[0].set_ylabel("x₂")
    right.axhline(HEAVY, color=style.ink(), linestyle="--", linewidth=1)
    right.text(1000, HEAVY + 0.01, "truth", ha="right")
    for states, name, colour in ((found.plain, "plain", "C3"), (found.annealed, "annealed", "C2")):
        times = [0, *range(1000 - STEPS * (len(states) - 2), 1001, STEPS)]
        right.plot(times, [found.share(state)[0] for state in states], "o-", color=colour)
        right.text(1000, found.share(states[-1])[0] - 0.03, name, color=colour, ha="right", va="top")
    for place, sigma in zip(range(200, 1001, 200), PATH.grid(LEVELS - 1, end="lowest").sigma[1::2], strict=True):
        right.text(place, 0.405, f"{float(sigma):.2g}", ha="center", color="C2", fontsize=8.5)
    right.text(60, 0.405, "σ =", ha="center", color="C2", fontsize=8.5)
    right.set(xlabel="evaluations of the score", ylabel="share of the heavy mode", ylim=(0.39, 0.87))
    right.set(title="weights are found while modes overlap", xticks=range(0, 1001, 200))


EXHIBIT = Exhibit("NCSN, §3.2.2 and fig. 3", ("N0", "N3", "N4"), measure, checks, draw, annealed)
