"""More steps lower the loss: L_T falls to L_∞ as T doubles.

VDM: in T steps the diffusion loss is ½ Σ (SNR(s) − SNR(t)) E|x − x̂(z_t)|², each step's error taken at its noisier end.
Less noise means a smaller error, so this is an upper Riemann sum, and halving every step lowers it: L_2T < L_T, down to
the integral L_∞. Shown with the exact denoiser of a mixture, γ from −10 to 8, and with a trained digits model.

A common note has "the bound falls with T": the loss −VLB falls, and the bound on log p(x) rises. Nor is it so for every
denoiser. The reason is that the error falls as the SNR grows; a denoiser that fades to 0 just where there is little
noise reverses the ordering, and "expm1(γ_t − γ_s)" copied as exp(γ_t − γ_s − 1) does not even tend to L_∞.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import data, likelihood, prediction
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

ALL_STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
AUDITED = (10, 100, 1000, None)
LAW = logsnr.mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.0]]), 0.04)
PATH = logsnr.Path(logsnr.Linear(-10.0, 8.0), logsnr.vp)


def drawn(denoise: logsnr.Oracle | Fading, steps: int | None, setting: Setting) -> likelihood.Estimate:
    """The loss in `steps` steps, None for ∞, of the same examples, noise and strata of t whatever the steps."""
    count = setting.of(2**18, 2**16)
    bound = likelihood.BOUNDS["vdm"](PATH, "small", None, steps=steps)
    return bound.estimate(denoise, LAW.sample(count, setting.seed), setting.draws(count))


@dataclass(frozen=True)
class Fading:
    """A bad denoiser on purpose: x̂ shrinks to 0 where there is little noise, above an SNR of e⁶."""

    denoise: logsnr.Oracle

    def __call__(self, x: Tensor, level: logsnr.Level, **condition: Tensor) -> logsnr.Prediction:
        good = self.denoise(x, level)
        kept = torch.sigmoid(6 + level.gamma).unsqueeze(1)  # 1/(1 + SNR/e⁶)
        return replace(good, direction=prediction.x0(level), value=kept * good.x0)


def steps_of(found: likelihood.Estimate, steps: int) -> Tensor:
    """What each of `steps` equal steps of γ adds to the loss, per unit of γ, from the data end."""
    low, span = -10.0, 18.0
    step = ((found.gamma[:, 0] - low) / span * steps - 1e-6).floor().clamp(0, steps - 1).long()
    total = torch.zeros(steps, dtype=torch.float64).index_add(0, step, found.nats[:, 0])
    return total / step.bincount(minlength=steps) / span


def digits(setting: Setting) -> dict[int | None, Tensor]:
    """Bits/dim of the diffusion loss of a trained VDM on each test digit, by steps; the same noise for all."""
    run, test = setting.trained("vdm", "vdm", minutes=2), data.load("digits", split="test")
    lattice = run.transform.lattice
    bounds = {str(T): likelihood.BOUNDS["vdm"](run.model.path, "small", lattice, steps=T) for T in AUDITED}
    records = run.records(test, bounds, seed=setting.seed, repeats=8)
    return {T: logsnr.bits_per_dim(records[str(T)].parts["diffusion"].mean(0), 64) for T in AUDITED}


@dataclass(frozen=True)
class Found:
    """Draws of the loss by steps, of the exact and of the fading denoiser, and by test digit; heights: `steps_of`."""

    exact: dict[int | None, Tensor]
    fading: dict[int | None, Tensor]
    digits: dict[int | None, Tensor]
    heights: dict[int, Tensor]


def measure(setting: Setting) -> Found:
    """Two denoisers of a mixture in closed form; at full size a trained one of digits."""
    estimates = {T: drawn(logsnr.Oracle(LAW), T, setting) for T in (*ALL_STEPS, None)}
    fading = {T: drawn(Fading(logsnr.Oracle(LAW)), T, setting).parts["diffusion"] for T in (*ALL_STEPS, None)}
    heights = {T: steps_of(estimates[T], T) for T in (8, 16, 32)} | {90: steps_of(estimates[None], 90)}
    exact = {T: found.parts["diffusion"] for T, found in estimates.items()}
    return Found(exact, fading, {} if setting.quick else digits(setting), heights)


def _ratios(losses: dict[int | None, Tensor]) -> list[tuple[float, float]]:
    """Each mean loss over the one before it, with fewer steps, and the standard error of their paired difference."""
    found = []
    for fewer, more in pairwise(losses.values()):
        gap = (more - fewer) / fewer.mean()
        found.append((1 + mean(gap), standard_error(gap)))
    return found


def _over(losses: dict[int | None, Tensor]) -> dict[int | None, float]:
    """Each mean loss over L_∞."""
    return {T: float(nats.mean() / losses[None].mean()) for T, nats in losses.items()}


def slip(steps: int) -> float:
    """By what the copy exp(γ_t − γ_s − 1) multiplies a loss in equal steps of γ."""
    step = 18 / steps
    return math.exp(step - 1) / math.expm1(step)


def checks(found: Found) -> tuple[Check, ...]:
    """Falls with the exact denoiser and with the trained one; rises with the bad one and without the right weight."""
    last = found.exact[ALL_STEPS[-1]] - found.exact[None]
    l_inf = float(found.exact[None].mean())
    falls = below("exact denoiser, T = 4 … 1024 → ∞: largest ratio L_2T/L_T", *_at_most(_ratios(found.exact)))
    near = below(
        f"L_1024 over L_∞ = {l_inf:.3f} nats",
        1 + mean(last) / l_inf,
        1.02,
        standard_error(last) / l_inf,
    )
    rises = min(_ratios({T: nats for T, nats in found.fading.items() if T}))
    bad = above("a denoiser that fades: smallest ratio L_2T/L_T", rises[0], 1, rises[1])
    wrong = above("the slip exp(γ_t − γ_s − 1): L_1024 over L_∞", _over(found.exact)[1024] * slip(1024), 10)
    if not found.digits:
        return (falls, near, bad, wrong)
    trained = _at_most(_ratios(found.digits))
    return (
        falls,
        near,
        bad,
        wrong,
        below("trained digits, T = 10, 100, 1000, ∞: largest ratio of neighbours", *trained),
    )


def _at_most(ratios: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The largest ratio, the bar 1 and the ratio's standard error."""
    return max(ratios)[0], 1.0, max(ratios)[1]


