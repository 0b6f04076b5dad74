"""Two derivations of σ²_{t|s}: what is left after s is a difference of variances.

From s to t noise of variance σ²_{t|s} = σ_t² − α²_{t|s} σ_s² comes in. Once because x_t = α_{t|s} x_s + σ_{t|s} ε must
have the variance σ_t² (VDM); once by adding up the β of DDPM's steps, each shrunk by the steps after it.

Some notes write the sum, σ_t² + α²_{t|s} σ_s². It is the variance of x_t − α_{t|s} x_s when x_s and x_t are drawn from
x_0 separately, with noises of their own. On a path x_t contains the noise of x_s, and the sum is rejected.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, kernels, scales
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, near, style

X0, S, T = 1.7, 200, 300
BETAS = betas.linear(1000)
TABLE = logsnr.table_of_betas(BETAS)


def two_derivations(s: logsnr.Level, t: logsnr.Level, of_steps: Tensor) -> tuple[Tensor, Tensor]:
    """σ²_{t|s}, from the marginals of a VP path and from the β of the steps between them."""
    ratio = t.alpha / s.alpha
    by_marginals = t.sigma**2 - ratio**2 * s.sigma**2  # less what is left of x_s's noise
    by_steps = torch.zeros_like(by_marginals)
    for beta in of_steps:
        by_steps = (1 - beta) * by_steps + beta  # a step shrinks the noise that is there and adds its own
    return by_marginals, by_steps


@dataclass(frozen=True)
class Found:
    """times: t after S. right, by_steps, wrong: the difference twice, and the sum. on_paths, separate: measured.

    count: paths. scales: largest relative distance of the library's kernel, by scale.
    """

    times: Tensor
    right: Tensor
    by_steps: Tensor
    wrong: Tensor
    on_paths: Tensor
    separate: Tensor
    count: int
    scales: dict[str, float]


def stepped_and_separate(setting: Setting, count: int, times: Tensor) -> tuple[Tensor, Tensor]:
    """Variances of x_t − α_{t|s} x_s at each of the times: x_t stepped from x_s, and x_t drawn anew from x_0."""
    path = logsnr.Path(TABLE, logsnr.vp)
    draws, x0 = setting.draws(count), torch.full((count, 1), X0, dtype=torch.float64)
    s = path.at(S / 1000)
    x_s = x = s.perturb(x0, draws.normal("start", x0))
    on_paths, separate = [], []
    for i, beta in enumerate(BETAS[S:T], S + 1):
        x = (1 - beta).sqrt() * x + beta.sqrt() * draws.normal(f"step/{i}", x)
        if i in times:
            t = path.at(i / 1000)
            on_paths.append((x - t.alpha / s.alpha * x_s).var())
            separate.append((t.perturb(x0, draws.normal(f"anew/{i}", x)) - t.alpha / s.alpha * x_s).var())
    return torch.stack(on_paths), torch.stack(separate)


def of_kernel(scale: logsnr.Scale) -> float:
    """Largest relative distance of `kernels.transition_log_var` from the difference, in the units of a scale."""
    path = logsnr.Path(TABLE, scale)
    s, t = path.at(S / 1000), path.at(torch.arange(S + 10, T + 1, 10).double() / 1000)
    difference = t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2
    return float((kernels.transition_log_var(t, s).exp() / difference - 1).abs().max())


def measure(setting: Setting) -> Found:
    """The formulas at ten t, and paths from one x_0."""
    times, count = torch.arange(S + 10, T + 1, 10), setting.of(200_000, 20_000)
    path = logsnr.Path(TABLE, logsnr.vp)
    s, levels = path.at(S / 1000), [path.at(int(t) / 1000) for t in times]
    pairs = [two_derivations(s, level, BETAS[S : int(t)]) for t, level in zip(times, levels, strict=True)]
    right, by_steps = (torch.stack(each) for each in zip(*pairs, strict=True))
    wrong = torch.stack([level.sigma**2 + (level.alpha / s.alpha) ** 2 * s.sigma**2 for level in levels])
    measured = stepped_and_separate(setting, count, times)
    return Found(
        times, right, by_steps, wrong, *measured, count, {name: of_kernel(each) for name, each in scales.SCALES.items()}
    )


def checks(found: Found) -> tuple[Check, ...]:
    """The paths have the right variance, within 4 standard errors, and not the wrong one; two derivations agree."""
    right, wrong, measured = (float(each[-1]) for each in (found.right, found.wrong, found.on_paths))
    error = (2 / found.count) ** 0.5
    return (
        near(f"variance of x_{T} − α x_{S} on paths, the difference is {right:.4f}", measured, right, error * right),
        between("right difference, σ_t² − α²σ_s²", right, 0.3975, 0.3985),
        between("wrong sum, σ_t² + α²σ_s²", wrong, 0.8085, 0.8095),
        above("the wrong sum from the paths, in standard errors", abs(measured - wrong) / (error * measured), 4),
        near(
            "variance when x_s and x_t are drawn separately: the sum", float(found.separate[-1]), wrong, error * wrong
        ),
        below(
            "by the steps' β against by the marginals, largest relative distance",
            float((found.by_steps / found.right - 1).abs().max()),
            1e-12,
        ),
        below(
            f"the library's kernel against the difference, scales {', '.join(found.scales)}",
            max(found.scales.values()),
            1e-10,
        ),
    )


def draw(found: Found, figure: Figure) -> None:
    """Variance against t, both formulas and both experiments; and the noises of the steps that add up to it."""
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    left.plot(found.times, found.wrong, "--", color="C1")
    left.plot(found.times, found.separate, "o", color="C1")
    left.plot(found.times, found.right, color=style.ink())
    left.plot(found.times, found.on_paths, "o", color="C0")
    left.text(255, 0.83, "the slip, σ$_t$² + α²σ$_s$²:\nx$_s$ and x$_t$ drawn separately", color="C1", ha="center")
    left.text(252, 0.105, "the difference, σ$_t$² − α²σ$_s$²:\nalong paths", color="C0")
    left.set(xlabel="t", ylabel=f"variance of x$_t$ − α x$_s$,  s = {S}", ylim=(0, 1))
    left.set_title("Lines: formulas.  Dots: measured")
    steps, at = BETAS[S:T], range(S + 1, T + 1)
    left_over = steps * (1 - steps).flip(0).cumprod(0).flip(0) / (1 - steps)
    right.plot(at, steps, color="C6")
    right.text(234, 0.0052, "β$_i$, as added", color="C6", ha="center")
    right.fill_between(at, left_over, alpha=0.35, color="C0", lw=0)
    right.plot(at, left_over, color="C0")
    right.text(254, 0.0013, f"left of it at t = {T}\narea {float(found.by_steps[-1]):.3f}", ha="center")
    right.set(xlabel="step i", ylabel="variance of a step's noise", ylim=(0, 0.007))
    right.set_title("The difference again, step by step")


EXHIBIT = Exhibit("DDPM, eq. 2–4; VDM, app. A", ("F2", "F3", "D1"), measure, checks, draw, two_derivations)
