"""From arrays to a transform: which axis is which, how many grey levels, which mean and standard deviation.

| array                 | meaning                                                                       |
|-----------------------|-------------------------------------------------------------------------------|
| (N, D)                | vectors                                                                       |
| (N, H, W), integers   | grey images                                                                   |
| (N, C, L), floats     | sequences                                                                     |
| (N, ·, ·, ·)          | channels last if the last axis is 1 .. 4 and axis 1 is not, else channels first |
| (N, C, D, H, W)       | volumes                                                                       |

Integers are discrete: bool has 2 levels, uint8 256, uint16 65,536; any other integer type has max + 1 of all
splits. Floats are continuous.
"""

from __future__ import annotations

import numpy as np

from logsnr.data.record import Block, Examples, chunks
from logsnr.data.transform import MOST_LEVELS, Transform

_COLOURS = range(1, 5)
_BY_DTYPE = {"bool": 2, "uint8": 256, "uint16": 65536}


def layout_of(examples: Examples) -> str:
    """Return the name of the layout that the table gives to an array.

    Raises:
        ValueError: if the dtype is not bool, integer or float, or there are no or too many axes.
    """
    shape, dtype = examples.shape, examples.dtype
    if dtype.kind not in "buif":
        raise ValueError(f"dtype {dtype} is refused; allowed: bool, integers, floats")
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise ValueError(f"an array of shape {shape}; allowed: 2 to 5 axes (examples first), none of them empty")
    if len(shape) == 3 and dtype.kind != "f":
        return "grey"
    return "channels_last" if len(shape) == 4 and shape[3] in _COLOURS and shape[1] not in _COLOURS else "same"


def model_shape(examples: Examples, layout: str) -> tuple[int, ...]:
    """Return the shape of one example in model layout, (C, *spatial) or (D,)."""
    shape = examples.shape[1:]
    return {"grey": (1, *shape), "channels_last": (shape[-1], *shape[:-1]), "same": tuple(shape)}[layout]


def levels_of(blocks: dict[str, Block]) -> int | None:
    """Return the number of grey levels of all blocks together, None for floats.

    Raises:
        ValueError: if integers are negative or too large.
    """
    dtype = next(iter(blocks.values())).examples.dtype
    if dtype.kind == "f" or dtype.name in _BY_DTYPE:
        return _BY_DTYPE.get(dtype.name)
    extremes = [
        (int(raw.min()), int(raw.max()))
        for block in blocks.values()
        for raw in chunks(block.examples, np.arange(block.examples.shape[0]))
    ]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    if low < 0 or high >= MOST_LEVELS:
        raise ValueError(f"{dtype} values from {low} to {high}; allowed: 0 to {MOST_LEVELS - 1}, or floats")
    return max(high + 1, 2)


def fit(examples: Examples, rows: np.ndarray, layout: str, levels: int | None) -> Transform:
    """Return the transform of these levels; that of continuous data has the mean and std of the examples ``rows``.

    A constant channel has std 0; it keeps its scale (std = 1), so that it is encoded as 0.
    """
    shape = model_shape(examples, layout)
    if levels is not None:
        return Transform(shape, levels, layout)
    mean, std = _moments(examples, np.sort(rows), axis=-1 if layout == "channels_last" else 1)
    return Transform(shape, None, layout, tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist()))


def refuse_non_finite(blocks: dict[str, Block]) -> None:
    """Raise ValueError if there are NaN or infinite values, with their number and the index of the first."""
    for split, block in blocks.items():
        count, start, first = 0, 0, ()
        for raw in chunks(block.examples, np.arange(block.examples.shape[0])):
            bad = ~np.isfinite(raw)
            if not count and bad.any():
                example, *place = np.argwhere(bad)[0].tolist()
                first = (start + example, *place)
            count += int(bad.sum())
            start += len(raw)
        if count:
            where = f" of split {split!r}" if len(blocks) > 1 else ""
            raise ValueError(f"{count} values{where} are NaN or infinite, the first at index {first}")


def _moments(examples: Examples, rows: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) along ``axis``, in one pass (Chan, Golub and LeVeque, 1979)."""
    # Measured from the first value: in a constant channel all distances, and so the deviation, are exactly 0.
    first = np.moveaxis(examples[rows[:1]], axis, -1).reshape(-1, examples.shape[axis])[0].astype(np.float64)
    count, mean, square = 0, np.zeros_like(first), np.zeros_like(first)
    for raw in chunks(examples, rows):
        part = np.moveaxis(raw, axis, -1).reshape(-1, len(first)).astype(np.float64) - first
        delta, total = part.mean(0) - mean, count + len(part)
        square += ((part - part.mean(0)) ** 2).sum(0) + delta**2 * count * len(part) / total
        mean += delta * len(part) / total
        count = total
    return first + mean, np.sqrt(square / count)
