"""Which examples are held out.

A source that names two or more splits keeps them. One that names none, or one alone, is permuted by
``numpy.random.default_rng(0)`` and its last tenth (at least 1 example, at most 10,000) is the test split; the
order of the permutation is kept. So two machines hold out the same examples, and a source of one example is
refused. Where examples lie in shards it is the shards that are permuted, and the order of the examples is then that of
the source: a held-out example seldom lies in a shard that is trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TypeVar

import numpy as np

Place = TypeVar("Place", bound=PurePath)

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


def by_name(places: Iterable[Place]) -> dict[str, list[Place]]:
    """Files by the split that their folder, or else a word of their name, means; all under "" if one means none."""
    found: dict[str, list[Place]] = {}
    places = list(places)
    for place in places:
        words = [place.parent.name, *re.split(r"[^a-zA-Z0-9]+", place.stem)]
        split = next((NAMES[word.lower()] for word in words if word.lower() in NAMES), "")
        found.setdefault(split, []).append(place)
    return {"": places} if "" in found else found


def held_out(count: int, shards: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Return the positions (n,) of the train and the test examples among ``count``.

    shards: how many examples each shard has, if they lie in shards.

    Raises:
        ValueError: if fewer than 2 examples leave a split empty.
    """
    if count < 2:
        raise ValueError(f"{count} example; at least 2 are needed, one of them to be held out as the test split")
    order = np.random.default_rng(0).permutation(len(shards) or count)
    test = min(max(count // 10, 1), MOST_HELD_OUT)
    if not shards:
        return {"train": order[: count - test], "test": order[count - test :]}
    bounds = np.cumsum([0, *shards])
    rows = np.concatenate([np.arange(bounds[shard], bounds[shard + 1]) for shard in order])
    return {"train": np.sort(rows[: count - test]), "test": np.sort(rows[count - test :])}
