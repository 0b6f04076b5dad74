"""The embedded data set: 1797 real hand-written digits, 8×8 pixels, 17 grey levels 0 .. 16, labels 0 .. 9.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0): 32×32 bitmaps of 13 writers,
each pixel here the number of ink pixels in a 4×4 block. ``digits.npz`` holds them unchanged, as uint8, in the
order of scikit-learn's ``load_digits``.

``numpy.random.default_rng(0).permutation(1797)`` gives the order; the first 1300 are the training split, the
other 497 the test split.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from logsnr.data.record import Block, Source, Wish

TRAIN, LEVELS = 1300, 17


def read_digits(source: str, wish: Wish) -> Source:
    """Return the digits' training and test splits, (N, 8, 8) uint8."""
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        images, labels = archive["images"], archive["labels"]
    order = np.random.default_rng(0).permutation(len(images))
    parts = {"train": order[:TRAIN], "test": order[TRAIN:]}
    blocks = {split: Block(images[rows], labels[rows]) for split, rows in parts.items()}
    return Source(blocks, classes=tuple("0123456789"), levels=LEVELS)
