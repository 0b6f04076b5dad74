"""What a model may be told beside the noise level: a class, a vector, an image.

    classes  (B,) int64        0 .. K−1, and K for "none given"
    vector   (B, F + 1) float  a row of `vectors`, then 1; all zeros for "none given"
    image    (B, C' + 1, *)    a row of `conditions` in model units, then a channel of ones; all zeros for "none given"

So "none given" is an ordinary value of each keyword, told apart from a given zero by the last feature or channel, and a
condition is dropped by multiplying with 0. Raw vectors and images go through a :class:`Transform` of their own, fitted
on the training split (floats are standardised, integers are levels), which a checkpoint keeps: sampling needs no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.data.transform import Transform

CONDITIONS = ("classes", "vector", "image")
NONE = "none"
"""The name of the null class, unless the data has a class of that name."""


def marked(values: Tensor) -> Tensor:
    """values (B, C, *), followed along axis 1 by ones: "given"."""
    return torch.cat([values, torch.ones_like(values[:, :1])], dim=1)


def without(condition: Mapping[str, Tensor], rows: Tensor, num_classes: int) -> dict[str, Tensor]:
    """The condition with "none given" in the `rows`, (B,) bool.

    num_classes: K, the index of the null class.
    """
    dropped = {}
    for name, value in condition.items():
        none = num_classes if name == "classes" else 0
        dropped[name] = torch.where(rows.to(value.device).reshape(-1, *(1,) * (value.ndim - 1)), none, value)
    return dropped


@dataclass(frozen=True)
class Conditions:
    """What the examples of a run come with, without the examples.

    Attributes:
        classes: names of the classes, empty if they are not used.
        counts: examples of each class in the training split.
        vector, image: transforms of vectors and condition images, None if they are not used.
    """

    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    vector: Transform | None = None
    image: Transform | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The keywords that the model takes."""
        there = (bool(self.classes), self.vector is not None, self.image is not None)
        return tuple(name for name, used in zip(CONDITIONS, there, strict=True) if used)

    @property
    def sizes(self) -> dict[str, int]:
        """What a network must know of them: numbers of classes, features and channels, those that are not 0."""
        found = {
            "num_classes": len(self.classes),
            "vector_features": self.vector.shape[0] if self.vector else 0,
            "condition_channels": self.image.shape[0] if self.image else 0,
        }
        return {key: size for key, size in found.items() if size}

    def index(self, given: str | int) -> int:
        """The index of a class from its name, or from the index itself; K for "none".

        Raises:
            ValueError: listing the names, if there is no such class.
        """
        text = str(given)
        if text in self.classes and not isinstance(given, int):
            return self.classes.index(text)
        if text == NONE:
            return len(self.classes)
        if text.isdecimal() and int(text) < len(self.classes):
            return int(text)
        if not self.classes:
            raise ValueError(
                f"class {text!r}, but this run has no classes; allowed: a run trained with --condition classes"
            )
        raise ValueError(f"unknown class {text!r}; known: {', '.join(self.classes)}, or {NONE}")

    def encode(self, name: str, raw: np.ndarray) -> Tensor:
        """The keyword `name` ("vector" or "image") of raw rows (n, *raw_shape), float32, marked as given.

        Raises:
            ValueError: in one line, if the run has no such condition or the rows have another shape.
        """
        transform = {"vector": self.vector, "image": self.image}[name]
        if transform is None:
            raise ValueError(f"{name} given, but this run is conditioned on {', '.join(self.names) or 'nothing'}")
        if raw.shape[1:] != transform.raw_shape:
            raise ValueError(
                f"{name} of shape {raw.shape}; allowed here: (n, {', '.join(map(str, transform.raw_shape))})"
            )
        if not len(raw) or (raw.dtype.kind == "f" and not np.isfinite(raw).all()):
            raise ValueError(f"{name} of shape {raw.shape}, {raw.dtype}; allowed: at least one row, all finite")
        return marked(transform.encode(raw))

    def none(self, count: int) -> dict[str, Tensor]:
        """ "None given", for `count` examples."""
        condition: dict[str, Tensor] = {}
        if self.classes:
            condition["classes"] = torch.full((count,), len(self.classes))
        for name, transform in (("vector", self.vector), ("image", self.image)):
            if transform is not None:
                condition[name] = torch.zeros(count, transform.shape[0] + 1, *transform.shape[1:])
        return condition

    def to_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` reads: plain JSON values."""
        return {
            "classes": list(self.classes),
            "counts": list(self.counts),
            "vector": self.vector.to_dict() if self.vector else None,
            "image": self.image.to_dict() if self.image else None,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Conditions:
        """The inverse of :meth:`to_dict`; an empty record is an unconditional run."""
        transforms = {name: Transform.from_dict(record[name]) if record.get(name) else None for name in CONDITIONS[1:]}
        return cls(tuple(record.get("classes", ())), tuple(record.get("counts", ())), **transforms)


NO_CONDITIONS = Conditions()
