"""Examples from a model: example i is a function of (seed, i) alone, to the last bit.

Float32 kernels on a CPU differ in the last bit with the size of the batch. So the network always sees one width, the
run's, and the last chunk is padded with a repetition that is thrown away. The batch size only says how many examples
are held at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from logsnr.data.toys import gaussian
from logsnr.denoiser import Conditioned, Model
from logsnr.level import Level, over
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.records import Part
from logsnr.run.ranks import ALONE, Ranks
from logsnr.samplers import Sampler, Step, prior, seeded, simulate


@dataclass(frozen=True)
class Recipe:
    """How examples are made. width: examples in every call of the network. shape: of one example, model layout.

    part, spacing: names and options of the sampler and its grid, for the record. temperature: a factor on the prior.
    condition: that of the examples of an index (n,), by keyword.
    """

    path: Path
    part: Part
    sampler: Sampler
    spacing: Part
    grid: Level
    shape: tuple[int, ...]
    width: int
    seed: int
    device: torch.device
    temperature: float = 1.0
    condition: Callable[[Tensor], Mapping[str, Tensor]] = field(default=lambda index: {})

    def padded(self, index: Tensor) -> Tensor:
        """At most `width` indices, (n,), the last of them repeated to `width`."""
        return torch.cat([index, index[-1:].expand(self.width - len(index))])

    def bound(self, model: Model, index: Tensor) -> Model:
        """The model under the conditions of the examples `index`, (width,)."""
        return Conditioned(model, {name: value.to(self.device) for name, value in self.condition(index).items()})

    @property
    def evaluations(self) -> int:
        """Network evaluations an example: counted, on one example of a law that is known exactly."""
        noise = seeded(self.seed, torch.zeros(1, dtype=torch.int64), ONE)
        steps = simulate(self.sampler, standard_normal, prior(self.path, noise), self.grid, noise=noise)
        return sum(int(step.evaluations) for step in steps)


ONE = torch.zeros(1, 1, dtype=torch.float64)


def standard_normal(x: Tensor, level: Level, **condition: Tensor) -> Prediction:
    """A model that knows its data, N(0, 1): what a sampler can be tried on before there is a network."""
    prediction = Oracle(gaussian(ONE[0], 1.0))(x, level)
    return replace(prediction, spread=torch.zeros_like(x))  # for rules that the network has a say in


def first_step(sampler: Sampler, grid: Level) -> Step:
    """One example's step from the highest level; ValueError, from the sampler, for a grid that it cannot walk."""
    noise = seeded(0, torch.zeros(1, dtype=torch.int64), ONE)
    return next(iter(simulate(sampler, standard_normal, noise(0, "prior"), grid, noise=noise)))


def default_width(shape: tuple[int, ...]) -> int:
    """A power of two up to 64, fewer for large examples."""
    dims = max(1, torch.Size(shape).numel())
    return 1 << max(0, min(6, (65536 // dims).bit_length() - 1))


@torch.inference_mode()
def chunk(recipe: Recipe, model: Model, index: Tensor) -> Iterator[Step]:
    """The steps of at most `width` examples, the rows beyond len(index) being padding."""
    padded = recipe.padded(index)
    like = torch.empty(recipe.width, *recipe.shape, device=recipe.device)
    noise = seeded(recipe.seed, padded, like)
    yield from simulate(recipe.sampler, model, prior(recipe.path, noise, recipe.temperature), recipe.grid, noise=noise)


def generate(
    recipe: Recipe,
    model: Callable[[Tensor], Model],
    index: Tensor,
    *,
    batch_size: int | None = None,
    advance: Callable[[int], None] = lambda examples: None,
    watch: Callable[[Step, int], None] = lambda step, rows: None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """x0 of the examples `index` (n,), float32 (n, *shape) in model units on the CPU.

    model: gives the model for a chunk's padded indices, so that conditions can follow the example. advance: told the
    number of examples after each step, divided by the steps: for a progress bar. watch: shown each step, and how many
    of its rows are no padding. ranks: who makes every so manieth chunk, and has them all in the end.
    """
    size, done = min(batch_size or recipe.width, recipe.width), 0
    mine = ranks.mine(list(index.split(size)))
    made = torch.empty(sum(map(len, mine)), *recipe.shape)
    for rows in mine:
        for step in chunk(recipe, model(recipe.padded(rows)), rows):
            final = step
            watch(step, len(rows))
            advance(len(rows))
        # a chain that ends at the lowest level ends in z_0, whose nearest value of the data is that of z_0/α_0
        made[done : done + len(rows)] = (final.x / over(final.level.alpha.detach(), final.x))[: len(rows)].cpu()
        done += len(rows)
    return ranks.whole(made, len(index), size)
