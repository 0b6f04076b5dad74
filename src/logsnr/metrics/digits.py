"""Is a model of `digits` any good? Its samples against the training digits, measured in units of held-out digits.

Raw pixels 0 … 16, 64 numbers an image, all 1300 training and 497 held-out images. A classifier's confidence would not
do: it does not tell digits from noise.
"""

from __future__ import annotations

import numpy as np

from logsnr.data import load
from logsnr.metrics.likeness import Likeness, likeness


def check_digits(images: np.ndarray) -> Likeness:
    """The check of images (N, 8, 8) in 0 … 16."""
    if images.shape[1:] != (8, 8):
        raise ValueError(f"images of shape {images.shape}; allowed: (N, 8, 8) grey levels 0 to 16")
    train, heldout = (data.raw(range(len(data))) for data in (load("digits"), load("digits", split="test")))
    return likeness(images, train, heldout)
