"""Which examples are held out.

A source that names two or more splits keeps them. One that names none, or one alone, is permuted by
``numpy.random.default_rng(0)`` and its last tenth (at least 1 example, at most 10,000) is the test split; the
order of the permutation is kept. So two machines hold out the same examples, and a source of one example is
refused.
"""

from __future__ import annotations

import numpy as np

MOST_HELD_OUT = 10_000

NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "t10k": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
"""What folders, arrays and files call a split, and what it is called here."""


def held_out(count: int) -> dict[str, np.ndarray]:
    """Return the positions (n,) of the train and the test examples among ``count``.

    Raises:
        ValueError: if fewer than 2 examples leave a split empty.
    """
    if count < 2:
        raise ValueError(f"{count} example; at least 2 are needed, one of them to be held out as the test split")
    order = np.random.default_rng(0).permutation(count)
    test = min(max(count // 10, 1), MOST_HELD_OUT)
    return {"train": order[: count - test], "test": order[count - test :]}
