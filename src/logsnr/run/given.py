"""Under which conditions a run is sampled: the condition of example i is a function of (seed, i), as its noise is.

What is given is gone through in turn: example i takes class i mod n of the n classes asked for, row i mod n of the
arrays. Without a class, classes are drawn with their frequencies in the training split, so that examples follow the law
of the data; without arrays, or for the class "none", an example has no condition at all, which only a run that dropped
conditions in training knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from logsnr.data.arrays import read_conditions
from logsnr.data.conditions import CONDITIONS, NONE, Conditions, without
from logsnr.draws import Draws

ARRAYS = CONDITIONS[1:]


@dataclass(frozen=True)
class Given:
    """index (n,) of the examples → their conditions by keyword, each (n, *).

    classes: indices gone through in turn; empty: drawn with the training frequencies. rows: encoded arrays by keyword.
    """

    conditions: Conditions
    classes: tuple[int, ...]
    rows: Mapping[str, Tensor]
    seed: int

    def __call__(self, index: Tensor) -> dict[str, Tensor]:
        none = len(self.conditions.classes)
        classes = self._classes(index)
        found = self.conditions.none(len(index)) | {name: rows[index % len(rows)] for name, rows in self.rows.items()}
        if self.conditions.classes:
            found["classes"] = classes
        return without(found, classes == none, none) if none or self.classes else found

    def _classes(self, index: Tensor) -> Tensor:
        if self.classes:
            return torch.tensor(self.classes)[index % len(self.classes)]
        counts = torch.tensor(self.conditions.counts or (1,), dtype=torch.float64)
        u = Draws(self.seed, 0, index, 1).uniform("sample/classes")
        return torch.searchsorted(counts.cumsum(0) / counts.sum(), u, right=True).clamp(max=len(counts) - 1)


def given(
    conditions: Conditions, *, drop: float, seed: int, classes: Sequence[str | int], arrays: Mapping[str, np.ndarray]
) -> Given:
    """The conditions asked for: class names or indices, and raw arrays by keyword ("vector", "image").

    drop: the share of conditions dropped in training.

    Raises:
        ValueError: for an unknown class (listing the names), an array of another shape, or what was never trained.
    """
    none = len(conditions.classes)
    indices = tuple(conditions.index(name) for name in classes)
    rows = {name: conditions.encode(name, array) for name, array in arrays.items()}
    lacking = [name for name in ARRAYS if name in conditions.names and name not in rows]
    some_class = any(index != none for index in indices)
    if lacking and (rows or some_class):
        raise ValueError(f"this run also takes {', '.join(lacking)}; allowed: all of its conditions, or --class {NONE}")
    if lacking and not indices:
        indices = (none,)
    if none in indices and conditions.names and not drop:
        raise ValueError(
            f"this run was trained with condition.drop 0 and knows no example without condition; it takes "
            f"{', '.join(conditions.names)}: give a class or --condition-from FILE"
        )
    return Given(conditions, indices, rows, seed)


def read(path: Path, conditions: Conditions) -> tuple[list[int], dict[str, np.ndarray]]:
    """The classes and arrays of a file, as `given` takes them; a single array is the one the run takes."""
    found = read_conditions(path)
    if "" in found:
        wanted = [name for name in conditions.names if name in ARRAYS]
        if len(wanted) != 1:
            raise ValueError(
                f"{path} is a single array, this run takes {', '.join(wanted) or 'none'}; allowed: an .npz"
            )
        found = {wanted[0]: found[""]}
    if not found.keys() & set(conditions.names):
        takes = ", ".join(conditions.names) or "no condition"
        raise ValueError(f"{path} has {', '.join(found)}; this run takes {takes}")
    classes = found.pop("classes", None)
    names = [] if classes is None or not conditions.classes else [conditions.index(str(name)) for name in classes]
    return names, {name: found[name] for name in found if name in conditions.names}
