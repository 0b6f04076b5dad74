"""Moments of channels: mean, standard deviation, skewness and kurtosis of the numbers of each channel.

The plainest figures of all, and those that show a wrong range, a colour cast or a washed-out contrast at once. Over all
examples and pixels of a channel, in model units, with y = (x − mean)/std: skewness E y³, kurtosis E y⁴ (3 for a
Gaussian). A figure is samples less reference, in the channel in which they differ most; the values of each channel are
facts.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from logsnr.metrics import bootstrap
from logsnr.metrics.comparison import Comparison, Measurement, blocks

NAMES = ("mean", "std", "skewness", "kurtosis")


def powers(images: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Mean over its pixels of (x − centre)^p, p = 1 … 4, of each image (N, C, *) and channel: (N, 4, C)."""
    found = []
    for chunk in blocks(images, 4 * images[:1].size):
        x = chunk.reshape(*chunk.shape[:2], -1) - centre.reshape(-1, 1)
        found.append(np.stack([(x**p).mean(-1) for p in range(1, 5)], axis=1))
    return np.concatenate(found)


def moments(power: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The four moments (4, C) of mean powers (4, C) about `centre`; a constant channel has skewness and kurtosis 0."""
    first, second, third, fourth = power
    variance = (second - first**2).clip(min=0)
    std = np.sqrt(variance)
    safe = np.where(std > 0, std, 1.0)
    skewness = (third - 3 * first * second + 2 * first**3) / safe**3
    kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / safe**4
    return np.stack([first + centre, std, np.where(std > 0, skewness, 0), np.where(std > 0, kurtosis, 0)])


def channel_moments(compared: Comparison) -> Measurement:
    """The difference of each moment in its worst channel (column, for vectors), model units."""
    images, reference = compared.samples.images, compared.real.images
    centre = np.stack([chunk.mean(0) for chunk in blocks(reference[:1000], reference[:1].size)]).mean(0)
    centre = centre.reshape(len(centre), -1).mean(1)
    ours, theirs = powers(images, centre), moments(powers(reference, centre).mean(0), centre)

    own = moments(ours.mean(0), centre)
    worst = np.abs(own - theirs).argmax(1)

    def difference(row: int, weight: np.ndarray) -> float:
        power = np.tensordot(weight, ours, 1) / len(ours)
        return float((moments(power, centre) - theirs)[row, worst[row]])

    count, options = len(ours), {"sets": compared.bootstrap, "seed": compared.seed}
    figures = {
        f"channel_{name}": bootstrap.figure(partial(difference, row), count, **options)
        for row, name in enumerate(NAMES)
    }
    tables = {name: {"samples": own[i].tolist(), "reference": theirs[i].tolist()} for i, name in enumerate(NAMES)}
    return Measurement(figures, {"samples": len(images), "reference_samples": len(reference), "channels": tables})
