"""The numbers themselves, in model units: no network, nothing to download, and a metric for data of any kind."""

from __future__ import annotations

import numpy as np

from logsnr.metrics.features.features import Features, Wish


def pixels(wish: Wish) -> Features:
    """x itself, (n, D)."""

    def of(raw: np.ndarray) -> np.ndarray:
        return wish.transform.encode(raw).flatten(1).numpy()

    return Features(of, {"name": "pixels", "resize": None, "input": "model units"})
