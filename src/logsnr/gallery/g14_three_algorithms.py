"""Algorithms 1 to 3 draw from the data, and a corrector makes few steps better.

The survey's three samplers, DDPM's chain, annealed Langevin dynamics and Euler–Maruyama, line by line as they are
printed, return what the library's return. On Gaussian data every step is affine in x and its normals, so the law of
what comes out is a closed form; samples have its mean and variance, and the law is that of the data up to the error of
the steps. For Euler–Maruyama that error is of weak order one, measured on the moments themselves. A common slip, the ½
g² ∇log p of the probability flow together with the noise of the SDE, has an error that no number of steps removes.

A Langevin step before each step of the predictor beats twice as many steps of the predictor alone (the paper's setting:
variance exploding, reverse diffusion, r = 0.16, 3072 dimensions), until its own bias, which a finer grid does not
remove, is all that is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, dynamics, samplers, schedules
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, near, standard_error, style

MEAN, STD, SIGMA_1, SIGMA_L = 0.6, 0.5, 1.0, 0.01
LAW = logsnr.gaussian(torch.tensor([MEAN]), STD**2)
SDE = logsnr.Path(logsnr.BetaLinear(), logsnr.vp)
PAGES = {
    "DDPM": """Algorithm 1: DDPM
x ~ N(0, I)
for t = T, …, 1:
  z ~ N(0, I) if t > 1, else 0
  x ← (x − βₜ/√(1−ᾱₜ) ε(x, t))/√(1−βₜ)
      + √βₜ z""",
    "Langevin": """Algorithm 2: annealed Langevin
x ~ N(0, σ₁² I)
for i = 1, …, L:
  aᵢ = ε σᵢ²/σ_L²
  for t = 1, …, T:
    x ← x + ½ aᵢ s(x, σᵢ) + √aᵢ z""",
    "Euler–Maruyama": """Algorithm 3: Euler–Maruyama
x ~ N(0, I), t = 1, Δt = −1/N
for i = 1, …, N:
  dx = [f(x, t) − g² s(x, t)] Δt
       + g √|Δt| z
  x ← x + dx, t ← t + Δt""",
}
GRIDS, EVALUATIONS, R, DIMENSIONS = (100, 200, 400, 800, 1600), (50, 100, 200, 400), 0.16, 3072
STUDENT = 2.776  # half a 95 % interval in standard errors, 5 seeds

Normals = Callable[[str], Tensor]


def printed(law: logsnr.Mixture, beta: Tensor, sigma: Tensor, repeats: int, steps: int, z: Normals) -> list[Tensor]:
    """Algorithms 1, 2, 3 with β_1 … β_T, with σ_1 > … > σ_L, ε/σ_L² = 0.2, and on the VP SDE; z(name) ~ N(0, I)."""
    alpha_bar = (1 - beta).cumprod(0)
    alpha, noise, x1 = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), z("DDPM")
    for t in reversed(range(len(beta))):
        eps = -noise[t] * law.score(x1, alpha[t], noise[t])
        mean = (x1 - beta[t] / noise[t] * eps) / (1 - beta[t]).sqrt()
        x1 = mean + beta[t].sqrt() * z("DDPM") if t > 0 else mean

    x2 = sigma[0] * z("Langevin")
    for sigma_i in sigma:
        a = 0.2 * sigma_i**2
        for _ in range(repeats):
            x2 = x2 + a / 2 * law.score(x2, torch.ones(()), sigma_i) + a.sqrt() * z("Langevin")

    f_g, x3 = dynamics.dynamics(SDE), z("Euler–Maruyama")
    for t, s in pairwise(torch.linspace(1, SDE.schedule.t_min, steps + 1, dtype=torch.float64)):
        f, g, dt = f_g.drift(x3, t), f_g.diffusion(t), s - t
        score = law.score(x3, SDE.at(t).alpha, SDE.at(t).sigma)
        x3 = x3 + (f - g**2 * score) * dt + g * dt.abs().sqrt() * z("Euler–Maruyama")
    return [x1, x2, x3]


def normals(draws: logsnr.Draws, like: Tensor, units: int = 0) -> Normals:
    """z(name), new at each call; below the rows like `like`, `units` rows: the k-th is 1 at the k-th call, else 0."""
    calls: Counter[str] = Counter()

    def z(name: str) -> Tensor:
        probes = torch.zeros(units, *like.shape[1:], dtype=like.dtype)
        probes[calls[name] : calls[name] + 1] = 1
        calls[name] += 1
        return torch.cat([draws.normal(f"{name}/{calls[name]}", like), probes])

    return z


@dataclass(frozen=True)
class Sampled:
    """x: (count, 1) samples. mean, std: of their law in closed form."""

    x: Tensor
    mean: float
    std: float


def walked(name: str, sampler: logsnr.Sampler, path: logsnr.Path, grid: logsnr.Level, draws: logsnr.Draws) -> Sampled:
    """The library's sampler from its prior, and its law: probe rows with one unit of one normal give the affine map."""
    count, units = len(draws.index), 1200
    z = normals(draws, torch.empty(count, 1, dtype=torch.float64), units)
    *_, end = logsnr.simulate(
        sampler, logsnr.Oracle(LAW), path.prior_std * z(name), grid, noise=lambda step, draw: z(name)
    )
    x, probes = end.x[:count], end.x[count:]
    mean = probes[-1]  # it had no noise at all
    return Sampled(x, float(mean), float((probes - mean).square().sum().sqrt()))


