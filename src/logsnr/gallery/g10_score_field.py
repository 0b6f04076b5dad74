"""The score field: regression on the scores of kernels learns the score of the marginal.

Denoising score matching regresses on ∇log q(x_t | x_0) = −ε/σ, the score of one kernel, which points to the one clean
point that happened to be drawn. Yet what is learned is ∇log p(x_t): the best answer to a regression is the mean of its
targets given x_t, and E[∇log q(x_t | x_0) | x_t] = ∇log p(x_t). A note that has the network "predict the noise that was
added" speaks of the loss alone: the noise cannot be seen in x_t, and single kernel scores differ from the field.

Sliced score matching is given no kernel, only noisy points and random projections, and learns the same field. The
Fisher divergence ½E|s − ∇log p|², which neither objective can evaluate, falls under both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cosine_similarity

import logsnr
from logsnr import denoiser, nets, objectives, prediction
from logsnr.gallery import Check, Exhibit, Setting, above, below, mean, standard_error, style

LAW = logsnr.mixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-1.0, -0.6], [1.0, -0.4], [0.2, 1.0]]), 0.09)
PATH = logsnr.Path(logsnr.geometric(0.1, 3.0), logsnr.ve)
SIGMAS = (0.15, 0.5, 1.5)
LEVELS = [PATH.at_gamma(2 * torch.tensor(sigma).double().log()) for sigma in SIGMAS]
BATCH, MIDDLE = 512, 1  # the level at which kernel scores are averaged
SEEN_AT = (0, 30, 60, 120, 250, 500, 1000)  # optimiser steps after which the field is looked at
CELLS, HALF = 6, 2.4  # cells across the square [−HALF, HALF]²


def trained(name: str, steps: int, setting: Setting, test: list[Tensor]) -> tuple[logsnr.Denoiser, Tensor]:
    """A network trained by the objective "matching" or "sliced", and its Fisher divergence on the way (seen, σ)."""
    network, label = nets.MLP((2,), width=128, blocks=3), denoiser.LABELS["log_sigma"]
    inputs = denoiser.INPUTS["unit_power"]
    model = logsnr.Denoiser(network, PATH, prediction.TARGETS["eps"], label=label, inputs=inputs)
    parts = objectives.Setting(PATH, objectives.WEIGHTS["simple"], logsnr.Uniform(PATH.schedule), "small", None)
    objective = objectives.OBJECTIVES[name](parts)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    divergences = [divergence(model, test)]
    for step, x0 in enumerate(LAW.sample(steps * BATCH, setting.seed).float().split(BATCH)):
        draws = logsnr.Draws(setting.seed, step, torch.arange(BATCH), BATCH)
        optimiser.zero_grad()
        objective(model, x0, draws).total.mean().backward()
        optimiser.step()
        decay.step()
        if step + 1 in SEEN_AT:
            divergences.append(divergence(model, test))
    return model, torch.stack(divergences)


def field(model: logsnr.Denoiser, x: Tensor, level: logsnr.Level) -> Tensor:
    """The network's score."""
    with torch.no_grad():
        return model(x.float(), level).score.double()


def truth(x: Tensor, level: logsnr.Level) -> Tensor:
    """∇log p of the noisy law."""
    return LAW.score(x, level.alpha, level.sigma)


def divergence(model: logsnr.Denoiser, test: list[Tensor]) -> Tensor:
    """½E|s − ∇log p|² for each σ, in units of that of no field at all, s = 0."""
    exact = [truth(x, level) for x, level in zip(test, LEVELS, strict=True)]
    errors = [field(model, x, level) - score for x, level, score in zip(test, LEVELS, exact, strict=True)]
    return torch.stack([(e**2).sum() / (score**2).sum() for e, score in zip(errors, exact, strict=True)])


