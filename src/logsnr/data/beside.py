"""Vectors and condition images that come with the examples: the same checks and transforms as for the examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from logsnr.data.record import Beside, Block
from logsnr.data.survey import fit, layout_of, levels_of, refuse_non_finite

ARRAYS = {"vector": "vectors", "image": "conditions"}


def beside(
    blocks: Mapping[str, Block], name: str, fitted: tuple[str, np.ndarray], shape: tuple[int, ...]
) -> dict[str, Beside]:
    """What conditions the examples of block `name`, by keyword; transforms are fitted on the rows of a block, `fitted`.

    shape: of one example in model layout; a condition image has its spatial axes.

    Raises:
        ValueError: for another number of rows, another shape, or values that are not finite.
    """
    found = {}
    for keyword, raw in blocks[name].beside.items():
        given = {split: block.beside[keyword] for split, block in blocks.items() if keyword in block.beside}
        try:
            rows = {split: blocks[split].examples.shape[0] for split in given}
            found[keyword] = _fitted(keyword, raw, given, rows, fitted, shape)
        except ValueError as error:
            raise ValueError(f"{ARRAYS[keyword]}: {error}") from None
    return found


def _fitted(
    keyword: str,
    raw: np.ndarray,
    given: dict[str, np.ndarray],
    rows: dict[str, int],
    fitted: tuple[str, np.ndarray],
    shape: tuple[int, ...],
) -> Beside:
    spatial = shape[1:] if keyword == "image" else ()
    wanted = ", ".join(["N", "C" if keyword == "image" else "F", *map(str, spatial)])
    arrays = {split: Block(array) for split, array in given.items()}
    for split, array in given.items():
        if array.ndim < 2 or array.shape[0] != rows[split] or array.shape[1:] != raw.shape[1:]:
            raise ValueError(f"shape {array.shape}; allowed: ({wanted}), a row for each of {rows[split]} examples")
    layout, levels = layout_of(raw), levels_of(arrays)
    if levels is None:
        refuse_non_finite(arrays)
    source = fitted[0] if fitted[0] in given else next(iter(given))
    transform = fit(given[source], fitted[1] if source == fitted[0] else np.arange(rows[source]), layout, levels)
    if transform.shape[1:] != spatial:
        raise ValueError(f"shape {raw.shape}; allowed: ({wanted}), channels first, or last if 1 to 4")
    return Beside(raw, transform)
