"""Examples as a PNG: a grid of images, a scatter of points, or lines for sequences.

Pictures are for looking at; numbers are kept beside them. Images are enlarged by whole factors so that small ones can
be seen, and never interpolated.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from logsnr.data.transform import Transform
from logsnr.files import whole

_SMALLEST_EDGE = 64
_GAP = 2


def as_rgb(examples: np.ndarray, transform: Transform) -> np.ndarray:
    """Images in the data's own layout as (N, H, W, 3) uint8: grey repeated, more than 4 channels cut to three.

    Discrete data is scaled by its own number of levels, continuous data by its extremes in this array.
    """
    x = examples.astype(np.float64)
    if transform.layout == "grey":
        x = x[..., None]
    elif transform.layout == "same":
        x = np.moveaxis(x, 1, -1)
    low, high = (0.0, transform.levels - 1.0) if transform.levels else (x.min(), x.max())
    x = 255 * (x - low) / max(high - low, 1e-12)
    if x.shape[-1] == 4:  # over white
        x = x[..., :3] * (x[..., 3:] / 255) + 255 - x[..., 3:]
    x = np.repeat(x[..., :1], 3, axis=-1) if x.shape[-1] < 3 else x[..., :3]
    return np.clip(np.round(x), 0, 255).astype(np.uint8)


def tiles(images: np.ndarray, columns: int) -> Image.Image:
    """(N, H, W, 3) uint8 in rows of `columns`, on white."""
    count, height, width, _ = images.shape
    factor = max(1, math.ceil(_SMALLEST_EDGE / max(height, width)))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor + _GAP, width * factor + _GAP
    rows = -(-count // columns)
    sheet = np.full((rows * height + _GAP, columns * width + _GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * height + _GAP, i % columns * width + _GAP
        sheet[top : top + height - _GAP, left : left + width - _GAP] = image
    return Image.fromarray(sheet)


def picture(examples: np.ndarray, transform: Transform, columns: int) -> Image.Image:
    """Examples (N, *raw_shape) as one picture, of the kind that suits their rank."""
    if len(transform.shape) == 3:
        return tiles(as_rgb(examples, transform), columns)
    if len(transform.shape) == 4:  # volumes: their middle slice
        flat = replace(transform, shape=(transform.shape[0], *transform.shape[2:]))
        return tiles(as_rgb(examples[:, :, examples.shape[2] // 2], flat), columns)
    return _plot(examples, transform)


def save_grid(path: Path, examples: np.ndarray, transform: Transform, *, columns: int | None = None) -> Path:
    """Write `picture` to `path` whole or not at all; about as many columns as rows unless told."""
    sheet = picture(examples, transform, columns or math.ceil(math.sqrt(len(examples))))
    with whole(path) as fresh:
        sheet.save(fresh, format="PNG")
    return path


def _plot(examples: np.ndarray, transform: Transform) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100)
    axes = figure.add_subplot()
    if len(transform.shape) == 2:
        for sequence in examples[:16, 0]:
            axes.plot(sequence, linewidth=1)
        axes.set(xlabel="position", ylabel="value of the first channel")
    elif transform.shape[0] == 1:
        axes.hist(examples[:, 0], bins=40)
        axes.set(xlabel="value", ylabel="examples")
    else:
        axes.plot(examples[:, 0], examples[:, 1], ".", markersize=2 if len(examples) > 200 else 5)
        axes.set(xlabel="first number", ylabel="second number", aspect="equal")
    figure.tight_layout()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
