"""Right mean, wrong mean: DDIM is not DDPM with its noise left out.

DDPM's step makes room for the noise that it is about to add: of the noise in x_t its mean keeps √(σ_s² − β̃_t). Leave
the noise out and the room stays empty, step after step, until the samples have collapsed.

"DDIM keeps DDPM's mean and drops the noise" is therefore wrong. DDIM's mean depends on its σ: at σ = 0 it keeps all of
σ_s, given x_0 every marginal stays what it was, and nothing has to be drawn. Exact denoisers, so no network is to
blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, kernels, samplers
from logsnr.gallery import Check, Exhibit, Setting, below, between, near, style

STD = 0.5
GAUSSIAN = logsnr.gaussian(torch.zeros(1), STD**2)
SPIRAL = logsnr.data.TOYS["spiral"]()
PATH = logsnr.Path(logsnr.table_of_betas(betas.linear(1000)), logsnr.vp)
WAYS = ("DDPM", "DDIM", "DDPM's mean alone")


def without_noise(model: logsnr.Oracle, x: Tensor, t: logsnr.Level, s: logsnr.Level) -> dict[str, Tensor]:
    """Two steps from t to s that draw nothing: the wrong one and the right one."""
    guess = model(x, t)
    room = kernels.posterior_log_var(t, s).exp()  # β̃, the variance of the noise that DDPM would add
    return {
        "DDPM's mean alone": s.alpha * guess.x0 + (s.sigma**2 - room).sqrt() * guess.eps,
        "DDIM": s.alpha * guess.x0 + s.sigma * guess.eps,
    }


@dataclass(frozen=True)
class Found:
    """t: (S + 1,) times of the chain. marginal, exact: standard deviation at each, as it should be and by way.

    last: samples x̂0 at its end, by way, (N, 1).
    spiral: samples of the spiral, by way, and of the data.
    """

    t: Tensor
    marginal: Tensor
    exact: dict[str, Tensor]
    last: dict[str, Tensor]
    spiral: dict[str, Tensor]


def exact_deviations(levels: logsnr.Level) -> dict[str, Tensor]:
    """Of Gaussian data every step is linear in x, so that a standard deviation walks the chain like an x."""
    model, walks = logsnr.Oracle(GAUSSIAN), {way: [torch.ones(1, 1).double()] for way in WAYS}
    for t, s in pairwise(levels):
        for way, walked in walks.items():
            x = walked[-1]
            if s.is_clean:
                after = model(x, t).x0
            elif way == "DDPM":
                room = kernels.posterior_log_var(t, s).exp()
                after = (without_noise(model, x, t, s)["DDPM's mean alone"] ** 2 + room).sqrt()
            else:
                after = without_noise(model, x, t, s)[way]
            walked.append(after)
    return {way: torch.cat(walked).flatten() for way, walked in walks.items()}


def sampled(law: logsnr.Mixture, count: int, steps: int, seed: int) -> dict[str, Tensor]:
    """Ends of the library's chains from one x_T, by way; "DDPM's mean alone" is its sampler with noise of zeros."""
    like = torch.empty(count, *law.shape, dtype=torch.float64)
    noise = logsnr.seeded(seed, torch.arange(count), like)
    start, ends = logsnr.prior(PATH, noise), {}
    for way in WAYS:
        sampler = samplers.DDIM() if way == "DDIM" else samplers.Ancestral("small")
        drawn = noise if way == "DDPM" else lambda step, draw: torch.zeros_like(like)
        *_, last = logsnr.simulate(sampler, logsnr.Oracle(law), start, PATH.grid(steps), noise=drawn)
        ends[way] = last.x
    return ends


def measure(setting: Setting) -> Found:
    """Exact and sampled standard deviations of N(0, 0.25) along DDPM's chain; a spiral for the eye."""
    levels, count = PATH.grid(setting.of(1000, 500)), setting.of(800, 200)
    marginal = (levels.alpha**2 * STD**2 + levels.sigma**2).sqrt()
    spiral = {"data": SPIRAL.sample(count, setting.seed), **sampled(SPIRAL, count, setting.of(100, 40), setting.seed)}
    last = sampled(GAUSSIAN, setting.of(20_000, 2_000), len(levels) - 1, setting.seed)
    return Found(levels.t, marginal, exact_deviations(levels), last, spiral)


def checks(found: Found) -> tuple[Check, ...]:
    """One collapses, two have the data's standard deviation within 2 %; the samplers do what the formulas say."""
    wrong, error = WAYS[2], (2 * len(found.last["DDPM"])) ** -0.5
    spread = {way: float(x.var(0).sum().sqrt()) for way, x in found.spiral.items()}
    exact = {way: float(walked[-1]) for way, walked in found.exact.items()}
    return (
        below(f"standard deviation of samples, {wrong}, truth {STD}", float(found.last[wrong].std()), 0.01),
        between("standard deviation, DDIM, exact", exact["DDIM"], 0.98 * STD, 1.02 * STD),
        between("standard deviation, DDPM, exact", exact["DDPM"], 0.98 * STD, 1.02 * STD),
        *(
            near(f"standard deviation of samples, {way}", float(found.last[way].std()), exact[way], error * exact[way])
            for way in WAYS
        ),
        below(f"spread of a spiral, {wrong}, over that of the data", spread[wrong] / spread["data"], 0.05),
        between("spread of a spiral, DDIM, over that of the data", spread["DDIM"] / spread["data"], 0.8, 1.2),
    )


def draw(found: Found, figure: Figure) -> None:
    """Standard deviations against t; the four spirals."""
    panels = figure.subplot_mosaic(
        [["curve", "data", "DDPM"], ["curve", "DDIM", "DDPM's mean alone"]], width_ratios=[1.7, 1, 1]
    )
    colours = dict(zip(("data", *WAYS), (style.ink(), "C0", "C2", "C1"), strict=True))
    curve, t = panels["curve"], 1000 * found.t
    curve.plot(t, found.marginal, color=style.ink(), lw=5, alpha=0.25)
    for way in WAYS:
        curve.plot(t, found.exact[way], "--" if way == "DDIM" else "-", color=colours[way])
    curve.text(420, 0.85, "as it should be (grey),\nDDPM and DDIM")
    curve.text(220, 0.05, WAYS[2], color="C1", ha="center")
    curve.set(
        xlabel="t, walked from right to left", ylabel="standard deviation of x$_t$", ylim=(0, 1.05), xlim=(0, 1000)
    )
    curve.set_title(f"Data N(0, {STD}²)")
    for name, colour in colours.items():
        axes = panels[name]
        axes.plot(*found.spiral[name].T.numpy(), ".", markersize=2 if name != WAYS[2] else 5, color=colour)
        axes.set(xlim=(-1.15, 1.0), ylim=(-1.1, 1.1), aspect="equal", xticks=[], yticks=[])
        axes.set_title(name, color=colour)


EXHIBIT = Exhibit("DDIM, eq. 12", ("M2", "D5", "D10"), measure, checks, draw, without_noise)
