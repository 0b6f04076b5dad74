"""Sets to compare, from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from logsnr.metrics import Comparison, Examples


def examples(x: np.ndarray) -> Examples:
    """A set whose features are its numbers."""
    return Examples(x.astype(np.float32), x.reshape(len(x), -1).astype(np.float32))


def comparison(x: np.ndarray, y: np.ndarray, **options: Any) -> Comparison:
    """x (N, *) beside y (M, *); train and heldout may be arrays too."""
    sets = {key: examples(options.pop(key)) for key in ("train", "heldout") if key in options}
    return Comparison(examples(x), examples(y), **sets, **{"bootstrap": 0, **options})
