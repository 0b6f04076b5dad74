"""Same x_T, same picture: DDIM's number of steps changes the detail, not the content.

At η = 0 a step draws nothing, so x_T decides the picture; and as the steps are Euler's method for one differential
equation, ten of them and a thousand follow the same curve (up to the clip of x̂_0). So x_T is a code of the picture,
and few steps are a preview of many (DDIM, section 5.2).

It is the missing noise that does it, not x_T. At η = 1, DDPM's chain, the same weights start from the same x_T and end
at another digit for every number of steps: hardly more alike than pictures that have nothing to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

SHOWN = 4
ETAS = (0.0, 1.0)


def picture(model: logsnr.Denoiser, path: logsnr.Path, steps: int, eta: float, noise: logsnr.samplers.Noise) -> Tensor:
    """x_0 of the latents x_T by DDIM: x_T is the draw "prior" of `noise`, the same whatever `steps` and η are."""
    x = logsnr.prior(path, noise)
    with torch.inference_mode():
        for step in logsnr.simulate(logsnr.DDIM(eta), model, x, path.grid(steps), noise=noise):
            x = step.x
    return x


@dataclass(frozen=True)
class Found:
    """steps: S, the longest last. pictures: (η, S, n, H, W), from the same n latents."""

    steps: tuple[int, ...]
    pictures: np.ndarray

    def likeness(self) -> np.ndarray:
        """Correlation of each picture with that of the longest chain, (η, S − 1, n)."""
        return correlation(self.pictures[:, :-1], self.pictures[:, -1:])

    def unrelated(self) -> float:
        """Mean correlation of pictures from different latents, η = 0, all steps."""
        last = self.pictures[0, -1]
        return float(np.mean([correlation(last, np.roll(last, k, 0)).mean() for k in range(1, len(last))]))


def correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the pixels of each two pictures (…, H, W)."""
    x, y = (each.reshape(*each.shape[:-2], -1) for each in (x, y))
    x, y = (each - each.mean(-1, keepdims=True) for each in (x, y))
    found: np.ndarray = (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return found


def measure(setting: Setting) -> Found:
    """The same latents by chains of many lengths, without noise and with all of it."""
    run = setting.trained("ddpm", "ddpm", minutes=2)
    steps = setting.of((10, 20, 50, 100, 200, 500, 1000), (10, 20, 50))
    count = setting.of(32, SHOWN)
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, *run.transform.shape))
    made = [[picture(run.clipped, run.model.path, s, eta, noise)[:, 0] for s in steps] for eta in ETAS]
    return Found(steps, torch.stack([torch.stack(row) for row in made]).numpy())


def checks(found: Found) -> tuple[Check, ...]:
    """The worst S from 50 on, at η = 0 and at η = 1; each is a mean over pictures."""
    last, like = found.steps[-1], found.likeness()
    long = [i for i, s in enumerate(found.steps[:-1]) if s >= 50] or [len(found.steps) - 2]
    still = min((like[0, i] for i in long), key=mean)
    noisy = max((like[1, i] for i in long), key=mean)
    first = found.steps[long[0]]
    return (
        above(f"η = 0: correlation with S = {last}, worst S from {first} on", mean(still), 0.95, standard_error(still)),
        below(f"η = 1: correlation with S = {last}, worst S from {first} on", mean(noisy), 0.6, standard_error(noisy)),
    )


def draw(found: Found, figure: Figure) -> None:
    """Correlation over S, and strips: each row of pictures has one x_T."""
    figure.set_size_inches(8.4, 4.4)
    axes = figure.subplot_mosaic([["curve", "0"], ["curve", "1"]], width_ratios=[1, 1.15])
    curve, last = axes["curve"], found.steps[-1]
    for eta, like, colour in zip(ETAS, found.likeness(), ("C0", "C1"), strict=True):
        curve.plot(found.steps[:-1], like, color=colour, alpha=0.12, linewidth=0.8)
        curve.plot(found.steps[:-1], like.mean(1), "o-", color=colour, label=f"η = {eta:g}, mean of {like.shape[1]}")
    curve.axhline(found.unrelated(), linestyle=":", color=style.ink(), label="pictures of other x_T")
    curve.set(xscale="log", xlabel="steps S", ylabel=f"correlation with the picture of S = {last}", ylim=(0, 1.03))
    curve.set_xticks(found.steps[:-1], [str(s) for s in found.steps[:-1]])
    curve.minorticks_off()
    curve.legend(loc="lower left")
    titles = ("η = 0: a row is one x_T, a column one S", "η = 1: the same x_T, another digit for each S")
    for i, (pictures, title) in enumerate(zip(found.pictures, titles, strict=True)):
        style.mosaic(axes[str(i)], pictures[:, :SHOWN].swapaxes(0, 1), columns=[str(s) for s in found.steps])
        axes[str(i)].set_title(title, color=f"C{i}")


EXHIBIT = Exhibit("DDIM, section 5.2 and eq. 13–14", ("M2", "M5", "M6"), measure, checks, draw, picture, trained=True)
