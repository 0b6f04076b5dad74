"""The picture of docs/families.md on light and on dark paper: python docs/figures.py

Four rows of the same digit: DDPM's Markov chain, DDIM's family that looks at x_0, NCSN's levels with Langevin steps in
each, and the SDE that the three are discretised from.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import logsnr
from logsnr import betas, dynamics
from logsnr.gallery import style

FOLDER = Path(__file__).parent
PLACES, HALF, MIDDLE = (0.9, 3.1, 5.3, 7.5), 0.5, 1.15  # of the four states, half a picture, the height of their centre
FORWARD, REVERSE, OF_X0 = "C6", "C0", "C1"


def states(path: logsnr.Path, times: tuple[float, ...]) -> list[torch.Tensor]:
    """A digit and its noised forms (8, 8), each in units of its own size."""
    x0 = logsnr.data.load("digits").batch([7])[0].double()
    eps = logsnr.Draws(7, 0, torch.zeros(1, dtype=torch.int64), 1).normal("eps", x0)
    found = [x0[0, 0]]
    for t in times:
        level = path.at(t)
        found.append((level.perturb(x0, eps) / torch.hypot(level.alpha, level.sigma))[0, 0])
    return found


def row(axes: Axes, title: str, pictures: list[torch.Tensor], names: tuple[str, ...]) -> None:
    """Four pictures in a line, named below."""
    axes.set(xlim=(0.3, 11.3), ylim=(-0.05, 2.45))
    axes.axis("off")
    axes.text(0.3, 2.32, title, fontsize=10.5, fontweight="bold", va="center")
    for place, picture, name in zip(PLACES, pictures, names, strict=True):
        box = (place - HALF, place + HALF, MIDDLE - HALF, MIDDLE + HALF)
        axes.imshow(picture, cmap="gray", vmin=-1.6, vmax=1.6, extent=box, aspect="auto", zorder=2)
        axes.text(place, MIDDLE - HALF - 0.08, name, ha="center", va="top")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float = 0.0) -> None:
    """From a point to another, on a curve where it is bent."""
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.3, "color": colour, "zorder": 3}
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **look))


def both_ways(axes: Axes, forward: str, reverse: str) -> None:
    """Arrows between neighbours: the forward process above, the reverse one below; words at the middle pair."""
    for left, right in pairwise(PLACES):
        arrow(axes, (left + HALF, MIDDLE + 0.14), (right - HALF, MIDDLE + 0.14), FORWARD)
        arrow(axes, (right - HALF, MIDDLE - 0.14), (left + HALF, MIDDLE - 0.14), REVERSE)
    middle = 0.5 * (PLACES[1] + PLACES[2])
    axes.text(middle, MIDDLE + 0.25, forward, ha="center", va="bottom", color=FORWARD, fontsize=8.5)
    axes.text(middle, MIDDLE - 0.25, reverse, ha="center", va="top", color=REVERSE, fontsize=8.5)


def words(axes: Axes, *lines: str) -> None:
    """What is said at the end of a row."""
    axes.text(8.35, MIDDLE, "\n".join(lines), va="center", fontsize=8.7, linespacing=1.6)


def ddpm(axes: Axes) -> None:
    """q is a chain, and so is p_θ."""
    path = logsnr.Path(logsnr.table_of_betas(betas.linear(1000)), logsnr.vp)
    row(axes, "DDPM: a Markov chain", states(path, (0.06, 0.2, 1.0)), ("$x_0$", "$x_{t-1}$", "$x_t$", "$x_T$"))
    both_ways(axes, "$q(x_t|x_{t-1})$", "$p_θ(x_{t-1}|x_t)$")
    words(axes, r"forward: $x_t = \sqrt{1-β_t}\,x_{t-1} + \sqrt{β_t}\,ε$", r"prior: $p(x_T) = N(0, I)$",
          r"learned: $ε_θ(x_t, t)$, at times $Σ_θ$")  # fmt: skip


def ddim(axes: Axes) -> None:
    """The same marginals, and every state looks at x_0."""
    path = logsnr.Path(logsnr.table_of_betas(betas.linear(1000)), logsnr.vp)
    title = "DDIM: the same marginals, not a chain"
    row(axes, title, states(path, (0.06, 0.2, 1.0)), ("$x_0$", "$x_{t-1}$", "$x_t$", "$x_T$"))
    for left, right in pairwise(PLACES[1:]):
        arrow(axes, (right - HALF, MIDDLE), (left + HALF, MIDDLE), REVERSE)
    arrow(axes, (PLACES[1] - HALF, MIDDLE), (PLACES[0] + HALF, MIDDLE), REVERSE)
    for place in PLACES[1:]:
        arrow(axes, (PLACES[0], MIDDLE + HALF), (place, MIDDLE + HALF), OF_X0, bend=-0.1)
    axes.text(4.2, MIDDLE - 0.12, r"$q_σ(x_{t-1}|x_t, x_0)$", ha="center", va="top", color=REVERSE, fontsize=8.5)
    words(axes, r"$x_s = α_s\hat x_0 + \sqrt{σ_s^2 - c^2}\,\hat ε + c\,z$", "η = 0: c = 0, nothing is drawn",
          "training: DDPM's, unchanged")  # fmt: skip


def ncsn(axes: Axes) -> None:
    """Levels of noise, and Langevin steps within each."""
    path = logsnr.Path(logsnr.geometric(0.05, 8.0), logsnr.ve)
    names = ("$x_0$", "$σ_i$", "$σ_{i+1}$", "$σ_{max}$")
    row(axes, "NCSN: levels of noise, Langevin dynamics in each", states(path, (0.33, 0.5, 1.0)), names)
    both_ways(axes, "add noise", "next level")
    for place in PLACES[1:]:
        arrow(axes, (place + 0.3, MIDDLE + HALF), (place - 0.3, MIDDLE + HALF), OF_X0, bend=1.1)
    axes.text(PLACES[3] + 0.45, MIDDLE + HALF + 0.14, r"$x + ε_i s_θ + \sqrt{2ε_i}\,z$", color=OF_X0, fontsize=8.5)
    words(axes, r"forward: $x_i = x_0 + σ_i ε$, no shrinking", r"prior: $N(0, σ_{max}^2 I)$",
          r"learned: the score $s_θ(x, σ)$")  # fmt: skip


def sde(axes: Axes) -> None:
    """Paths in continuous time between the first picture and the last."""
    path = logsnr.Path(logsnr.BetaLinear(), logsnr.vp)
    row(axes, "SDE: both, with the steps gone", states(path, (0.06, 0.2, 1.0)), ("$x(0)$", "", "", "$x(1)$"))
    for image in list(axes.images)[1:3]:
        image.remove()
    times, law = torch.linspace(0, 1, 301, dtype=torch.float64), dynamics.dynamics(path)
    x = [torch.tensor([-0.9, -0.9, -0.9, 0.9, 0.9, 0.9, 0.9], dtype=torch.float64).unsqueeze(1)]
    draws = logsnr.Draws(3, 0, torch.arange(len(x[0])), len(x[0]))
    for i, (now, then) in enumerate(pairwise(times)):
        mean, std = dynamics.euler_maruyama(law, 0.0, x[-1], now, then)
        x.append(mean + std * draws.normal(f"step/{i}", mean))
    place = PLACES[0] + HALF + 0.1 + (PLACES[3] - PLACES[0] - 2 * HALF - 0.2) * times
    for line in torch.cat(x, 1):
        axes.plot(place, MIDDLE + 0.2 * line, color=FORWARD, linewidth=0.6, alpha=0.8)
    left, right = PLACES[0] + HALF + 0.1, PLACES[3] - HALF - 0.1
    arrow(axes, (left, 1.98), (right, 1.98), FORWARD)
    arrow(axes, (right, 0.3), (left, 0.3), REVERSE)
    axes.text(4.2, 2.02, r"$dx = f\,dt + g\,dw$", ha="center", va="bottom", color=FORWARD, fontsize=8.5)
    axes.text(
        4.2,
        0.24,
        r"$dx = [f - g^2\nabla\log p_t]\,dt + g\,d\bar w$",
        ha="center",
        va="top",
        color=REVERSE,
        fontsize=8.5,
    )
    words(
        axes,
        r"VP is DDPM, VE is NCSN as $T → ∞$",
        r"half of $g^2$ and no noise: the flow",
        "learned: the score at every t",
    )


def main() -> None:
    for paper, name in (("light", "chains.png"), ("dark", "chains-dark.png")):
        with style.on(paper):
            figure = Figure(figsize=(9.6, 8.2))
            FigureCanvasAgg(figure)
            for axes, draw in zip(figure.subplots(4, 1), (ddpm, ddim, ncsn, sde), strict=True):
                draw(axes)
            figure.savefig(FOLDER / name)
    print(f"wrote {FOLDER / 'chains.png'} and chains-dark.png")


if __name__ == "__main__":
    main()
