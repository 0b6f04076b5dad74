"""Data on a manifold have no score: noise of several sizes gives one, and leads to the manifold.

A circle in the plane has no density, so the Fisher divergence has no target. The field −g (|x| − 1) x/|x| vanishes on
the circle, and its sliced objective there is −g: the steeper the better, without end. With noise σ on the data there is
a minimum, near g = 1/σ². A note that calls noise a trick of regularisation misses that nothing is defined without it.

One size of noise is not enough either, as a network knows the score only where it has seen data. Two small networks are
trained here in the same number of steps: one by sliced matching on the circle itself, whose Langevin dynamics ends off
the circle; and an NCSN for ten sizes of noise, from σ = 2, the largest distance in the data, down to σ = 0.05, which
ends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import denoiser, nets, objectives, prediction, samplers, schedules
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, near, standard_error, style

GAINS, SIGMA = (1.0, 10.0, 100.0, 1000.0), 0.1
LOWEST, LEVELS, STEPS, RELATIVE = 0.05, 10, 20, 0.3  # of the NCSN: σ_min, levels, steps at each, ε/σ²
PATH = logsnr.Path(schedules.sigma_table(LOWEST, 2.0, LEVELS), logsnr.ve)
BATCH = 256


def circle(draws: logsnr.Draws) -> Tensor:
    """Points (B, 2) of the unit circle."""
    angle = 2 * torch.pi * draws.uniform("angle")
    return torch.stack([angle.cos(), angle.sin()], 1)


def slices(gain: float, x: Tensor, draws: logsnr.Draws) -> tuple[Tensor, Tensor]:
    """The two terms (N,) of the sliced objective for the field −gain (|x| − 1) x/|x|: it needs samples, no density."""

    def field(x: Tensor) -> Tensor:
        radius = x.norm(dim=1, keepdim=True)
        return -gain * (radius - 1) * x / radius

    directions = draws.normal("projection", x).sign().unsqueeze(0)
    with torch.no_grad():
        return objectives.sliced_score_matching(field, x, directions)  # vᵀ∇(vᵀs) and ½|s|²


def descended(network: torch.nn.Module, loss: Callable[[logsnr.Draws], Tensor], steps: int, seed: int) -> None:
    """Adam on the loss of a fresh batch at every step."""
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(steps):
        optimiser.zero_grad()
        loss(logsnr.Draws(seed, step, torch.arange(BATCH), BATCH)).backward()
        optimiser.step()


def noiseless(steps: int, seed: int) -> Callable[[Tensor], Tensor]:
    """A network's score after sliced matching on the circle without noise."""
    network = nets.MLP((2,), width=64, blocks=2)

    def score(x: Tensor) -> Tensor:
        answer: Tensor = network(x, torch.zeros(len(x)))
        return answer

    def loss(draws: logsnr.Draws) -> Tensor:
        x = circle(draws).float()
        terms = objectives.sliced_score_matching(score, x, draws.normal("projection", x).sign().unsqueeze(0))
        return (terms.trace + terms.norm).mean()

    descended(network, loss, steps, seed)
    return score


def ncsn(steps: int, seed: int) -> denoiser.Denoiser:
    """A noise-conditional network after denoising score matching at every level."""
    target, label = prediction.TARGETS["scaled_score"], denoiser.LABELS["log_sigma"]
    network = nets.MLP((2,), width=64, blocks=2)
    model = denoiser.Denoiser(network, PATH, target, label=label, inputs=denoiser.INPUTS["unit_power"])
    matching = logsnr.Matching(PATH, objectives.WEIGHTS["simple"], logsnr.Uniform(PATH.schedule))
    descended(model, lambda draws: matching(model, circle(draws).float(), draws).total.mean(), steps, seed)
    return model


@dataclass(frozen=True)
class Found:
    """bare, error: the objective without noise for each of GAINS, and the standard error of the last.

    curve, noisy: gains, and the objective with noise there. least: the gain of its minimum. langevin, annealed: where
    the chains of the network without noise and of the NCSN end, (N, 2).
    """

    bare: Tensor
    error: float
    curve: Tensor
    noisy: Tensor
    least: float
    langevin: Tensor
    annealed: Tensor


