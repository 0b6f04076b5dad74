"""Few steps need a learned variance: β is too wide, β̃ too narrow, and the bound finds what is right.

The mean of a reverse step says where, not how wide. β_t is right for data N(0, I), β̃_t for a single point; real data
lies between. With a thousand steps the two are equal and nobody notices. With ten they are not, and the error is in the
samples. So the network says for every step how far from log β̃ to log β it is, and L_vlb teaches it (Improved DDPM,
section 3.1).

On N(0, 0.25) with the exact denoiser nothing but the variance can be wrong: β gives too much spread and β̃ too little,
the learned one is right. On digits, one network's means have the shortest code with its own variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import logsnr
from logsnr import kernels, likelihood, objectives
from logsnr.gallery import Check, Exhibit, Setting, above, below, between, mean, standard_error, style

TRUTH, DIGIT_STEPS = 0.5, 25
LAW = logsnr.gaussian(torch.zeros(1), torch.tensor([TRUTH**2]))
PATH = logsnr.Path(logsnr.Cosine(), logsnr.vp)
NAMES = {"large": "fixed, β", "small": "fixed, β̃", "learned_range": "learned"}
COLOURS = dict(zip(NAMES, ("C1", "C3", "C0"), strict=True))


class Exact(nn.Module):
    """The exact denoiser, and one number a step for the variance: v = 2u − 1; 1, where it starts, is β."""

    def __init__(self, grid: logsnr.Level) -> None:
        super().__init__()
        self.gamma, self.v = grid.gamma, nn.Parameter(torch.ones(len(grid)).double())

    def forward(self, x: Tensor, level: logsnr.Level, **condition: Tensor) -> logsnr.Prediction:
        """E[x0 | x_t], and v of the step that begins at `level`."""
        place = torch.searchsorted(-self.gamma, -level.gamma.reshape(-1))
        return replace(logsnr.Oracle(LAW)(x, level), spread=self.v[place].reshape(-1, 1).expand_as(x))


def taught(steps: int, setting: Setting) -> Exact:
    """The variance of every step of a chain, learned from L_vlb alone; nobody tells it the truth."""
    model, batch, rounds = Exact(PATH.grid(steps)), setting.of(4096, 1024), setting.of(500, 200)
    times, weight = logsnr.Uniform(PATH.schedule), objectives.WEIGHTS["simple"]
    asked = objectives.Setting(PATH, weight, times, "learned_range", lattice=None)
    bound = logsnr.VLB.of(asked, num_steps=steps, units="nats")
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 1e-3 ** (1 / rounds))
    for k in range(rounds):
        draws = setting.draws(batch, step=k)
        x0 = TRUTH * draws.normal("x0", torch.empty(batch, 1, dtype=torch.float64))
        optimiser.zero_grad()
        bound(model, x0, draws).total.mean().backward()
        optimiser.step()
        decay.step()
    return model


@dataclass(frozen=True)
class Found:
    """stds: of samples, by variance and number of steps. count: of samples. u: learned for ten steps, by step.

    bits: of held-out digits with each variance, (N,), None at reduced size.
    """

    stds: Mapping[str, Mapping[int, float]]
    count: int
    u: Tensor
    bits: Mapping[str, Tensor] | None

    def gain(self) -> Tensor:
        """Bits/dim that the learned variance saves of each digit beside the better fixed one, (N,)."""
        assert self.bits is not None
        fixed = min((self.bits["large"], self.bits["small"]), key=lambda bits: float(bits.mean()))
        return fixed - self.bits["learned_range"]


def measure(setting: Setting) -> Found:
    """Chains of a Gaussian with each variance, and the code length of digits with each."""
    count = setting.of(200_000, 100_000)
    models = {steps: taught(steps, setting) for steps in setting.of((10, 25, 50, 100), (10, 25))}
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, 1, dtype=torch.float64))
    stds = {kind: {s: spread_of(models[s], kind, s, noise) for s in models} for kind in NAMES}
    u = 0.5 * (models[10].v.detach() + 1)
    return Found(stds, count, u, None if setting.quick else digits(setting))


@torch.no_grad()
def spread_of(model: Exact, kind: str, steps: int, noise: logsnr.samplers.Noise) -> float:
    """Standard deviation of the chain's samples."""
    walk = logsnr.simulate(logsnr.Ancestral(kind), model, logsnr.prior(PATH, noise), PATH.grid(steps), noise=noise)
    *_, last = walk
    return float(last.x.std())


