"""Classifier two-sample test (Lopez-Paz and Oquab 2017): can a network learn to tell samples from real examples?

As many of either set are dealt into five folds, a small perceptron is trained on four and asked about the fifth. Its
accuracy is ½ for equal laws; with n answers it then has the standard deviation ½/√n, and `p_value` is that of an
accuracy as high, one-sided. Every fold has as many of one set as of the other: a training set with one sample too many
would make the test fold answer below ½. Features are standardised by the training folds.

A trained eye finds what no one thought of measuring, so the accuracy of good models is above ½ too. Read it beside that
of real examples, and beside that of other models at the same number of examples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from logsnr.metrics.bootstrap import share_figure
from logsnr.metrics.comparison import Comparison, Measurement

FOLDS, MOST = 5, 5000
HIDDEN, BATCH, STEPS = 64, 128, 300
RATE, DECAY = 5e-3, 1e-2


def c2st(compared: Comparison) -> Measurement:
    """Accuracy of the features' classifier. ValueError for fewer than 50 examples of either set."""
    count = min(len(compared.samples), len(compared.real), MOST)
    if count < 10 * FOLDS:
        raise ValueError(f"c2st of {count} examples of either set; allowed: at least {10 * FOLDS}")
    sets = [each.at_most(count, compared.seed + i).features for i, each in enumerate((compared.samples, compared.real))]
    hits = answers(*sets, seed=compared.seed)
    accuracy = float(hits.mean())
    z = (accuracy - 0.5) * 2 * math.sqrt(len(hits))
    facts = {
        "samples": count,
        "reference_samples": count,
        "folds": FOLDS,
        "classifier": f"perceptron of twice {HIDDEN} hidden units, {STEPS} steps of AdamW",
        "p_value": 0.5 * math.erfc(z / math.sqrt(2)),
    }
    return Measurement({"c2st_accuracy": share_figure(hits)}, facts)


def answers(x: np.ndarray, y: np.ndarray, *, seed: int) -> np.ndarray:
    """Whether each of the examples x, y (N, D), when it was not trained on, was told right: bool (2N,)."""
    rng = np.random.default_rng(seed)
    folds = [rng.permutation(np.arange(len(each)) % FOLDS) for each in (x, y)]
    fold = np.concatenate(folds)
    features = torch.from_numpy(np.concatenate([x, y]).astype(np.float32))
    label = torch.cat([torch.ones(len(x)), torch.zeros(len(y))])
    hits = np.zeros(len(fold), bool)
    for k in range(FOLDS):
        test = torch.from_numpy(fold == k)
        said = _trained(features[~test], label[~test], features[test], seed + k) > 0
        hits[fold == k] = (said == (label[test] > 0)).numpy()
    return hits


def _trained(x: Tensor, label: Tensor, asked: Tensor, seed: int) -> Tensor:
    """Logits of `asked` (n, D) from a perceptron trained on x (N, D); the same for the same seed."""
    mean, std = x.mean(0), x.std(0)
    scale = torch.where(std > 1e-6, 1 / std, 0.0)
    x, asked = (x - mean) * scale, (asked - mean) * scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Linear(x.shape[1], HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        network = nn.Sequential(first, nn.GELU(), second, nn.GELU(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    rows = torch.from_numpy(np.random.default_rng(seed).integers(0, len(x), (STEPS, BATCH)))
    for step, row in enumerate(rows):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        loss = nn.functional.binary_cross_entropy_with_logits(network(x[row])[:, 0], label[row])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        return network(asked)[:, 0]
