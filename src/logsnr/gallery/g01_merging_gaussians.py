"""Merging Gaussians: t small steps are one large one.

Adding independent noise t times, x_s → √(1 − β_s) x_{s−1} + √β_s ε_s, is adding it once: x_t ~ N(√ᾱ_t x_0, 1 − ᾱ_t),
because variances of independent Gaussians add. So training can jump to any t.

Two slips are common. "x_t = ᾱ_t x_0 + …" lacks the root, and is rejected by the paths. And the sum of two Gaussians has
covariance Σ₁ + Σ₂ only where they are independent: with correlated noises the rule is shown to fail.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, kernels
from logsnr.gallery import Check, Exhibit, Setting, above, below, style

X0, STEPS, CORRELATION = 1.7, 300, 0.6
FIRST, SECOND = torch.tensor([[1.0, 0.6], [0.6, 0.8]]).double(), torch.tensor([[0.5, -0.3], [-0.3, 0.9]]).double()


def stepped(path: logsnr.Path, x0: Tensor, steps: int, draws: logsnr.Draws) -> Tensor:
    """x_t by `steps` transitions q(x_t | x_{t−1}) of the path's grid, one after the other."""
    levels = path.grid(1000).gamma.flip(0)  # clean, then the 1000 levels of DDPM
    x = x0
    for i in range(steps):
        s, t = (path.at_gamma(levels[i + j]) for j in (0, 1))
        x = kernels.transition(x, s, t).sample(draws.normal(f"step/{i}", x))
    return x


@dataclass(frozen=True)
class Found:
    """x: endpoints of the paths. mean, variance: of N(√ᾱ x0, 1 − ᾱ). covariances: of summed noises, by independence."""

    x: Tensor
    mean: float
    variance: float
    alpha_bar: float
    independent: Tensor
    correlated: Tensor


def measure(setting: Setting) -> Found:
    """Paths from one x0, and sums of two Gaussians whose noises are independent or not."""
    count = setting.of(200_000, 20_000)
    path = logsnr.Path(logsnr.table_of_betas(betas.linear(1000)), logsnr.vp)
    x = stepped(path, torch.full((count, 1), X0, dtype=torch.float64), STEPS, setting.draws(count))
    level = path.at(STEPS / 1000)
    draws = setting.draws(count, step=1)
    one, other = (draws.normal(name, torch.empty(count, 2, dtype=torch.float64)) for name in ("one", "other"))
    alike = CORRELATION * one + (1 - CORRELATION**2) ** 0.5 * other
    roots = [torch.linalg.cholesky(matrix) for matrix in (FIRST, SECOND)]
    sums = [one @ roots[0].T + noise @ roots[1].T for noise in (other, alike)]
    return Found(x, float(level.alpha * X0), float(level.sigma**2), float(level.alpha**2), *sums)


def _errors_off(sample: Tensor, truth: Tensor) -> float:
    """The largest distance of a sample covariance (2, 2) from `truth`, in its standard errors."""
    products = (sample - sample.mean(0)).unsqueeze(2) * (sample - sample.mean(0)).unsqueeze(1)
    return float(((products.mean(0) - truth).abs() / (products.std(0) / len(sample) ** 0.5)).max())


def checks(found: Found) -> tuple[Check, ...]:
    """Distances in standard errors: at most 4 from what is right, at least 4 from what is wrong."""
    count = len(found.x)
    of_mean, of_variance = float(found.x.std()) / count**0.5, float(found.x.var()) * (2 / count) ** 0.5
    mean, slip = float(found.x.mean()), found.alpha_bar * X0
    return (
        Check(
            f"mean of x_{STEPS}, √ᾱ x0 = {found.mean:.4f}",
            mean,
            found.mean - 4 * of_mean,
            found.mean + 4 * of_mean,
            of_mean,
        ),
        below(
            "variance of x_t from 1 − ᾱ, in standard errors",
            abs(float(found.x.var()) - found.variance) / of_variance,
            4,
        ),
        above(f"the slip ᾱ x0 = {slip:.3f}, in standard errors from the mean", abs(mean - slip) / of_mean, 4),
        below(
            "Cov(ε₁ + ε₂) from Σ₁ + Σ₂, independent noises, in standard errors",
            _errors_off(found.independent, FIRST + SECOND),
            4,
        ),
        above("the same with correlated noises", _errors_off(found.correlated, FIRST + SECOND), 4),
    )


def draw(found: Found, figure: Figure) -> None:
    """The endpoints beside the right and the wrong law; two sums of noises beside the ellipse of Σ₁ + Σ₂."""
    left, *right = figure.subplots(1, 3, width_ratios=[1.6, 1, 1])
    x = torch.linspace(-3, 5, 400, dtype=torch.float64)
    left.hist(
        found.x.flatten().numpy(), bins=120, density=True, alpha=0.45, label=f"{len(found.x):,} paths of {STEPS} steps"
    )
    for mean, text, line in (
        (found.mean, "N(√ᾱ x₀, 1 − ᾱ)", "-"),
        (found.alpha_bar * X0, "the slip: N(ᾱ x₀, 1 − ᾱ)", "--"),
    ):
        law = kernels.Normal(
            torch.tensor([[mean]]).double().expand(400, 1), torch.tensor(found.variance).double().log()
        )
        left.plot(x, law.log_prob(x.unsqueeze(1)).exp(), line, color=style.ink() if line == "-" else "C1", label=text)
    left.set(xlabel=f"x at t = {STEPS}", ylabel="density", xlim=(-3, 5), ylim=(0, 0.75))
    left.legend(loc="upper right")
    angle = torch.linspace(0, 2 * torch.pi, 200, dtype=torch.float64)
    ring = 2 * torch.stack([angle.cos(), angle.sin()], 1) @ torch.linalg.cholesky(FIRST + SECOND).T
    for axes, sample, text in zip(
        right, (found.independent, found.correlated), ("independent", "correlated"), strict=True
    ):
        axes.plot(*sample[:4000].T.numpy(), ".", markersize=1, alpha=0.5, color="C0" if text == "independent" else "C1")
        axes.plot(*ring.T.numpy(), color=style.ink(), label="2 std of Σ₁ + Σ₂")
        axes.set(
            xlim=(-6, 6),
            ylim=(-6, 6),
            aspect="equal",
            title=f"sum of {text} noises",
            xlabel="first number",
            ylabel="second number",
        )
        axes.legend(loc="lower right")


EXHIBIT = Exhibit("DDPM, eq. 2–4", ("F6", "F1", "D2"), measure, checks, draw, stepped)