def chains(setting: Setting) -> tuple[Tensor, Tensor]:
    """Both networks, trained in as many steps, and the ends of their chains from N(0, 4 I), of equal length."""
    count, steps = setting.of(1000, 500), setting.of(1000, 200)
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        score, model = noiseless(steps, setting.seed), ncsn(steps, setting.seed)
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, 2))
    x = start = logsnr.prior(PATH, noise)
    size = torch.tensor(RELATIVE * LOWEST**2)
    with torch.no_grad():
        for step in range(LEVELS * STEPS):
            x, _ = samplers.langevin_step(x, score(x), size, noise(step, "plain"))
        sampler, grid = logsnr.AnnealedLangevin(PATH, STEPS, float(size)), PATH.grid(LEVELS - 1, end="lowest")
        *_, last = logsnr.simulate(sampler, model, start, grid, noise=noise)
    return x, last.x


def measure(setting: Setting) -> Found:
    """The objective for fields of growing gain, without and with noise on the data; and two networks."""
    count = setting.of(20_000, 5000)
    draws = setting.draws(count)
    x = circle(draws)
    perturbed = x + SIGMA * draws.normal("eps", x)
    bare = torch.stack([torch.stack(slices(gain, x, draws)).sum(0) for gain in GAINS])
    curve = torch.logspace(0, 3, 31)
    noisy = torch.stack([torch.stack(slices(float(gain), perturbed, draws)).sum(0).mean() for gain in curve])
    trace, norm = (float(term.mean()) for term in slices(1.0, perturbed, draws))  # the objective is g trace + g² norm
    return Found(bare.mean(1), standard_error(bare[-1]), curve, noisy, -trace / (2 * norm), *chains(setting))


def off(x: Tensor) -> Tensor:
    """Distances (N,) from the circle."""
    return (x.norm(dim=1) - 1).abs()


def checks(found: Found) -> tuple[Check, ...]:
    """No minimum without noise, one with it; distances from the circle."""
    return (
        below("NCSN: median distance from the circle, 2 σ_min = 0.1", float(off(found.annealed).median()), 2 * LOWEST),
        above("Langevin without noise in training: the same", float(off(found.langevin).median()), 2 * LOWEST),
        near("sliced objective at gain 1000, no noise", float(found.bare[-1]), -GAINS[-1], found.error),
        above("tenfold gains that lower it, of 3", float((found.bare.diff() < 0).sum()), 3),
        between("gain of the least objective with noise σ = 0.1, 1/σ² = 100", found.least, 90, 110),
    )


def draw(found: Found, figure: Figure) -> None:
    """The objective against the gain; where two chains end, beside the circle."""
    figure.set_size_inches(9.2, 3.6)
    left, *clouds = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    left.plot(GAINS, found.bare, "o-", color="C1")
    left.text(50, -500, "no noise:\nno minimum", color="C1", ha="right", va="center")
    left.plot(found.curve, found.noisy, color="C0")
    left.text(2, 5, "noise σ = 0.1:\na minimum", color="C0")
    left.axvline(1 / SIGMA**2, color=style.ink(), linestyle="--", linewidth=1)
    left.text(90, 2000, "1/σ²", ha="right")
    left.set(xscale="log", xlabel="gain of the field towards the circle", ylabel="sliced objective")
    left.set_yscale("symlog", linthresh=1)
    left.set(ylim=(-3000, 10_000), title="matching without and with noise")
    angle = torch.linspace(0, 2 * torch.pi, 200)
    for axes, points, colour, name in (
        (clouds[0], found.langevin, "C1", "trained without noise"),
        (clouds[1], found.annealed, "C0", "NCSN, ten sizes of noise"),
    ):
        axes.plot(angle.cos(), angle.sin(), color=style.ink(), linewidth=1, zorder=3)
        axes.plot(*points.T.numpy(), ".", markersize=2.5, alpha=0.7, color=colour)
        axes.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal", title=name, xlabel="x₁", xticks=range(-2, 3))
        axes.set(yticks=range(-2, 3))
    clouds[0].set_ylabel("x₂")


EXHIBIT = Exhibit(
    "NCSN, §3.1–3.2; sliced score matching, eq. 9", ("N0", "N1", "N4", "N5"), measure, checks, draw, slices
)
