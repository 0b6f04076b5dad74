"""The way of a few examples from noise to data: x_t above x̂0(x_t), as a strip and as a moving picture (D10)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from logsnr.data.transform import Transform
from logsnr.files import whole
from logsnr.pictures import as_rgb, save_grid, tiles
from logsnr.run.generate import Recipe, chunk
from logsnr.run.trained import Trained

_COLUMNS = 11
_FRAMES = 50
_EXAMPLES = 8


def write_trajectory(out: Path, trained: Trained, recipe: Recipe, index: Tensor) -> list[Path]:
    """`trajectory.png`: the first example over the steps, x_t above x̂0; `trajectory.gif`: all of them, x_t above x̂0.

    Only the frames that are shown are kept, so memory does not grow with the number of steps.
    """
    steps = len(recipe.grid) - 1
    index = index[: min(_EXAMPLES, recipe.width)]
    shown = sorted(set(np.linspace(0, steps - 1, min(steps, _FRAMES)).round().astype(int).tolist()))
    noisy, denoised = [], []
    for i, step in enumerate(chunk(recipe, trained.model_for(recipe, recipe.padded(index)), index)):
        if i in shown:
            level = step.prediction.level
            power = float(torch.sqrt(level.alpha**2 + level.sigma**2))  # so that a VE state is not a flat white
            noisy.append(_visible(step.prediction.x[: len(index)] / power, trained.transform))
            denoised.append(_visible(step.prediction.x0[: len(index)], trained.transform))
    picked = sorted(set(np.linspace(0, len(noisy) - 1, min(len(noisy), _COLUMNS)).round().astype(int).tolist()))
    strip = np.concatenate([np.stack([noisy[i][0] for i in picked]), np.stack([denoised[i][0] for i in picked])])
    written = [save_grid(out / "trajectory.png", strip, trained.transform, columns=len(picked))]
    if len(trained.transform.shape) == 3:
        pairs = zip(noisy, denoised, strict=True)
        frames = [tiles(as_rgb(np.concatenate(pair), trained.transform), len(index)) for pair in pairs]
        written.append(_gif(out / "trajectory.gif", frames))
    return written


def _visible(x: Tensor, transform: Transform) -> np.ndarray:
    """In the data's own range: what lies beyond it is shown at its end."""
    return transform.decode(torch.nan_to_num(x))


def _gif(path: Path, frames: list[Image.Image]) -> Path:
    still = [frames[-1]] * 10
    with whole(path) as fresh:
        frames[0].save(fresh, format="GIF", save_all=True, append_images=[*frames[1:], *still], duration=80, loop=0)
    return path
