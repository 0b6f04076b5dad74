"""From data to latents and back: encode, decode, interpolate, in rows of one width like every call of a network.

The clip of x̂0 is left out in both directions: it has no inverse. So what is decoded here is the flow of the model
itself, and `encode` undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.run.generate import Recipe
from logsnr.samplers import Step, encode, seeded, simulate, slerp
from logsnr.samplers.encode import REFINEMENTS

Advance = Callable[[int], None]


def quiet(examples: int) -> None:
    """No progress."""


@torch.inference_mode()
def to_latents(
    recipe: Recipe, model: Model, x0: Tensor, *, refinements: int = REFINEMENTS, advance: Advance = quiet
) -> Tensor:
    """x_T of data x0 (n, *shape) in model units, float32 on the CPU (M5). advance: told the rows after each step."""
    return _in_rows(
        recipe, x0, lambda x: encode(recipe.sampler, model, x, recipe.grid, refinements=refinements), advance
    )


@torch.inference_mode()
def to_data(recipe: Recipe, model: Model, latents: Tensor, *, advance: Advance = quiet) -> Tensor:
    """x0 of latents x_T (n, *shape), float32 (n, *shape) in model units on the CPU, without clipping."""

    def walk(x: Tensor) -> Iterator[Step]:
        noise = seeded(recipe.seed, torch.arange(len(x)), x)
        return simulate(recipe.sampler, model, x, recipe.grid, noise=noise)

    return _in_rows(recipe, latents, walk, advance)


def between(first: Tensor, last: Tensor, frames: int) -> Tensor:
    """`frames` latents along the great circle of each pair, the ends included: (n, frames, *shape) (M6).

    first, last: (n, *shape). ValueError for fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames; allowed: at least 2, the two ends")
    shares = [i / (frames - 1) for i in range(frames)]
    return torch.stack([slerp(first, last, share) for share in shares], dim=1)


def _in_rows(recipe: Recipe, x: Tensor, walk: Callable[[Tensor], Iterator[Step]], advance: Advance) -> Tensor:
    """The end of `walk` for every row, the network seeing `recipe.width` rows at a time."""
    made = torch.empty(len(x), *recipe.shape)
    for start in range(0, len(x), recipe.width):
        rows = x[start : start + recipe.width].to(recipe.device, torch.float32)
        padded = torch.cat([rows, rows[-1:].expand(recipe.width - len(rows), *rows.shape[1:])])
        for step in walk(padded):
            final = step
            advance(len(rows))
        made[start : start + len(rows)] = final.x[: len(rows)].cpu()
    return made
