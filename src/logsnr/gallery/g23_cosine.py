"""Cosine keeps information: its first reverse steps are needed, the linear schedule's are not.

DDPM's linear β has destroyed the data long before T: a third of its steps has ᾱ below 0.01. The cosine schedule spends
its steps where there is something left. So the first 20 % of the reverse steps may be left out under the linear
schedule, with little loss, and not under the cosine one.

The paper shows it on the FID of networks. Here the denoiser is exact, for a mixture of ten normals with the means and
variances of the ten digits; the walk starts from N(0, I) at the level where the steps left out would have ended, and
what is measured is the Fréchet distance of the samples to the mixture. DDIM carries all of the wrong start to its end.
DDPM's chain, whose denoiser is exact here, forgets much of it in its fresh noise: there the loss is seen at 50 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import betas, kernels, metrics, samplers
from logsnr.gallery import Check, Exhibit, Setting, above, below, standard_error, style

BETAS = {"linear": betas.linear(1000), "cosine": betas.cosine(1000)}
PATHS = {name: logsnr.Path(logsnr.table_of_betas(beta), logsnr.vp) for name, beta in BETAS.items()}
LITTLE, SKIPPED, MORE = 1e-2, 0.2, 0.5  # an ᾱ that is nearly nothing; shares of reverse steps that are left out
FOLDS = 4  # for standard errors


@dataclass(frozen=True)
class Walk:
    """What the walks have in common."""

    sampler: logsnr.Sampler
    model: logsnr.Oracle
    steps: int
    noise: samplers.Noise


def without_first(path: logsnr.Path, share: float, walk: Walk) -> Tensor:
    """Samples by the last 1 − share of the reverse steps, from N(0, I) as if nothing were known where they start."""
    first = round(share * walk.steps)
    start, levels = walk.noise(0, "prior"), path.grid(walk.steps)[first:]
    *_, last = logsnr.simulate(
        walk.sampler, walk.model, start, levels, noise=lambda step, draw: walk.noise(first + step, draw)
    )
    return last.x


@dataclass(frozen=True)
class Found:
    """By schedule: alpha_bar (T,); strip, x̂0 of a noised digit at seven t; known, nats of x_0 in x_t at 0.8 T.

    distance: Fréchet, by schedule and share left out, of DDIM; ancestral: the same of DDPM's chain. rise: of DDIM's at
    SKIPPED, one a fold of the samples. another: distance of as many examples of the mixture itself.
    """

    alpha_bar: dict[str, Tensor]
    strip: dict[str, Tensor]
    known: dict[str, float]
    distance: dict[str, dict[float, float]]
    ancestral: dict[str, dict[float, float]]
    rise: dict[str, Tensor]
    another: float


def digits() -> tuple[Tensor, logsnr.Mixture]:
    """A digit, (1, 8, 8), and the mixture of one normal a class."""
    data = logsnr.data.load("digits")
    x, classes = data.batch(range(len(data)))[0].double(), torch.as_tensor(data.labels)
    each = [x[classes == k] for k in classes.unique()]
    weights = torch.tensor([len(of) / len(x) for of in each])
    law = logsnr.mixture(weights, torch.stack([of.mean(0) for of in each]), torch.stack([of.var(0) for of in each]))
    return each[0][0], law


def fold_rises(with_all: Tensor, with_fewer: Tensor, real: Tensor) -> Tensor:
    """How much farther from `real` the second samples are, fold by fold; the two share their noise."""
    folds = [each.flatten(1).numpy() for samples in (with_all, with_fewer) for each in samples.chunk(FOLDS)]
    far = [metrics.frechet_distance(fold, real.flatten(1).numpy()) for fold in folds]
    return torch.tensor(far[FOLDS:]) - torch.tensor(far[:FOLDS])


def measure(setting: Setting) -> Found:
    """ᾱ of the two schedules; samples of both with ever fewer steps."""
    digit, law = digits()
    steps, count = setting.of(80, 40), setting.of(1_500, 600)
    shares = setting.of((0.0, 0.1, SKIPPED, 0.3, 0.4, MORE), (0.0, SKIPPED, MORE))
    noise = logsnr.seeded(setting.seed, torch.arange(count), torch.empty(count, *law.shape, dtype=torch.float64))
    real = law.sample(20_000, setting.seed + 1)

    def distance(samples: Tensor) -> float:
        return metrics.frechet_distance(samples.flatten(1).numpy(), real.flatten(1).numpy())

    ddim, ddpm = (Walk(each, logsnr.Oracle(law), steps, noise) for each in (samplers.DDIM(), samplers.Ancestral()))
    alpha_bar, strip, known, distances, ancestral, rise = {}, {}, {}, {}, {}, {}
    times = torch.tensor([71, 214, 357, 500, 643, 786, 929]).double() / 1000
    for name, path in PATHS.items():
        alpha_bar[name] = path.at(torch.arange(1, 1001).double() / 1000).alpha ** 2
        eps = setting.draws(1).normal("strip", digit.unsqueeze(0)).expand(len(times), *digit.shape)
        level = path.at(times)
        strip[name] = logsnr.Oracle(law)(level.perturb(digit.expand_as(eps), eps), level).x0
        known[name] = float(kernels.prior_kl(law.sample(2_000, setting.seed), path.at(1 - SKIPPED), 1.0).mean())
        samples = {share: without_first(path, share, ddim) for share in shares}
        distances[name] = {share: distance(each) for share, each in samples.items()}
        ancestral[name] = {share: distance(without_first(path, share, ddpm)) for share in (0.0, SKIPPED, MORE)}
        rise[name] = fold_rises(samples[0.0], samples[SKIPPED], real)
    another = distance(law.sample(count, setting.seed + 2))
    return Found(alpha_bar, strip, known, distances, ancestral, rise, another)


def checks(found: Found) -> tuple[Check, ...]:
    """The shares of the paper's figure; the losses by skipping, beside what finitely many samples cost anyway."""
    loss = {name: of[SKIPPED] - of[0.0] for name, of in found.distance.items()}
    chain = {name: of[MORE] - of[0.0] for name, of in found.ancestral.items()}
    errors = {name: standard_error(of) for name, of in found.rise.items()}
    more = found.rise["cosine"] - found.rise["linear"]
    share = {name: float((of < LITTLE).double().mean()) for name, of in found.alpha_bar.items()}
    lost = f"Fréchet distance lost without the first {SKIPPED:.0%}, DDIM"
    known = found.known["cosine"] / found.known["linear"]
    return (
        above(f"{lost}, cosine − linear", loss["cosine"] - loss["linear"], 0.08, standard_error(more)),
        below(f"{lost}, linear", loss["linear"], 0.02, errors["linear"]),
        above(f"{lost}, cosine", loss["cosine"], 0.1, errors["cosine"]),
        above(f"the same without {MORE:.0%}, DDPM's chain, cosine − linear", chain["cosine"] - chain["linear"], 0.1),
        above(f"share of steps with ᾱ < {LITTLE}, linear", share["linear"], 0.30),
        below(f"share of steps with ᾱ < {LITTLE}, cosine", share["cosine"], 0.08),
        above("KL(q(x_t | x_0) ‖ N(0, I)) at t = 0.8 T, cosine over linear", known, 10),
    )


