"""A feature space of the user's own data: what a small network learns by telling its classes apart.

Features of photographs say little about digits, fonts or spectra. Here a network of two convolutions (a perceptron for
vectors) is trained on the spot on the labelled training split. The features are the 64 numbers before its logits, each
standardised over that split.
Seed, order and number of steps are fixed, so all runs on one data set are measured by one network; its accuracy on
held-out examples is stated, and the SHA-256 of its weights, which may differ in other numbers of threads.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from logsnr.data import Dataset
from logsnr.metrics.features.features import Features, Wish, asked, frozen

WIDTH, CHANNELS = 64, 32
STEPS, BATCH, RATE = 400, 64, 3e-3
MOST_SEEN, MOST_HELD_OUT = 5000, 5000


class Classifier(nn.Module):
    """x (n, *shape) in model units → logits (n, classes); `features` gives the (n, 64) before them."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        if len(shape) == 3:
            self.body: nn.Module = nn.Sequential(
                nn.Conv2d(shape[0], CHANNELS, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1),
                nn.GELU(),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
                nn.Linear(16 * CHANNELS, WIDTH),
            )
        else:
            dims = torch.Size(shape).numel()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(dims, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.head = nn.Sequential(nn.GELU(), nn.Linear(WIDTH, classes))

    def features(self, x: Tensor) -> Tensor:
        """(n, 64)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def classifier(wish: Wish) -> Features:
    """A network trained on `wish.train`. ValueError for data without two classes."""
    data = wish.train
    if data is None or data.labels is None or len(data.classes) < 2:
        raise ValueError("--features classifier needs labels of two classes or more; allowed: --features pixels")
    network = trained(data)

    def plain(raw: np.ndarray) -> np.ndarray:
        return asked(network.features, wish.transform.encode(raw), torch.device("cpu"))

    seen = np.concatenate([plain(data.raw(rows)) for rows in _parts(data, MOST_SEEN)])
    mean, std = seen.mean(0), seen.std(0).clip(min=1e-6)

    def of(raw: np.ndarray) -> np.ndarray:
        return (plain(raw) - mean) / std

    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    facts = {
        "name": "classifier",
        "sha256": digest.hexdigest(),
        "resize": None,
        "input": "model units",
        "output": "standardised over the training split",
        "classes": len(data.classes),
        "trained_on": data.fingerprint,
        "heldout_accuracy": None if wish.heldout is None else accuracy(network, wish.heldout),
    }
    return frozen(Features(of, facts), data.raw(range(2)))


def trained(data: Dataset, seed: int = 0) -> Classifier:
    """The classifier of the labelled data, in evaluation mode and frozen; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(data.shape, len(data.classes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    law = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=STEPS)
    for rows in np.random.default_rng(seed).integers(0, len(data), (STEPS, BATCH)):
        x, condition = data.batch(rows)
        loss = nn.functional.cross_entropy(network(x), condition["classes"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        law.step()
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def accuracy(network: Classifier, data: Dataset) -> float:
    """Share of at most 5,000 examples whose class is told."""
    hits = []
    for rows in _parts(data, MOST_HELD_OUT):
        x, condition = data.batch(rows)
        hits.append((network(x).argmax(1) == condition["classes"]).float())
    return float(torch.cat(hits).mean())


def _parts(data: Dataset, most: int) -> list[np.ndarray]:
    """The first examples, at most `most`, a hundred or so at a time."""
    count = min(len(data), most)
    return np.array_split(np.arange(count), -(-count // 100))
