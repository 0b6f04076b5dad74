"""Importance sampling calms the gradient of L_vlb, and leaves its mean alone.

The terms of the bound differ by orders of magnitude: those next to the data weigh hundreds of times as much as those
in the noise. Drawn alike, a few rare terms make nearly all of the gradient's variance, and L_vlb is hard to train.
Drawn with p_t ∝ √E[L_t²], learned from the last losses of each t, and weighed by 1/(T p_t), every draw says about as
much as any other (Improved DDPM, section 3.3).

The figure is the gradient-noise scale tr Cov(g)/|E g|² of one example's gradient g: how many examples a batch needs
before its mean gradient is more than its noise. The weight 1/(T p_t) is what is forgotten easily: without it the
variance is small as well, but of another gradient, and its mean is shown to be off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import logsnr
from logsnr import denoiser, nets, objectives, prediction
from logsnr.gallery import Check, Exhibit, Setting, above, between

NAMES = {"uniform": "L_vlb, t drawn alike", "importance": "L_vlb, p_t ∝ √E[L_t²]", "simple": "L_simple"}
BYTES = logsnr.data.Lattice(-1.0, 2 / 255, 256)
BATCH = 1000  # of a mean gradient
COLOURS = {"uniform": "C1", "importance": "C0", "simple": "C6"}


@dataclass(frozen=True)
class Gradients:
    """Of n single examples: |g| and t, each (n,), and the mean of g.

    weights: 1/(T p_t) of the importance law at each t, whichever law drew it. bare: mean of g without that weight.
    """

    norms: Tensor
    times: Tensor
    weights: Tensor
    mean: Tensor
    bare: Tensor

    @property
    def square(self) -> float:
        """|E g|², without the part that the noise has in |mean|²."""
        count = len(self.norms)
        return float((count * self.mean.square().sum() - (self.norms**2).mean()) / (count - 1))

    @property
    def trace(self) -> float:
        """tr Cov(g)."""
        return float((self.norms**2).mean()) - self.square


def gradients(
    objective: logsnr.objectives.Objective, model: logsnr.Denoiser, x0: Tensor, draws: logsnr.Draws
) -> Gradients:
    """∇ of the objective for each example on its own, weighed by 1/(T p_t) of the law that its t is drawn from."""
    weights, norms, times = objective.times.draw(draws).weight.float(), [], []
    mean, bare = (torch.zeros(sum(p.numel() for p in model.parameters())) for _ in range(2))
    for i in range(len(x0)):
        one = slice(i, i + 1)
        loss = objective(model, x0[one], draws.rows(one))
        g = torch.cat([part.flatten() for part in torch.autograd.grad(loss.total.sum(), list(model.parameters()))])
        norms.append(g.norm())
        times.append(loss.times)
        mean += g / len(x0)
        bare += g / weights[i] / len(x0)
    return Gradients(torch.stack(norms), torch.cat(times), weights, mean, bare)


def mean_gradients(
    objective: logsnr.objectives.Objective, model: logsnr.Denoiser, x0: Tensor, setting: Setting, batches: int
) -> Tensor:
    """Mean g of `BATCH` examples, (batches, parameters): far more examples than have gradients of their own."""
    found, rng = [], torch.Generator().manual_seed(setting.seed)
    for k in range(batches):
        rows = torch.randint(len(x0), (BATCH,), generator=rng)
        loss = objective(model, x0[rows], setting.draws(BATCH, step=10**6 + k)).total.mean()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(found)


def slope(one: Tensor, other: Tensor) -> tuple[float, float]:
    """E a·E b/|E b|² from independent rows of a and b, (n, parameters), and its standard error by the jackknife.

    Products of different rows only: those of one row with itself, or with its fellow of the same draws, hold noise.
    """
    cross, own = ((each @ other.T).double() for each in (one, other))
    ratio = float((cross.sum() - cross.trace()) / (own.sum() - own.trace()))
    left = torch.stack([_without(cross, k) / _without(own, k) for k in range(len(one))])
    return ratio, float(((len(one) - 1) * left.var(correction=0)).sqrt())


def _without(products: Tensor, k: int) -> Tensor:
    """Sum of the products of different rows, none the k-th."""
    off = products - products.diag().diag()
    return off.sum() - off[k].sum() - off[:, k].sum()


@dataclass(frozen=True)
class Found:
    """Gradients of L_vlb by the law of t, and of L_simple: of the toy and of trained digits.

    along: E g with t drawn alike, along that by importance and in its length, and its standard error; of many more
    examples.
    """

    toy: dict[str, Gradients]
    digits: dict[str, Gradients]
    along: dict[str, tuple[float, float]]


def measure(setting: Setting) -> Found:
    """A small network on a mixture in the plane, and a trained one on digits."""
    plane, run = toy(setting), setting.trained("ddpm", "ddpm", minutes=2)
    run.model.requires_grad_(requires_grad=True)
    data = logsnr.data.load("digits")
    index = torch.randperm(len(data), generator=torch.Generator().manual_seed(setting.seed))
    count = setting.of(600, 40)
    digits = data.batch(index[:count].numpy())[0]
    points = ring(setting.of(800, 60), setting.seed)
    on_plane, on_digits = (
        laws(model, x0, lattice, setting, batches)
        for model, x0, lattice, batches in (
            (plane, points, BYTES, setting.of(100, 4)),
            (run.model, digits, run.transform.lattice, setting.of(60, 3)),
        )
    )
    return Found(on_plane[0], on_digits[0], {"toy": on_plane[1], "digits": on_digits[1]})


def laws(
    model: logsnr.Denoiser, x0: Tensor, lattice: logsnr.data.Lattice | None, setting: Setting, batches: int
) -> tuple[dict[str, Gradients], tuple[float, float]]:
    """Gradients with t drawn alike, by the second moments of the losses, of L_simple; one mean along the other."""
    path, weight = model.path, objectives.WEIGHTS["simple"]
    memory = setting.of(10, 3)
    seeking = objectives.LossSecondMoment(path.schedule, history_per_term=memory)
    times = {"uniform": logsnr.Uniform(path.schedule), "importance": seeking}
    made = {}
    for name, law in times.items():
        made[name] = logsnr.VLB.of(objectives.Setting(path, weight, law, "large", lattice))
    steps, rng = path.schedule.steps, torch.Generator().manual_seed(setting.seed)
    with torch.no_grad():  # a whole history of every t
        for k, index in product(range(1, memory + 1), torch.arange(steps).split(100)):
            rows = torch.randint(len(x0), index.shape, generator=rng)
            loss = made["uniform"](model, x0[rows], logsnr.Draws(setting.seed, k, index, steps))
            seeking.observe(loss.times, loss.taught)
    simple = logsnr.Matching(path, weight, times["uniform"])
    found = {
        name: gradients(each, model, x0, setting.draws(len(x0))) for name, each in {**made, "simple": simple}.items()
    }
    chances = seeking.chances()
    place = (found["uniform"].times * steps).round().long() - 1
    found["uniform"] = replace(found["uniform"], weights=(1 / (steps * chances[place])).float())
    return found, slope(*(mean_gradients(each, model, x0, setting, batches) for each in made.values()))


def toy(setting: Setting) -> logsnr.Denoiser:
    """A perceptron that has learned a ring of Gaussians a little, by L_simple, on the chain of Improved DDPM."""
    path = logsnr.Path(logsnr.schedules.cosine_table(4000), logsnr.vp)
    with torch.random.fork_rng():
        torch.manual_seed(setting.seed)
        network = nets.MLP((2,), width=64, blocks=1)
    model = logsnr.Denoiser(network, path, prediction.TARGETS["eps"], label=denoiser.LABELS["index"])
    loss = logsnr.Matching(path, objectives.WEIGHTS["simple"], logsnr.Uniform(path.schedule))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    x0 = ring(256, setting.seed)
    for k in range(setting.of(300, 100)):
        optimiser.zero_grad()
        loss(model, x0, setting.draws(len(x0), step=k)).total.mean().backward()
        optimiser.step()
    return model


def ring(count: int, seed: int) -> Tensor:
    """Points of a ring of Gaussians, each number one of 256 as those of a picture, (n, 2)."""
    return BYTES.values(BYTES.nearest(logsnr.data.TOYS["ring"]().sample(count, seed)))


def noise(laws: dict[str, Gradients]) -> tuple[float, float]:
    """tr Cov of L_vlb's gradient for t drawn alike and by importance.

    The one from the draws of the other: a second moment under p is a mean of weighted ones under any law, and the rare
    terms that make it are met most often by the law that seeks them.
    """
    alike, drawn = laws["uniform"], laws["importance"]
    of_alike = float((drawn.norms**2 / drawn.weights).mean())
    of_drawn = float((alike.norms**2 * alike.weights).mean())
    return of_alike - drawn.square, of_drawn - drawn.square


def checks(found: Found) -> tuple[Check, ...]:
    """How much calmer, and whether it is the same gradient."""
    made = []
    for where, laws, bar in (("toy", found.toy, 20), ("digits", found.digits, 3)):
        of_alike, of_drawn = noise(laws)
        along, error = found.along[where]
        made += [
            above(f"{where}: noise scale of L_vlb, t drawn alike over p_t ∝ √E[L_t²]", of_alike / of_drawn, bar),
            between(f"{where}: mean gradient with t drawn alike, along the other's", along, 0.8, 1.25, error),
        ]
    drawn, count = found.toy["importance"], len(found.toy["importance"].norms)
    bare = float((drawn.bare - drawn.mean).square().sum()) / (noise(found.toy)[1] / count)
    made.insert(2, above("toy: the same without the weight 1/(T p_t), in the noise of the calm one", bare, 10))
    return tuple(made)


def draw(found: Found, figure: Figure) -> None:
    """|g| of single examples over t, lines at √tr Cov, and the noise scales."""
    toy, digits, bars = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 1])
    _draw_norms(toy, found.toy, 4000, "toy: mixture in the plane")
    _draw_norms(digits, found.digits, 1000, "digits, trained for 2 minutes")
    toy.set_ylabel("|g| of one example, with its weight 1/(T p_t)")
    simple = found.toy["simple"]
    scales = [part / found.toy["importance"].square for part in noise(found.toy)]
    scales.append(simple.trace / simple.square)
    drawn = bars.bar(["L_vlb,\nt alike", "L_vlb,\nby p_t", "L_simple"], scales, color=COLOURS.values())
    bars.bar_label(drawn, fmt="%.0f", padding=2)
    bars.set(yscale="log", ylabel="tr Cov(g)/|E g|²", title="toy: noise scale")
    bars.grid(visible=False, axis="x")
    bars.margins(y=0.12)


def _draw_norms(axes: Axes, laws: dict[str, Gradients], steps: int, title: str) -> None:
    for name, trace in zip(("uniform", "importance"), noise(laws), strict=True):
        each = laws[name]
        axes.plot(steps * each.times, each.norms, ".", markersize=3, alpha=0.4, color=COLOURS[name], label=NAMES[name])
        axes.axhline(trace**0.5, color=COLOURS[name], linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="t", title=title)
    axes.legend(loc="lower left", markerscale=3)


EXHIBIT = Exhibit("Improved DDPM, section 3.3", ("I4", "D7", "D8"), measure, checks, draw, gradients, trained=True)