def cosine(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Mean cosine between two fields (N, 2) at the same points, and its standard error."""
    values = cosine_similarity(one, other, dim=1)
    return mean(values), standard_error(values)


@dataclass(frozen=True)
class Kernels:
    """Scores of kernels at points x (N, 2), and by cell of a square: mean place, mean kernel and marginal score.

    off: the difference of the two means in its standard errors, one for each cell and coordinate.
    """

    x: Tensor
    scores: Tensor
    places: Tensor
    means: Tensor
    marginal: Tensor
    off: Tensor


def kernels(count: int, setting: Setting) -> Kernels:
    """Kernel scores averaged over the noisy points that fall into a cell, which is a mean given x_t."""
    level, draws = LEVELS[MIDDLE], setting.draws(count)
    x0 = LAW.sample(count, setting.seed)
    x = level.perturb(x0, draws.normal("eps", x0))
    scores = -(x - x0) / level.sigma**2
    marginal = truth(x, level)
    column, row = torch.floor((x + HALF) / (2 * HALF / CELLS)).long().unbind(1)
    cell = torch.where((x.abs() < HALF).all(1), CELLS * column + row, -1)
    chosen = [cell == k for k in range(CELLS**2) if (cell == k).sum() >= 200]
    places, means, exact = (torch.stack([v[c].mean(0) for c in chosen]) for v in (x, scores, marginal))
    difference = scores - marginal
    off = torch.stack([difference[c].mean(0) / (difference[c].std(0) / c.sum() ** 0.5) for c in chosen])
    return Kernels(x, scores, places, means, exact, off)


@dataclass(frozen=True)
class Found:
    """Two networks, the noisy points (N, 2) of each σ that they are tried at, divergences, and scores of kernels."""

    matching: logsnr.Denoiser
    sliced: logsnr.Denoiser
    test: list[Tensor]
    divergences: tuple[Tensor, Tensor]
    kernels: Kernels


def measure(setting: Setting) -> Found:
    """Two networks from one start, by two objectives; and averages of kernel scores."""
    count, steps = setting.of(4000, 1000), setting.of(1000, 60)
    x0, draws = LAW.sample(count, setting.seed + 10**6), setting.draws(count, step=10**6)
    test = [level.perturb(x0, draws.normal("eps", x0)) for level in LEVELS]
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        matching, first = trained("matching", steps, setting, test)
        torch.manual_seed(setting.seed)
        sliced, second = trained("sliced", steps, setting, test)
    return Found(matching, sliced, test, (first, second), kernels(setting.of(200_000, 50_000), setting))


def checks(found: Found) -> tuple[Check, ...]:
    """Cosines where the density is: at noisy data."""
    exact = [truth(x, level) for x, level in zip(found.test, LEVELS, strict=True)]
    fields = [
        [field(model, x, level) for x, level in zip(found.test, LEVELS, strict=True)]
        for model in (found.matching, found.sliced)
    ]
    with_truth = [cosine(one, score) for one, score in zip(fields[0], exact, strict=True)]
    together, error = min(cosine(one, other) for one, other in zip(*fields, strict=True))
    single = cosine(found.kernels.scores, truth(found.kernels.x, LEVELS[MIDDLE]))
    return (
        *(
            above(f"mean cosine of the learned and the exact score, σ = {sigma}", value, 0.95, of_value)
            for sigma, (value, of_value) in zip(SIGMAS, with_truth, strict=True)
        ),
        below(f"single kernel scores: the same, σ = {SIGMAS[MIDDLE]}", single[0], 0.9, single[1]),
        below(
            "E[kernel score | x_t in a cell] from the marginal score, most over cells, in standard errors",
            float(found.kernels.off.abs().max()),
            4,
        ),
        above("mean cosine of the fields of denoising and sliced matching, least over σ", together, 0.95, error),
        *(
            below(f"Fisher divergence, {name} matching: end over start, most over σ", float(values[-1].max()), 0.1)
            for name, values in zip(("denoising", "sliced"), found.divergences, strict=True)
        ),
    )


def _arrows(axes: Axes, found: Found, index: int) -> None:
    """The exact and the learned field at one σ, where the density is."""
    level, half = LEVELS[index], 2 + 1.4 * SIGMAS[index]
    fine, coarse = (torch.linspace(-half, half, n, dtype=torch.float64) for n in (81, 13))
    density = LAW.log_prob(torch.cartesian_prod(fine, fine), level.alpha, level.sigma).exp()
    axes.contour(fine, fine, density.reshape(81, 81).T, levels=5, colors="C6", linewidths=0.7)
    x = torch.cartesian_prod(coarse, coarse)
    x = x[LAW.log_prob(x, level.alpha, level.sigma).exp() > 0.01 * density.max()]
    for score, colour, width in ((truth(x, level), style.ink(), 0.011), (field(found.matching, x, level), "C0", 0.005)):
        axes.quiver(*x.T, *score.T, color=colour, width=width, headwidth=3, headlength=3, headaxislength=3)
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", title=f"σ = {SIGMAS[index]}", xlabel="x₁")


def _means(axes: Axes, shown: Kernels) -> None:
    """Scores of single kernels, and their mean in each cell over the marginal score."""
    for place, score, colour, width in (
        (shown.x[:150], shown.scores[:150], "C6", 0.003),
        (shown.places, shown.marginal, style.ink(), 0.015),
        (shown.places, shown.means, "C2", 0.007),
    ):
        axes.quiver(
            *place.T, *score.T, color=colour, width=width, scale=40, headwidth=3, headlength=3, headaxislength=3
        )
    for row, (text, colour) in enumerate((("one kernel", "C6"), ("mean", "C2"), ("marginal", style.ink()))):
        axes.text(-0.96 * HALF, HALF * (0.86 - 0.13 * row), text, color=colour, fontsize=8.5)
    axes.set(xlim=(-HALF, HALF), ylim=(-HALF, HALF), aspect="equal", title="scores of kernels, σ = 0.5")
    axes.set(xlabel="x₁", ylabel="x₂")


def draw(found: Found, figure: Figure) -> None:
    """Exact and learned arrows at three σ; kernel scores and their means; the divergence on the way."""
    figure.set_size_inches(9, 6.2)
    grid = figure.add_gridspec(2, 3)
    fields = [figure.add_subplot(grid[0, index]) for index in range(3)]
    for index, axes in enumerate(fields):
        _arrows(axes, found, index)
    fields[0].set_ylabel("x₂")
    fields[0].text(0.03, 0.1, "exact", transform=fields[0].transAxes)
    fields[0].text(0.03, 0.03, "learned by denoising", color="C0", transform=fields[0].transAxes)
    _means(figure.add_subplot(grid[1, 0]), found.kernels)
    right = figure.add_subplot(grid[1, 1:])
    for values, colour, name in zip(found.divergences, ("C0", "C1"), ("denoising", "sliced"), strict=True):
        right.plot(SEEN_AT[: len(values)], values.mean(1), "o-", color=colour, label=f"{name} score matching")
    right.set_xscale("symlog", linthresh=30)
    right.set(yscale="log", xlabel="optimiser steps", ylabel="error over that of s = 0", title="Fisher divergence")
    right.set(xticks=SEEN_AT, xticklabels=SEEN_AT)
    right.minorticks_off()
    right.legend()


EXHIBIT = Exhibit("NCSN, §2–3; Vincent 2011", ("N0", "N2", "N5"), measure, checks, draw, trained, trained=True)