def draw(found: Found, figure: Figure) -> None:
    """A digit on its way under both schedules, ᾱ, and the distance against the share of steps left out."""
    panels = figure.subplot_mosaic(
        [["linear", "loss"], ["cosine", "loss"], ["curve", "loss"]], height_ratios=[1, 1, 3.2], width_ratios=[1.35, 1]
    )
    curve, loss, colours = panels["curve"], panels["loss"], {"linear": "C1", "cosine": "C0"}
    t = torch.arange(1, 1001)
    for name, colour in colours.items():
        row = torch.cat(
            [torch.nn.functional.pad(each.squeeze(0), (0, 1), value=torch.nan) for each in found.strip[name]], 1
        )
        panels[name].imshow(row, cmap="gray", vmin=-1, vmax=1, aspect="auto")
        panels[name].set_axis_off()
        panels[name].text(-0.02, 0.5, name, color=colour, ha="right", va="center", transform=panels[name].transAxes)
        of = found.alpha_bar[name]
        curve.plot(t, of, color=colour)
        curve.fill_between(t, of, LITTLE, where=of < LITTLE, color=colour, alpha=0.3, lw=0)
        for distance, line in ((found.distance[name], "o-"), (found.ancestral[name], "s:")):
            loss.plot([100 * share for share in distance], list(distance.values()), line, color=colour)
    panels["linear"].set_title("What is left of a digit, x̂$_0$(x$_t$)")
    curve.axhline(LITTLE, color="C6", ls=":")
    curve.axvline(800, color=style.ink(), ls="--", lw=1)
    curve.text(895, 1.7e-5, "left out", ha="center")
    curve.set(yscale="log", ylim=(1e-5, 1.5), xlim=(0, 1000), xlabel="t", ylabel="ᾱ$_t$")
    loss.axhline(found.another, color=style.ink(), ls=":")
    loss.text(100 * max(found.distance["linear"]), found.another * 0.95, "true samples", va="top", ha="right")
    loss.axvline(100 * SKIPPED, color=style.ink(), ls="--", lw=1)
    loss.plot([], [], "o-", color="C6", label="DDIM")
    loss.plot([], [], "s:", color="C6", label="DDPM's chain")
    loss.legend(loc="upper left")
    loss.set(yscale="log", xlabel="first reverse steps left out, %", title="Fréchet distance to the data's law")
    ticks = (0.1, 0.2, 0.5, 1, 2)
    loss.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    loss.minorticks_off()


EXHIBIT = Exhibit("Improved DDPM, section 3.2, fig. 3–5", ("I1", "D1", "M2"), measure, checks, draw, without_first)