@torch.no_grad()
def digits(setting: Setting) -> dict[str, Tensor]:
    """Bits/dim of held-out digits by the bound of every 160th step: the same means, three variances."""
    run = setting.trained("iddpm", "iddpm", minutes=2)
    x0 = run.as_trained(logsnr.data.load("digits", split="test")).batch(range(256))[0]
    grid, found = run.model.path.grid(f"ddim{DIGIT_STEPS}"), {}  # equal strides
    for kind in NAMES:
        bound = likelihood.bound_for(grid, run.model.path.prior_std, kind, run.transform.lattice)
        nats = bound.prior(x0) + bound.curve(run.clipped, x0, setting.draws(len(x0))).sum(1)
        found[kind] = logsnr.bits_per_dim(nats, x0[0].numel())
    return found


def checks(found: Found) -> tuple[Check, ...]:
    """The learned variance within 1 %, the fixed ones beside it; the code of digits."""
    error = TRUTH / (2 * found.count) ** 0.5
    learned, large, small = (found.stds[kind] for kind in ("learned_range", "large", "small"))
    of_gaussian = tuple(
        between(f"std of samples, S = {s}, learned", learned[s], 0.99 * TRUTH, 1.01 * TRUTH, error) for s in (10, 25)
    )
    of_gaussian += tuple(above(f"the same with β, S = {s}", large[s], 1.02 * TRUTH, error) for s in (10, 25))
    of_gaussian += tuple(below(f"the same with β̃, S = {s}", small[s], 0.98 * TRUTH, error) for s in (10, 25))
    if found.bits is None:
        return of_gaussian
    gain = found.gain()
    words = f"digits, S = {DIGIT_STEPS}: bits/dim saved beside the better fixed variance"
    return (*of_gaussian, above(words, mean(gain), 0, standard_error(gain)))


def draw(found: Found, figure: Figure) -> None:
    """Spread of samples over S; where between the two the learned variance lies; the code length of digits."""
    panels = figure.subplots(1, 2 if found.bits is None else 3, width_ratios=[1.3, 1.2, 1][: 2 + bool(found.bits)])
    for kind, stds in found.stds.items():
        panels[0].plot(list(stds), list(stds.values()), "o-", color=COLOURS[kind], label=NAMES[kind])
    panels[0].axhline(TRUTH, color=style.ink(), linestyle=":", label="truth, 0.5")
    panels[0].set(xscale="log", xlabel="steps S", ylabel="std of samples", title="N(0, 0.25): too wide, too narrow")
    panels[0].set_xticks(list(found.stds["small"]), list(map(str, found.stds["small"])))
    panels[0].minorticks_off()
    panels[0].legend(loc="lower right")
    _draw_between(found, panels[1])
    if found.bits is not None:
        bits = [float(found.bits[kind].mean()) for kind in NAMES]
        bars = panels[2].bar([NAMES[k].replace(", ", "\n") for k in NAMES], bits, color=[COLOURS[k] for k in NAMES])
        panels[2].bar_label(bars, fmt="%.2f", padding=2)
        panels[2].set(
            ylabel="bits/dim, held-out digits", title=f"digits, one network, S = {DIGIT_STEPS}", ylim=(0, None)
        )
        panels[2].grid(visible=False, axis="x")


def optimum() -> tuple[Tensor, Tensor]:
    """Times of the steps of ten, and the u of the true reverse kernel's variance β̃ + c² Var(x0|x_t), in closed form."""
    grid = PATH.grid(10)
    t, s = grid[torch.arange(9)], grid[torch.arange(1, 10)]
    low, high = kernels.posterior_log_var(t, s), kernels.transition_log_var(t, s)
    left = TRUTH**2 * t.sigma**2 / (t.alpha**2 * TRUTH**2 + t.sigma**2)
    wanted = torch.log(low.exp() + kernels.posterior_coefficients(t, s)[1] ** 2 * left)
    return t.t, (wanted - low) / (high - low)


def _draw_between(found: Found, axes: Axes) -> None:
    """The learned u of each of ten steps beside the closed form."""
    t, u = optimum()
    for kind, place in (("large", 1), ("small", 0)):
        axes.axhline(place, color=COLOURS[kind])
    axes.plot(t, u, ":", color=style.ink(), label="closed form")
    axes.plot(t, found.u[: len(t)], "o", color=COLOURS["learned_range"], label="learned from L_vlb")
    axes.set(xlabel="t of the step, S = 10", ylabel="u: 0 is β̃, 1 is β", title="what was learned", ylim=(-0.05, 1.08))
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.93))


EXHIBIT = Exhibit("Improved DDPM, section 3.1, eq. 15", ("D6", "I2", "I5", "I6"), measure, checks, draw, taught)
