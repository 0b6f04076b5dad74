"""Examples that are made on first use, and kept when there is room for all of them.

Opening a folder of images should take as long as reading its headers, the second epoch as long as copying an
array.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

KEPT_BYTES = 2**30


def workers() -> int:
    """How many threads read and decode: a rank's part of the processors that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


class Lazy:
    """An array (count, *shape) whose rows are ``make(row)``, called in threads, once if all fit in 1 GiB."""

    def __init__(self, count: int, shape: tuple[int, ...], dtype: Any, make: Callable[[int], np.ndarray]) -> None:
        self.shape = (count, *shape)
        self.dtype = np.dtype(dtype)
        self._make = make
        fits = math.prod(self.shape) * self.dtype.itemsize < KEPT_BYTES
        self._kept = np.empty(self.shape, self.dtype) if fits else None
        self._made = np.zeros(count, dtype=bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the examples at the positions ``rows`` (n,), shape (n, *shape)."""
        if self._kept is None:
            return self._fill(np.empty((len(rows), *self.shape[1:]), self.dtype), np.arange(len(rows)), rows)
        missing = np.unique(rows[~self._made[rows]])
        self._fill(self._kept, missing, missing)
        self._made[missing] = True
        kept: np.ndarray = self._kept[rows]
        return kept

    def _fill(self, out: np.ndarray, places: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if len(rows):
            with ThreadPoolExecutor(min(len(rows), workers())) as pool:
                for place, example in zip(places, pool.map(self._make, rows.tolist()), strict=True):
                    out[place] = example
        return out
