"""Fewer steps of the same model: with ten, no noise is best, and DDPM's own noise ruins the picture.

One training serves every sub-sequence τ of the T levels and every η. The table is that of DDIM (table 1): Fréchet
distance to the training digits for S steps and η from 0 (DDIM) to 1 (DDPM's posterior) and σ̂ (DDPM's larger variance).
With many steps the noise is harmless. With few, each step would have to hit the width of a law that is no Gaussian, and
η = 0 asks for a mean alone. (A little noise, η = 0.2, cannot be told from none here.) The time is that of S
evaluations: it is sampling that became shorter, not training.

Two things are mixed up easily. σ̂ replaces σ(1) in the noise alone: in the coefficient of ε̂ it could exceed σ_s. And τ
is a choice: as many steps spent nearer to the data (quadratic τ) are as good or a little better, which is little beside
what the noise does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import logsnr
from logsnr import level, metrics
from logsnr.gallery import Check, Exhibit, Setting, above, below, style

SAMPLERS = {f"η = {eta:g}": logsnr.DDIM(eta) for eta in (0, 0.2, 0.5, 1)} | {"σ̂": logsnr.DDIM(1, "large")}
ETA_0, NEXT, LARGE, QUADRATIC = "η = 0", "η = 0.2", "σ̂", "η = 0, quadratic τ"
WIDTH, GROUP = 64, 256  # examples in a call of the network, and in a Fréchet distance


def sub_sequence(path: logsnr.Path, steps: int, power: int = 1) -> logsnr.Level:
    """τ_i = ⌊c iᵖ⌋ + 1, i = 0 … S − 1, of DDIM's program, from the noise down; then the clean level.

    power: 1 for linear τ, which ends at (S − 1)/S of T; 2 for quadratic τ, which ends at 0.8 T.
    """
    total = path.schedule.steps
    i = torch.arange(steps - 1, -1, -1, dtype=torch.float64)
    c = total / steps if power == 1 else 0.8 * total / (steps - 1) ** 2
    tau = torch.floor(c * i**power + 1e-9) + 1
    return path.at(tau / total).then(level.clean())


@dataclass(frozen=True)
class Cell:
    """One entry of the table. samples: (N, D). seconds: of the processor for one example, one for each round."""

    samples: np.ndarray
    seconds: list[float]

    def distance(self, real: np.ndarray, rows: np.ndarray | None = None) -> float:
        """Fréchet distance of `GROUP` samples, mean over the groups that there are: its bias depends on their number.

        rows: of other samples than all.
        """
        samples = self.samples if rows is None else self.samples[rows]
        groups = np.array_split(samples, max(1, len(samples) // GROUP))
        return float(np.mean([metrics.frechet_distance(group, real) for group in groups]))


@dataclass(frozen=True)
class Found:
    """cells: by number of steps and sampler. train: (N, D), the real digits. real: distance of held-out ones."""

    cells: Mapping[tuple[int, str], Cell]
    train: np.ndarray
    real: float
    seed: int

    def steps(self) -> list[int]:
        """S, ascending."""
        return sorted({steps for steps, _ in self.cells})

    def distance(self, steps: int, name: str) -> float:
        """Of a cell to the training digits."""
        return self.cells[steps, name].distance(self.train)

    def seconds(self, steps: int) -> float:
        """Of the processor for one example: the median of all rounds and samplers."""
        return float(np.median([cell.seconds for (s, _), cell in self.cells.items() if s == steps]))

    def worse(self, name: str) -> tuple[float, float]:
        """Distance of a sampler minus that of η = 0 in the fewest steps, and its error over examples drawn anew."""
        one, other = (self.cells[self.steps()[0], each] for each in (name, ETA_0))
        rng, count = np.random.default_rng(self.seed), len(one.samples)
        drawn = [rng.integers(count, size=count) for _ in range(30)]
        return (
            one.distance(self.train) - other.distance(self.train),
            float(np.std([one.distance(self.train, rows) - other.distance(self.train, rows) for rows in drawn])),
        )


def measure(setting: Setting) -> Found:
    """The table, its cells in turn, so that whatever else the machine does meets all of them alike."""
    run = setting.trained("ddpm", "ddpm", minutes=2)
    rounds = setting.of({10: 16, 20: 4, 50: 4, 100: 4}, {5: 1, 10: 1})
    path, cells = run.model.path, {}
    jobs = {(s, name): (sub_sequence(path, s), sampler) for s in rounds for name, sampler in SAMPLERS.items()}
    jobs |= {(s, QUADRATIC): (sub_sequence(path, s, 2), SAMPLERS[ETA_0]) for s in rounds}
    cells = {key: Cell(np.empty((0, 64)), []) for key in jobs}
    for number in range(max(rounds.values())):
        index = torch.arange(number * WIDTH, (number + 1) * WIDTH)
        noise = logsnr.seeded(setting.seed, index, torch.empty(WIDTH, *run.transform.shape))
        for key in [key for key in jobs if number < rounds[key[0]]]:
            grid, sampler = jobs[key]
            started = time.process_time()
            made = walked(run.clipped, grid, sampler, noise)
            seconds = (time.process_time() - started) / WIDTH
            old = cells[key]
            cells[key] = Cell(np.concatenate([old.samples, made]), [*old.seconds, seconds])
    shared = min(rounds.values())
    cells = {key: Cell(cell.samples, cell.seconds[:shared]) for key, cell in cells.items()}
    train, test = (pixels(split) for split in ("train", "test"))
    return Found(cells, train, Cell(test[:GROUP], []).distance(train), setting.seed)


@torch.inference_mode()
def walked(
    model: logsnr.denoiser.Model, grid: logsnr.Level, sampler: logsnr.Sampler, noise: logsnr.samplers.Noise
) -> np.ndarray:
    """Samples (B, D); x_τ of the highest level is the same for all."""
    *_, last = logsnr.simulate(sampler, model, noise(0, "prior"), grid, noise=noise)
    found: np.ndarray = last.x.flatten(1).numpy()
    return found


def pixels(split: str) -> np.ndarray:
    """Real digits in model units, (N, D)."""
    data = logsnr.data.load("digits", split=split)
    found: np.ndarray = data.batch(range(len(data)))[0].flatten(1).numpy()
    return found


def checks(found: Found) -> tuple[Check, ...]:
    """At the fewest steps: η = 0 the best, σ̂ the worst; time in proportion to S."""
    few = found.steps()[0]
    at_few = {name: found.distance(few, name) for name in SAMPLERS}
    rival = min((name for name in SAMPLERS if name not in (ETA_0, NEXT)), key=at_few.__getitem__)
    second = max((name for name in SAMPLERS if name != LARGE), key=at_few.__getitem__)
    (gap, error), (near, near_error) = found.worse(rival), found.worse(NEXT)
    rates = np.array([found.seconds(s) / s for s in found.steps()])
    off = float(np.abs(rates / rates.mean() - 1).max())
    moved = abs(at_few[ETA_0] - found.distance(few, QUADRATIC)) / abs(at_few[LARGE] - at_few[ETA_0])
    return (
        above(f"S = {few}: Fréchet distance of {rival} minus that of η = 0", gap, 0, error),
        above(
            f"S = {few}: that of {NEXT} minus that of η = 0: not below it by two errors",
            near,
            -2 * near_error,
            near_error,
        ),
        above(f"S = {few}: distance with σ̂ over the next worst, {second}", at_few[LARGE] / at_few[second], 1),
        below("processor seconds a step, largest departure from their mean over S", off, 0.1),
        below(f"S = {few}: what quadratic τ changes at η = 0, in what σ̂ changes", moved, 0.5),
    )


def draw(found: Found, figure: Figure) -> None:
    """The table of DDIM, and the distances as curves."""
    table, curve = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_table(found, table)
    colours = ("C0", "C5", "C2", "C4", "C1")
    for name, colour in zip(SAMPLERS, colours, strict=True):
        curve.plot(found.steps(), [found.distance(s, name) for s in found.steps()], "o-", color=colour, label=name)
    quadratic = [found.distance(s, QUADRATIC) for s in found.steps()]
    curve.plot(found.steps(), quadratic, "o--", color=colours[0], label=QUADRATIC)
    curve.axhline(found.real, color=style.ink(), linestyle=":", label="held-out digits")
    curve.set(xscale="log", yscale="log", xlabel="steps S", ylabel="Fréchet distance to training digits")
    curve.set_xticks(found.steps(), [str(s) for s in found.steps()])
    curve.set_yticks([0.5, 0.7, 1, 1.4, 2, 2.8], ["0.5", "0.7", "1", "1.4", "2", "2.8"])
    curve.minorticks_off()
    curve.legend(loc="upper right")


def _draw_table(found: Found, axes: Axes) -> None:
    names = [*SAMPLERS, QUADRATIC]
    rows = [[f"{found.distance(s, name):.2f}" for s in found.steps()] for name in names]
    rows.append([f"{1000 * found.seconds(s):.1f}" for s in found.steps()])
    labels = [*names, "ms an example"]
    axes.axis("off")
    made = axes.table(
        rows, rowLabels=labels, colLabels=[f"S = {s}" for s in found.steps()], loc="center", edges="horizontal"
    )
    made.scale(0.85, 2.1)
    for cell in made.get_celld().values():
        cell.set_edgecolor("C6")
        cell.get_text().set_color(style.ink())
    axes.set_title(f"Fréchet distance of {GROUP} samples (held-out digits: {found.real:.2f})")


EXHIBIT = Exhibit(
    "DDIM, section 5.1 and table 1", ("M2", "M4", "I5"), measure, checks, draw, sub_sequence, trained=True
)
