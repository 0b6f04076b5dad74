"""From what a reader found to a data set: the steps that are the same for every format."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from logsnr.data.beside import beside
from logsnr.data.lazy import Lazy
from logsnr.data.record import Block, Dataset, Examples, Shards, Source, Wish
from logsnr.data.resize import FILTER, resize
from logsnr.data.split import held_out
from logsnr.data.survey import fit, layout_of, levels_of, model_shape, refuse_non_finite


def assemble(source: str, found: Source, split: str, wish: Wish) -> Dataset:
    """Return one split of what was found.

    Raises:
        ValueError: if the arrays cannot be model data, contradict each other, or there is no such split.
    """
    blocks = found.blocks
    layout = found.layout or layout_of(_alike(blocks))
    levels = found.levels or levels_of(blocks)
    if levels is None:
        refuse_non_finite(blocks)
    if wish.size:
        blocks = {
            name: block._replace(examples=_resized(block.examples, wish.size, layout, levels))
            for name, block in blocks.items()
        }
    places = _places(blocks)
    if split not in places:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(places)}")
    labels, classes = _labels(blocks, found.classes)
    name, rows = places[split]
    fitted, fitted_rows = places.get("train", places[split])
    transform = fit(blocks[fitted].examples, fitted_rows, layout, levels)
    if wish.channels not in (None, transform.shape[0]):
        raise ValueError(f"--channels converts image files; this data has shape {transform.shape}")
    resized = f"{wish.size[0]}x{wish.size[1]} {FILTER}, centre crop" if wish.size else None
    counts = {each: len(rows) for each, (_, rows) in places.items()}
    return Dataset(
        source=source,
        split=split,
        classes=classes,
        labels=labels[name][torch.from_numpy(rows)] if name in labels else None,
        transform=transform,
        facts={"splits": counts, "resize": resized, **found.seen},
        _examples=blocks[name].examples,
        _rows=rows,
        _beside=beside(blocks, name, (fitted, fitted_rows), transform.shape),
        shards=_shards(blocks[name], rows),
    )


def _alike(blocks: dict[str, Block]) -> Examples:
    """Return the first block's examples, having compared the others with them."""
    (first, block), *others = blocks.items()
    kind = block.examples.dtype, block.examples.shape[1:]
    for name, other in others:
        given = other.examples.dtype, other.examples.shape[1:]
        if given != kind:
            raise ValueError(f"{name} holds {given[0]} of shape {given[1]}, {first} {kind[0]} of {kind[1]}")
    return block.examples


def _places(blocks: dict[str, Block]) -> dict[str, tuple[str, np.ndarray]]:
    """Which block and which rows of it each split is made of."""
    if len(blocks) > 1:
        return {name: (name, np.arange(block.examples.shape[0])) for name, block in blocks.items()}
    ((name, block),) = blocks.items()
    found = held_out(block.examples.shape[0], block.shards.sizes if block.shards else ())
    return {split: (name, rows) for split, rows in found.items()}


def _shards(block: Block, rows: np.ndarray) -> Shards | None:
    """How a split of a block lies, which is made of these ascending rows; shards without an example are left out."""
    if block.shards is None:
        return None
    bounds = np.searchsorted(rows, np.cumsum([0, *block.shards.sizes]))
    return block.shards._replace(sizes=tuple(size for size in np.diff(bounds).tolist() if size))


def _labels(blocks: dict[str, Block], classes: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Labels 0 .. K−1 by block, and the K names: those given, or the distinct labels themselves, sorted."""
    labels = {
        name: np.atleast_1d(np.squeeze(block.labels)) for name, block in blocks.items() if block.labels is not None
    }
    for name, each in labels.items():
        count = blocks[name].examples.shape[0]
        if each.shape != (count,) or each.dtype.kind not in "buiUS":
            raise ValueError(
                f"labels of shape {each.shape} and dtype {each.dtype}; {count} integers or strings are needed"
            )
    if not labels:
        return {}, ()
    distinct = np.unique(np.concatenate(list(labels.values())))
    if classes and not (distinct.dtype.kind in "ui" and 0 <= distinct[0] <= distinct[-1] < len(classes)):
        raise ValueError(f"labels from {distinct[0]} to {distinct[-1]}; {len(classes)} classes are named")
    if not classes:
        labels = {name: np.searchsorted(distinct, each) for name, each in labels.items()}
        classes = tuple(str(name, "utf-8") if distinct.dtype.kind == "S" else str(name) for name in distinct)
    return {name: torch.from_numpy(each.astype(np.int64)) for name, each in labels.items()}, classes


def _resized(examples: Examples, size: tuple[int, int], layout: str, levels: int | None) -> Examples:
    shape = model_shape(examples, layout)
    if len(shape) != 3:
        raise ValueError(f"--size resizes images; examples here have shape {shape}")
    if shape[1:] == size:
        return examples

    def make(row: int) -> np.ndarray:
        image = examples[np.array([row])][0]
        if layout == "same":
            return np.moveaxis(resize(np.moveaxis(image, 0, -1), size, levels), -1, 0)
        return resize(image, size, levels)

    raw_shape = {"grey": size, "channels_last": (*size, shape[0]), "same": (shape[0], *size)}[layout]
    return Lazy(examples.shape[0], raw_shape, np.float32 if levels is None else examples.dtype, make)