def weak_errors(steps: int, share: float = 1.0) -> tuple[float, float]:
    """|error| of mean and variance after Euler–Maruyama from the exact law of x_1; share: of the score, 1 or the slip.

    Every step is x ← a x + b + c z: (a, b, c) of all steps at once, then a recursion of two moments.
    """
    grid, sde = SDE.grid(steps, "lowest"), dynamics.dynamics(SDE)
    t, s = grid[:-1], grid[1:]

    def step(x: float) -> tuple[Tensor, Tensor]:
        state = torch.full((steps, 1), x, dtype=torch.float64)
        score = share * LAW.score(state, t.alpha, t.sigma)
        return dynamics.euler_maruyama(sde, score, state, t.t, s.t)

    (b, c), (at_one, _) = step(0.0), step(1.0)
    mean, variance = (MEAN * grid[0].alpha, (grid[0].alpha * STD) ** 2 + grid[0].sigma ** 2)
    for a, shift, noise in zip(at_one - b, b, c, strict=True):
        mean, variance = a * mean + shift, a**2 * variance + noise**2
    low = grid[-1]
    return float((mean - MEAN * low.alpha).abs()), float((variance - (low.alpha * STD) ** 2 - low.sigma**2).abs())


def distance(sampler: logsnr.Sampler, evaluations: int, count: int, seed: int) -> float:
    """W2 per number, in std of the data, of N(mean, std²) of the samples to the data, in 3072 dimensions."""
    law = logsnr.gaussian(torch.full((DIMENSIONS,), MEAN), STD**2)
    path = logsnr.Path(logsnr.geometric(0.01, 50.0), logsnr.ve)
    noise = logsnr.seeded(seed, torch.arange(count), torch.empty(count, DIMENSIONS, dtype=torch.float64))
    *_, end = logsnr.simulate(
        sampler, logsnr.Oracle(law), logsnr.prior(path, noise), path.grid(evaluations), noise=noise
    )
    return float(torch.hypot(end.x.mean() - MEAN, end.x.std() - STD) / STD)


@dataclass(frozen=True)
class Found:
    """sampled: by algorithm. gap: of the printed ones to the library's. errors: (N, 2) moments by grid, and the slip's.

    tried: numbers of evaluations. distances: (2, tried, 5 seeds), predictor alone and with corrector.
    """

    sampled: dict[str, Sampled]
    gap: float
    errors: Tensor
    slip: Tensor
    tried: tuple[int, ...]
    distances: Tensor

    @property
    def orders(self) -> list[float]:
        """Of mean and variance in 1/N, from the first to the last grid."""
        ratio = (self.errors[0] / self.errors[-1]).log() / torch.tensor(GRIDS[-1] / GRIDS[0]).log()
        return [float(order) for order in ratio]


