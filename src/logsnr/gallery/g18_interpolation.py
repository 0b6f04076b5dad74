"""Between two latents lies a digit; between two digits lies a double exposure.

DDIM at η = 0 maps each x_T to one picture and has an inverse, so two real pictures can be encoded, and the pictures of
the latents between them be looked at. "Between" is along the great circle: x_T lies in a thin shell of radius √D, and
slerp stays in it (DDIM, section 5.3 and eq. 67). The ends come back exactly; what lies between is again a digit.

A blend of the pixels is beside it: half-way it is two digits at once and less like data than slerp. So is the straight
line between the two latents, which leaves the shell: half-way its norm is about √½ of a latent's. That is commonly said
to spoil the picture. It does not here: a shorter latent is a lower temperature, its pictures are more typical than real
digits are (density above 1), and what is lost is variety. The two comparisons of density are shown as they fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import logsnr
from logsnr import metrics
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

FRAMES, SHOWN = 11, 3
NAMES = {"slerp": "great circle", "line": "straight line in x_T", "blend": "blend of pixels"}
COLOURS = dict(zip(NAMES, ("C0", "C1", "C3"), strict=True))
INNER = slice(1, FRAMES - 1)


def between(run: logsnr.run.Trained, first: np.ndarray, last: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Frames (n, F, H, W) from pictures to pictures: two ways between their latents, and one between their pixels."""
    recipe = run.edit_recipe(steps)
    a, b = (run.encode(ends, recipe=recipe, refinements=4) for ends in (first, last))
    shares = np.linspace(0, 1, FRAMES)
    ways = {
        "slerp": torch.stack([logsnr.slerp(a, b, w) for w in shares], 1),
        "line": torch.stack([(1 - w) * a + w * b for w in shares], 1),
    }
    frames = {
        name: run.decode(way.flatten(0, 1), recipe=recipe).reshape(len(a), FRAMES, 8, 8) for name, way in ways.items()
    }
    blend = [(1 - w) * first.astype(float) + w * last for w in shares]
    return {**frames, "blend": np.stack(blend, 1).round()}


@dataclass(frozen=True)
class Found:
    """frames: (n, F, 8, 8) of each way, grey levels 0 to 16. first, last: the pictures themselves, (n, 8, 8).

    density: of each frame against the training digits, (n, F), in units of that of held-out digits.
    """

    frames: Mapping[str, np.ndarray]
    first: np.ndarray
    last: np.ndarray
    density: Mapping[str, np.ndarray]

    def jump(self) -> np.ndarray:
        """The longest step between neighbouring frames in units of the mean one, (n,), along the great circle."""
        steps = np.linalg.norm(np.diff(self.frames["slerp"].astype(float), axis=1), axis=(2, 3))
        found: np.ndarray = steps.max(1) / steps.mean(1)
        return found

    def inner(self, name: str) -> np.ndarray:
        """Mean density of the inner frames of each pair, (n,)."""
        found: np.ndarray = self.density[name][:, INNER].mean(1)
        return found


def measure(setting: Setting) -> Found:
    """Pairs of held-out digits."""
    run, count = setting.trained("ddpm", "ddpm", minutes=2), setting.of(100, SHOWN)
    train, test = (logsnr.data.load("digits", split=split) for split in ("train", "test"))
    order = np.random.default_rng(setting.seed).permutation(len(test))
    first, last = test.raw(order[:count]), test.raw(order[count : 2 * count])
    frames = between(run, first, last, setting.of(30, 10))
    balls = metrics.Neighbourhoods.of(train.raw(range(len(train))).reshape(len(train), -1))
    real, _ = balls.hits(test.raw(range(len(test))).reshape(len(test), -1))
    density = {
        name: balls.hits(x.reshape(-1, 64))[0].reshape(count, FRAMES) / real.mean() for name, x in frames.items()
    }
    return Found(frames, first, last, density)


def checks(found: Found) -> tuple[Check, ...]:
    """Likeness of the inner frames, the ends, and the steps between neighbours."""
    slerp = found.inner("slerp")
    count = len(slerp)
    wrong = [
        int((found.frames["slerp"][:, place] != ends).sum()) for place, ends in ((0, found.first), (-1, found.last))
    ]
    beside = []
    for name in ("line", "blend"):
        gain = slerp - found.inner(name)
        beside.append(above(f"that density minus that of a {NAMES[name]}", mean(gain), 0, standard_error(gain)))
    half = found.density["slerp"][:, FRAMES // 2] - found.density["blend"][:, FRAMES // 2]
    jump = found.jump()
    return (
        above("density of inner frames, in units of real digits", mean(slerp), 0.7, standard_error(slerp)),
        *beside,
        above("half-way: density minus that of a blend of pixels", mean(half), 0, standard_error(half)),
        below(f"pixels of the 2 × {count} ends that changed", sum(wrong), 0),
        below(
            f"longest step between neighbours, in mean steps, mean of {count} pairs",
            mean(jump),
            3,
            standard_error(jump),
        ),
    )


def draw(found: Found, figure: Figure) -> None:
    """Strips of a few pairs in three ways, and the density along the way."""
    figure.set_size_inches(8.4, 4.2)
    grid = figure.add_gridspec(SHOWN, 2, width_ratios=[1.4, 1])
    for i in range(SHOWN):
        pictures = np.stack([found.frames[name][i] for name in NAMES]) / 8 - 1
        axes = figure.add_subplot(grid[i, 0])
        style.mosaic(axes, pictures, rows=["great circle", "line in x$_T$", "pixels"])
        for label, colour in zip(axes.get_yticklabels(), COLOURS.values(), strict=True):
            label.set_color(colour)
        if not i:
            axes.set_title("from one held-out digit to another")
    _draw_density(found, figure.add_subplot(grid[:, 1]))


def _draw_density(found: Found, axes: Axes) -> None:
    shares = np.linspace(0, 1, FRAMES)
    for name, text in NAMES.items():
        each = found.density[name]
        middle = each.mean(0)
        error = np.array([standard_error(of_pairs) for of_pairs in each.T])
        axes.plot(shares, middle, "o-", color=COLOURS[name], label=text)
        axes.fill_between(shares, middle - error, middle + error, color=COLOURS[name], alpha=0.2, linewidth=0)
    axes.axhline(1, color=style.ink(), linestyle=":", label="real digits")
    axes.set(xlabel="share of the way", ylabel="density against training digits", ylim=(0, None))
    axes.set_title(f"is it a digit? mean of {len(found.first)} pairs")
    axes.legend(loc="lower left")


EXHIBIT = Exhibit("DDIM, section 5.3, eq. 67", ("M5", "M6", "S9"), measure, checks, draw, between, trained=True)
