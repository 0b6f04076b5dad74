"""From data to latents and back: encode, decode, interpolate, in rows of one width like every call of a network.

The clip of x̂0 is left out in both directions: it has no inverse. So what is decoded here is the flow of the model
itself, and `encode` undoes it.

Without the clip a long step out of nearly pure noise is badly conditioned: what a network gets wrong in ε̂ is multiplied
by the ratio of the two σ/α, 600 for the first of a hundred uniform steps of Improved DDPM's cosine. So the steps here
are equal in log-SNR where the path has finite ends, and begin where the signal has some part in x_t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import over
from logsnr.path import Path, section_counts
from logsnr.run.generate import Recipe
from logsnr.samplers import Step, encode, prior, seeded, simulate, slerp
from logsnr.samplers.encode import REFINEMENTS

Advance = Callable[[int], None]
HIGHEST_GAMMA = 12.0  # the signal's share of x_t is 6e-6 there: what it still says of x0 is below any tolerance


def quiet(examples: int) -> None:
    """No progress."""


def spacing_for(path: Path, steps: int | str) -> str:
    """Equal steps of log-SNR where there are finite ends and no sections are asked for, else of time."""
    finite = bool((path.highest.gamma - path.lowest.gamma).isfinite())
    return "log_snr" if finite and len(section_counts(steps)) == 1 and "ddim" not in str(steps) else "uniform"


def invertible(recipe: Recipe) -> Recipe:
    """The recipe without its levels above γ = 12, but for one that is left: its latents are noise all the same."""
    gamma = recipe.grid.gamma
    return replace(recipe, grid=recipe.grid[gamma <= max(HIGHEST_GAMMA, float(gamma[-2]))])


def random_latents(recipe: Recipe, index: Tensor) -> Tensor:
    """The noise of examples `index` (n,) at the recipe's first level, that of sampling: keyed by (seed, i)."""
    noise = seeded(recipe.seed, index, torch.empty(len(index), *recipe.shape))
    top, unit = recipe.grid[0], noise(0, "prior")
    return prior(recipe.path, noise) if float(top.t) == 1 else over(top.sigma, unit) * unit


@torch.inference_mode()
def to_latents(
    recipe: Recipe, model: Model, x0: Tensor, *, refinements: int = REFINEMENTS, advance: Advance = quiet
) -> Tensor:
    """x_T of data x0 (n, *shape) in model units, float32 on the CPU (M5). advance: told the rows after each step."""

    def walk(x: Tensor, bound: Model) -> Iterator[Step]:
        return encode(recipe.sampler, bound, x, recipe.grid, refinements=refinements)

    return _in_rows(recipe, model, x0, walk, advance)


@torch.inference_mode()
def to_data(recipe: Recipe, model: Model, latents: Tensor, *, advance: Advance = quiet) -> Tensor:
    """x0 of latents x_T (n, *shape), float32 (n, *shape) in model units on the CPU, without clipping."""

    def walk(x: Tensor, bound: Model) -> Iterator[Step]:
        noise = seeded(recipe.seed, torch.arange(len(x)), x)
        return simulate(recipe.sampler, bound, x, recipe.grid, noise=noise)

    return _in_rows(recipe, model, latents, walk, advance)


def between(first: Tensor, last: Tensor, frames: int) -> Tensor:
    """`frames` latents along the great circle of each pair, the ends included: (n, frames, *shape) (M6).

    first, last: (n, *shape). ValueError for fewer than two frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames; allowed: at least 2, the two ends")
    shares = [i / (frames - 1) for i in range(frames)]
    return torch.stack([slerp(first, last, share) for share in shares], dim=1)


Walk = Callable[[Tensor, Model], Iterator[Step]]


def _in_rows(recipe: Recipe, model: Model, x: Tensor, walk: Walk, advance: Advance) -> Tensor:
    """The end of `walk` for every row, the network seeing `recipe.width` rows, with their conditions, at a time."""
    made = torch.empty(len(x), *recipe.shape)
    for start in range(0, len(x), recipe.width):
        rows = x[start : start + recipe.width].to(recipe.device, torch.float32)
        padded = torch.cat([rows, rows[-1:].expand(recipe.width - len(rows), *rows.shape[1:])])
        index = recipe.padded(torch.arange(start, start + len(rows)))
        for step in walk(padded, recipe.bound(model, index)):
            final = step
            advance(len(rows))
        made[start : start + len(rows)] = final.x[: len(rows)].cpu()
    return made