def measure(setting: Setting) -> Found:
    """Three algorithms twice, moments of Euler–Maruyama, and two samplers at equal evaluations."""
    count, steps, repeats = setting.of(10_000, 1000), setting.of(1000, 200), setting.of(100, 40)
    em_steps = setting.of(500, 100)
    beta = betas.scaled_linear(steps)
    table = schedules.sigma_table(SIGMA_L, SIGMA_1, 10)
    ddpm, ncsn = logsnr.Path(logsnr.table_of_betas(beta), logsnr.vp), logsnr.Path(table, logsnr.ve)
    langevin = logsnr.AnnealedLangevin(ncsn, repeats, step_size=0.1 * SIGMA_L**2)
    ours: tuple[tuple[logsnr.Sampler, logsnr.Path, logsnr.Level], ...] = (
        (logsnr.Ancestral("large"), ddpm, ddpm.grid(steps)),
        (langevin, ncsn, ncsn.grid(9, "lowest")),
        (logsnr.EulerMaruyama(SDE), SDE, SDE.grid(em_steps, "lowest")),
    )
    sampled = {name: walked(name, *each, setting.draws(count)) for name, each in zip(PAGES, ours, strict=True)}
    few = normals(setting.draws(count).rows(slice(0, 20)), torch.empty(20, 1, dtype=torch.float64))
    papers = printed(LAW, beta, ncsn.grid(9, "lowest").sigma, repeats, em_steps, few)
    gap = max(float((x - ours.x[:20]).abs().max()) for x, ours in zip(papers, sampled.values(), strict=True))
    alone = logsnr.ReverseDiffusion()
    both = logsnr.PredictorCorrector(alone, samplers.CORRECTORS["langevin"](R))
    seeds = [5 * setting.seed + k for k in range(5)]
    examples, tried = setting.of(10, 12), setting.of(EVALUATIONS, (100,))
    distances = [
        [[distance(each, n // cost, examples, seed) for seed in seeds] for n in tried]
        for each, cost in ((alone, 1), (both, 2))
    ]
    return Found(
        sampled,
        gap,
        torch.tensor([weak_errors(n) for n in GRIDS]),
        torch.tensor([weak_errors(n, share=0.5) for n in GRIDS]),
        tried,
        torch.tensor(distances),
    )


def checks(found: Found) -> tuple[Check, ...]:
    """Printed against run, samples against closed forms, orders, and the corrector's gain."""
    shown = [below("algorithms as printed and the library's samplers, largest difference", found.gap, 1e-9)]
    for name, each in found.sampled.items():
        error = each.std / len(each.x) ** 0.5
        shown += [
            near(f"{name}: mean of x, closed form {each.mean:.4f}", float(each.x.mean()), each.mean, error),
            near(f"{name}: std of x, closed form {each.std:.4f}", float(each.x.std()), each.std, error / 2**0.5),
            below(f"{name}: closed form from the data's {MEAN} ± {STD}, W2 in std", _off(each), 0.1),
        ]
    gain = (found.distances[0] - found.distances[1])[found.tried.index(100)]
    error = standard_error(gain)
    return (
        *shown,
        between("Euler–Maruyama's weak order, mean", found.orders[0], 0.9, 1.1),
        between("Euler–Maruyama's weak order, variance", found.orders[1], 0.9, 1.1),
        above(
            "the slip ½ g² s with all of the noise: error of the variance at N = 1600", float(found.slip[-1, 1]), 0.05
        ),
        above(
            "predictor less predictor–corrector at 100 evaluations, W2 in std: lower end of 95 %, 5 seeds",
            float(gain.mean()) - STUDENT * error,
            0,
            error,
        ),
    )


def _off(each: Sampled) -> float:
    return ((each.mean - MEAN) ** 2 + (each.std - STD) ** 2) ** 0.5 / STD


def draw(found: Found, figure: Figure) -> None:
    """Pages above histograms, and below them the order and the gain."""
    figure.set_size_inches(8.4, 7)
    halves = figure.add_gridspec(2, 1, height_ratios=[1.2, 1])
    top, bottom = (figure.add_subfigure(halves[i]) for i in (0, 1))
    for name, (page, axes) in zip(PAGES, top.subplots(2, 3, height_ratios=[0.55, 1]).T, strict=True):
        _draw_algorithm(name, found.sampled[name], page, axes)
    orders, gain = bottom.subplots(1, 2)
    mean, variance = (
        f"{name}, order {order:.2f}" for name, order in zip(("mean", "variance"), found.orders, strict=True)
    )
    orders.loglog(GRIDS, found.errors[:, 0], color="C0", linewidth=5, alpha=0.5, label=mean)
    orders.loglog(GRIDS, found.errors[:, 1], "o-", color="C1", label=variance)
    orders.loglog(GRIDS, found.slip[:, 1], "o--", color="C6", label="variance by the slip, ½ g² s")
    orders.set(xlabel="steps N", ylabel="error of the moment", title="Euler–Maruyama is of weak order 1")
    orders.legend(loc="center right", bbox_to_anchor=(1, 0.65))
    for values, name, colour in zip(found.distances, ("predictor", "with corrector"), ("C2", "C3"), strict=True):
        interval = STUDENT * values.std(1) / 5**0.5
        gain.errorbar(found.tried, values.mean(1), interval, color=colour, marker="o", capsize=3, label=name)
    gain.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="W2 to the data, in its std")
    gain.set_title("a corrector beats twice the steps, until its bias")
    gain.legend()
    for axes, ticks in ((orders, GRIDS), (gain, found.tried)):
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()


def _draw_algorithm(name: str, each: Sampled, page: Axes, axes: Axes) -> None:
    page.axis("off")
    page.text(0, 1, PAGES[name], family="monospace", size=7.6, va="top", linespacing=1.45, transform=page.transAxes)
    x = torch.linspace(-1.4, 2.6, 300, dtype=torch.float64)
    axes.hist(each.x.flatten().numpy(), bins=60, range=(-1.4, 2.6), density=True, alpha=0.5, label="samples")
    density = LAW.log_prob(x.unsqueeze(1), torch.ones(()), torch.zeros(())).exp()
    axes.plot(x, density, color=style.ink(), label="data")
    samples, law = f"samples {each.x.mean():.3f} ± {each.x.std():.3f}", f"closed form {each.mean:.3f} ± {each.std:.3f}"
    axes.set(xlabel="x", yticks=[], title=f"{samples}\n{law}")
    if name == "DDPM":
        axes.legend(loc="upper left", handlelength=1, borderaxespad=0)


EXHIBIT = Exhibit(
    "Survey, algorithms 1–3; DDPM, alg. 2; NCSN, alg. 1; Score SDE, alg. 2–5",
    ("D10", "N4", "S2", "S6", "S7"), measure, checks, draw, printed,
)  # fmt: skip
