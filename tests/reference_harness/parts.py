"""What several adapters need: the recordings' stand-in network, noise tapes, index sets and named tables."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from logsnr import betas
from logsnr.data.toys import Mixture, mixture
from logsnr.denoiser import Clipped, Denoiser, Model, index_label
from logsnr.draws import Draws
from logsnr.kernels import Floored, Rule, floored, large, learned_range, small
from logsnr.level import Level, over
from logsnr.loss import Loss
from logsnr.objectives import WEIGHTS, Matching, TimeLaw
from logsnr.objectives.times import Times
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Target
from logsnr.samplers import Noise, Sampler, Step, simulate
from logsnr.scales import vp
from logsnr.schedules import table_of_betas

from .reference import Reference

DTYPES = {"f64": torch.float64, "f32": torch.float32}

# get_named_beta_schedule of Improved DDPM
IDDPM_BETAS = {"linear": betas.scaled_linear, "cosine": betas.cosine}


def range_channel(x: Tensor, label: Tensor) -> Tensor:
    """The recordings' spread for LEARNED_RANGE: sin(Σ_c x + t/1000 + c/2), c the channel and t the integer label."""
    channel = torch.arange(x.shape[1], dtype=x.dtype).reshape(-1, *(1,) * (x.ndim - 2))
    return torch.sin(x.sum(1, keepdim=True) + over(label, x) / 1000 + 0.5 * channel)


SPREADS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "LEARNED_RANGE": range_channel,
    "LEARNED": lambda x, label: range_channel(x, label) - 4,  # the log variance itself
}

# what the names of Improved DDPM stand for; LEARNED, a log variance from the network, is no rule of the library
RULES = {
    "FIXED_SMALL": small,
    "FIXED_LARGE": large,
    "LEARNED_RANGE": learned_range,
    "LEARNED": Rule(lambda prediction, lower, upper: prediction.spread, spread=True),
}


def rule_on(grid: Level, variance: str) -> Floored:
    """The rule of that name with the floor of `grid`."""
    return Floored(RULES[variance], floored("small", grid).floor_log_var)


def law(reference: Reference) -> Mixture:
    """The data density that the recordings share."""
    shape = tuple(reference.read("mix_shape").tolist())
    means, variances = (reference.read(f"mix_{name}") for name in ("mu", "var"))
    return mixture(reference.read("mix_w"), means.reshape(-1, *shape), variances.reshape(-1, *shape))


def table(beta: Tensor) -> Path:
    """The variance-preserving path of a β table."""
    return Path(table_of_betas(beta), vp)


def length(path: Path) -> int:
    """T of a table."""
    steps = path.schedule.steps
    assert steps is not None
    return steps


def whole(path: Path) -> Level:
    """All T knots of a table, from the highest, then the clean level."""
    return path.grid(length(path))


def knots(path: Path, index: Tensor) -> tuple[Level, Level]:
    """(t, s): the levels at the originals' 0-based `index` (B,) and those below; index 0 goes to the clean level."""
    index, steps = index.double(), length(path)  # integers divide to float32 in torch
    return path.at((index + 1) / steps), path.at(index / steps)


def every_knot(path: Path) -> tuple[Level, Level]:
    """`knots` of the whole table, ascending as in the originals' buffers."""
    return knots(path, torch.arange(length(path)))


def descending(path: Path, index: Tensor) -> Level:
    """The grid that visits an ascending 0-based index set from its end and then the clean level."""
    return knots(path, index.flip(0))[0].then(path.at(0.0))


class StandIn(nn.Module):
    """The recordings' network: exact answers for `law`, read at an integer label, made in float64 and then cast.

    variance: of the network's second half, a key of `SPREADS`, else there is none.
    """

    def __init__(self, law: Mixture, path: Path, target: Target, variance: str = "") -> None:
        super().__init__()
        self.law, self.path, self.target, self.spread = law, path, target, SPREADS.get(variance)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        assert torch.equal(label, label.round()), "a table's own levels have integer labels"
        level = knots(self.path, label)[0]
        value = Oracle(self.law)(x.double(), level).along(self.target(level)).to(x.dtype)
        return value if self.spread is None else torch.cat([value, self.spread(x.double(), label).to(x.dtype)], dim=1)


def model(law: Mixture, path: Path, target: Target, *, clip: bool = False, variance: str = "") -> Model:
    """The stand-in network as the library holds a network; `clip` holds x̂0 in [−1, 1]."""
    network = StandIn(law, path, target, variance)
    denoiser = Denoiser(network, path, target, label=index_label, spread=variance in SPREADS)
    return Clipped(denoiser, -1.0, 1.0) if clip else denoiser


def tape(noise: Tensor) -> Noise:
    """Recorded draws, one a step."""
    return lambda step, draw: noise[step]


def silence(step: int, draw: str) -> Tensor:
    """For chains that must not draw."""
    raise AssertionError(f"a deterministic chain drew {draw!r} at step {step}")


def walk(sampler: Sampler, model: Model, x: Tensor, levels: Level, noise: Noise) -> list[Step]:
    """All steps of a chain."""
    return list(simulate(sampler, model, x, levels, noise=noise))


def states(steps: list[Step]) -> Tensor:
    """(S, B, *) the states after each step."""
    return torch.stack([step.x for step in steps])


class Recorded(TimeLaw):
    """A law of t that gives recorded times."""

    def __init__(self, t: Tensor) -> None:
        super().__init__()
        self.t = t

    def draw(self, draws: Draws) -> Times:
        return Times(self.t, torch.ones_like(self.t))

    def observe(self, times: Tensor, losses: Tensor) -> None:
        """Nothing to learn."""


class Tape:
    """Stands for `Draws` where the noise was recorded."""

    def __init__(self, eps: Tensor) -> None:
        self.eps = eps

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self.eps.to(like)


def matching(
    path: Path, model: Model, x0: Tensor, eps: Tensor, t: Tensor, weight: str = "simple", **options: float
) -> Loss:
    """The library's objective with recorded times and noise; its loss is a mean over dimensions."""
    return Matching(path, partial(WEIGHTS[weight], **options), Recorded(t))(model, x0, Tape(eps))


def dims(x: Tensor) -> int:
    """D of (B, *)."""
    return x[0].numel()