def draw(found: Found, figure: Figure) -> None:
    """Upper sums over γ that shrink to the integral, and every loss over its own L_∞."""
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    for T, heights in found.heights.items():
        edges = torch.linspace(-10, 8, len(heights) + 1)
        if T > 32:
            left.fill_between(edges[:-1], heights, step="post", color=style.ink(), alpha=0.25, linewidth=0)
            left.stairs(heights, edges, color=style.ink(), linewidth=1.2, label="L_∞, the integral")
            continue
        colour = {8: "C1", 16: "C4", 32: "C2"}[T]
        left.stairs(
            heights, edges, color=colour, linewidth=1.4, label=f"L_{T} = {float(found.exact[T].mean()):.2f} nats"
        )
    left.set(xlabel="γ = −log SNR", ylabel="nats per unit of γ", title="each halving of the steps lowers the sum")
    left.legend(loc="upper right")
    curves = [("exact denoiser", found.exact, "C0", "o-"), ("trained on digits", found.digits, "C3", "s-")]
    curves.append(("denoiser that fades", found.fading, "C1", "o-"))
    for name, losses, colour, line in curves:
        steps = [T for T in losses if T]
        right.plot(steps, [_over(losses)[T] for T in steps], line, color=colour, label=name)
    steps = [T for T in found.exact if T]
    wrong = [_over(found.exact)[T] * slip(T) for T in steps]
    right.plot(steps, wrong, "x--", color="C6", label="slip: exp(γ_t − γ_s − 1)")
    right.axhline(1, color=style.ink(), linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="steps T", ylabel="L_T over its own L_∞", title="falls to L_∞, or not")
    right.legend(loc="upper center")


EXHIBIT = Exhibit("VDM, section 4.1, eq. 13–14, app. F", ("V4", "V5", "V6"), measure, checks, draw, drawn)
