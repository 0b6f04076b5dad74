"""Are samples copies of training examples, or of one another?

With d(x, S) the distance of x to its nearest neighbour in a set S:

    nearest_ratio   median d(sample, train) / median d(held-out, train): 1 is as far from the training set as new real
                    examples are, 0 is a copy
    copies          share of samples nearer to the training set than the nearest 1 % of held-out examples are
    duplicates      share of samples with another one nearer than the nearest 1 % of as many real examples have
    train_gap       share of samples whose nearest real example is in `train`, less n_train/(n_train + n_heldout)

**Its test.** If the model has learnt the law and not the set, which real examples were in `train` is a matter of
chance, and the splits can be dealt anew. Let c_z samples have z as their nearest of all n real examples, and call a
random n_train of these "train": the share then has the mean p = n_train/n and the variance

    p (1 − p) n/(n − 1) Σ_z (c_z − c̄)²/N².

So many samples around a few real examples make it no smaller than it is, and the splits need not be of one size.
`p_value` is that of a gap as large, one-sided, in the normal approximation (compare Meehan et al. 2020).
"""

from __future__ import annotations

import math

import numpy as np

from logsnr.metrics.bootstrap import share_figure
from logsnr.metrics.comparison import Comparison, Figure, Measurement, chosen
from logsnr.metrics.neighbours import distance_blocks, nearest

QUANTILE = 0.01
MOST = 10_000
"""Samples, and real examples that only say how near is near. The training set is always whole."""


def memorisation(compared: Comparison) -> Measurement:
    """The figures of the features. ValueError without a training and a held-out split, or with two samples or fewer."""
    if compared.train is None or compared.heldout is None:
        raise ValueError("memorisation needs examples of a train and of a held-out split")
    samples, heldout = (s.at_most(MOST, compared.seed).features for s in (compared.samples, compared.heldout))
    train = compared.train.features
    if min(len(samples), len(train), len(heldout)) < 2:
        raise ValueError(f"memorisation of {len(samples)} samples, {len(train)} training examples; allowed: 2 and more")
    to_train, place = closest(samples, train)
    to_heldout, other = closest(samples, heldout)
    normal = nearest(heldout, train)[:, 0]
    near = np.quantile(normal, QUANTILE)
    twins, alike = twin_distances(samples), twin_distances(train[chosen(len(train), len(samples), compared.seed)])

    gap = train_gap(to_train - to_heldout, place, other, (len(train), len(heldout)), compared.seed)
    figures = {
        "nearest_ratio": Figure(float(np.median(to_train) / max(float(np.median(normal)), 1e-300))),
        "copies": share_figure((to_train < near) | (to_train == 0)),
        "duplicates": share_figure((twins < np.quantile(alike, QUANTILE)) | (twins == 0)),
        "train_gap": gap[0],
    }
    facts = {"samples": len(samples), "train_samples": len(train), "heldout_samples": len(heldout)}
    facts |= {"exact_copies": int((to_train == 0).sum()), "exact_duplicates": int((twins == 0).sum())}
    return Measurement(figures, {**facts, "p_value": gap[1]})


def closest(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row of x to its nearest row of y, (N,), and which that is, (N,)."""
    found, place = np.empty(len(x)), np.empty(len(x), np.int64)
    for rows, block in distance_blocks(x, y):
        place[rows] = block.argmin(1)
        found[rows] = block.min(1)
    return found, place


def twin_distances(x: np.ndarray) -> np.ndarray:
    """Distance of each example to the nearest other one of the set, (N,)."""
    return nearest(x, x, 2)[:, 1]


def train_gap(
    difference: np.ndarray, place: np.ndarray, other: np.ndarray, sizes: tuple[int, int], seed: int
) -> tuple[Figure, float]:
    """The gap with its standard deviation when splits are dealt at random, and the one-sided p-value.

    difference: (N,) distance to `train` less that to held-out. place, other: (N,) the nearest of either split.
    """
    count, (n_train, n_heldout) = len(difference), sizes
    total, p = n_train + n_heldout, n_train / (n_train + n_heldout)
    ties = np.random.default_rng(seed).random(count) < p
    in_train = (difference < 0) | ((difference == 0) & ties)
    drawn = np.bincount(np.where(in_train, place, n_train + other), minlength=total)
    variance = p * (1 - p) * total / (total - 1) * ((drawn - count / total) ** 2).sum() / count**2
    gap, error = float(in_train.mean() - p), math.sqrt(variance)
    return Figure(gap, error), 0.5 * math.erfc(gap / max(error, 1e-300) / math.sqrt(2))
