"""One model, every view: one DDPM is sampled as six papers would, and measured in three ways.

A network that estimates noise at every level γ is all that any of the papers needs: x̂0, ε̂ and the score are one
answer. So one training serves DDPM's chain, DDIM, Langevin correctors, the reverse SDE, the probability flow and VDM's
sampler, in the units of any of them. Its likelihood is bounded with T steps or in continuous time, or computed by the
flow.

What a sampler may not do is to mix them. "DDIM is DDPM without the noise" is a common note: DDPM's mean without its
noise is neither: all its pictures collapse to one or two, in the last row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import likelihood, metrics, samplers
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

SHOWN, WRONG = 8, "DDPM, mean alone"
View = tuple[logsnr.Sampler, int, str]


def views() -> dict[str, View]:
    """Sampler, steps and the end of the grid: the papers differ in nothing else."""
    langevin = samplers.PredictorCorrector(logsnr.Ancestral("small"), samplers.CORRECTORS["langevin"](snr=0.16))
    return {
        "DDPM, ancestral": (logsnr.Ancestral("large"), 100, "clean"),
        "DDIM, deterministic": (logsnr.DDIM(0.0), 25, "clean"),
        "NCSN, Langevin": (langevin, 50, "clean"),
        "SDE, reversed": (logsnr.ReverseDiffusion(), 100, "clean"),
        "SDE, probability flow": (samplers.Multistep(3), 15, "clean"),
        "VDM, ancestral": (logsnr.Ancestral("small"), 100, "lowest"),
        WRONG: (logsnr.Ancestral("small"), 100, "clean"),
    }


@dataclass(frozen=True)
class Found:
    """pictures: (n, 8, 8) by view, from the same latents. frechet: their distance to the training digits.

    frechet is in units of that of as many held-out digits: 1 is as good as real ones.

    units: largest difference of DDIM's pictures in variance-exploding units. bits: per dimension, of each digit.
    """

    pictures: Mapping[str, np.ndarray]
    frechet: Mapping[str, float]
    units: float
    bits: Mapping[str, Tensor]


def measure(setting: Setting) -> Found:
    """Pictures by every view, and the likelihood by every estimator."""
    run, count = setting.trained("ddpm", "ddpm", minutes=2), setting.of(192, SHOWN)
    path = run.model.path
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, *run.transform.shape))
    made = {
        name: walked(run.clipped, path, view, silent if name == WRONG else noise, logsnr.prior(path, noise))
        for name, view in views().items()
    }
    exploding = logsnr.Path(path.schedule, logsnr.ve)
    start = logsnr.prior(path, noise) / path.highest.alpha.float()
    other = walked(run.clipped, exploding, views()["DDIM, deterministic"], noise, start)
    train, test = (logsnr.data.load("digits", split=split) for split in ("train", "test"))
    rows = train.raw(range(len(train))).reshape(len(train), -1)
    pictures = {name: run.transform.decode(x) for name, x in made.items()}
    reals = (test.raw(range(count)), *pictures.values())
    real, *distances = (metrics.frechet_distance(x.reshape(count, -1), rows) for x in reals)
    frechet = {name: distance / real for name, distance in zip(pictures, distances, strict=True)}
    units = float((other - made["DDIM, deterministic"]).abs().max())
    return Found(pictures, frechet, units, measured(run, setting))


@torch.inference_mode()
def walked(model: logsnr.denoiser.Model, path: logsnr.Path, view: View, noise: samplers.Noise, start: Tensor) -> Tensor:
    """x0 (n, *), x/α of the last level."""
    sampler, steps, end = view
    *_, last = logsnr.simulate(sampler, model, start, path.grid(steps, end), noise=noise)
    return (last.x / last.level.alpha.float()).float()


def silent(step: int, draw: str) -> Tensor:
    """What it is to leave the noise out."""
    return torch.zeros(())


def measured(run: logsnr.run.Trained, setting: Setting) -> dict[str, Tensor]:
    """Bits/dim of held-out digits by three estimators."""
    given = (run.model.path, run.config.variance, run.transform.lattice)
    ways = {
        f"bound, T = {run.model.path.schedule.steps}": (likelihood.BOUNDS["chain"](*given), setting.of(48, 2)),
        "bound, T = ∞": (likelihood.vlb_inf(*given), setting.of(48, 2)),
        "probability flow": (likelihood.ode(*given, tolerance=setting.of(None, 1.0)), 1),
    }
    test, found = logsnr.data.load("digits", split="test"), {}
    for name, (estimator, repeats) in ways.items():
        (record,) = run.records(
            test, {name: estimator}, seed=setting.seed, repeats=repeats, index=range(setting.of(64, 4))
        ).values()
        found[name] = logsnr.bits_per_dim(record.examples, 64)
    return found


def checks(found: Found) -> tuple[Check, ...]:
    """Every view makes digits; the deterministic ones make the same; the estimators agree."""
    right = {name: ratio for name, ratio in found.frechet.items() if name != WRONG}
    worst = max(right, key=right.__getitem__)
    flow, ddim = (found.pictures[name].reshape(-1, 64) for name in ("SDE, probability flow", "DDIM, deterministic"))
    alike = np.array([np.corrcoef(one, other)[0, 1] for one, other in zip(flow, ddim, strict=True)])
    bits = list(found.bits.values())
    means, steps = list(map(mean, bits)), bits[0] - bits[1]
    return (
        below(f"Fréchet distance, worst of six views ({worst}), in units of real digits", right[worst], 2),
        above(f"Fréchet distance of {WRONG}", found.frechet[WRONG], 5),
        above(
            "DDIM and the probability flow: correlation of pictures from one x_T",
            mean(alike),
            0.95,
            standard_error(alike),
        ),
        below("DDIM in variance-exploding units: largest difference of a pixel", found.units, 1e-2),
        above(
            "bits/dim: bound with T steps minus bound at T = ∞",
            mean(steps),
            0,
            standard_error(steps),
        ),
        below("bits/dim: largest difference between the three estimators", max(means) - min(means), 0.5),
    )


def draw(found: Found, figure: Figure) -> None:
    """A row of pictures a view, how much they are like digits, and the code length by each estimator."""
    figure.set_size_inches(8.4, 4.8)
    axes = figure.subplot_mosaic(
        [["pictures", "frechet"], ["pictures", "bits"]], width_ratios=[1.7, 1], height_ratios=[1.6, 1]
    )
    rows = list(found.pictures)
    sheet = np.stack([found.pictures[name][:SHOWN] for name in rows]) / 8.0 - 1
    style.mosaic(axes["pictures"], sheet, rows=[name.replace(", ", "\n") for name in rows])
    axes["pictures"].set_title("the same weights; in each column the same x_T")
    axes["pictures"].get_yticklabels()[-1].set_color("C1")
    _draw_frechet(found, axes["frechet"])
    places = range(len(found.bits))[::-1]
    for place, bits in zip(places, found.bits.values(), strict=True):
        middle = mean(bits)
        axes["bits"].errorbar(middle, place, xerr=standard_error(bits), fmt="o", color="C0", capsize=3)
        axes["bits"].annotate(f"{middle:.2f}", (middle, place), (0, 6), textcoords="offset points", ha="center")
    axes["bits"].set_yticks(places, list(found.bits))
    axes["bits"].set(xlabel="bits/dim of held-out digits", title="one likelihood", ylim=(-0.5, len(found.bits) - 0.3))


def _draw_frechet(found: Found, axes: Axes) -> None:
    places = range(len(found.frechet))[::-1]
    colours = ["C1" if name == WRONG else "C0" for name in found.frechet]
    axes.scatter(list(found.frechet.values()), places, color=colours, zorder=3)
    for place, ratio in zip(places, found.frechet.values(), strict=True):
        axes.annotate(f"{ratio:.2g}", (ratio, place), (6, -3), textcoords="offset points")
    axes.axvline(1, color=style.ink(), linestyle=":")
    axes.set_yticks(places, [name.replace(", ", "\n") for name in found.frechet])
    axes.set(xscale="log", xlabel="Fréchet distance (1: real digits)", title="are they digits?", xlim=(0.6, 90))
    axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    axes.minorticks_off()


EXHIBIT = Exhibit(
    "DDPM algorithm 2, DDIM 12, Score SDE 6 and 13, VDM appendix A",
    ("D10", "M2", "S2", "S3", "S7", "V6", "V12", "S8"),
    measure,
    checks,
    draw,
    views,
    trained=True,
)
