"""The networks of the papers through the verbs: each trains a few steps on digits and is sampled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.conftest import records

Verb = Callable[..., tuple[int, str, str]]
SMALLER = {
    "ncsnpp-digits": ("network.channels=8", "network.fourier_scale=0.01"),
    "refinenet-tiny": ("network.channels=8",),
    "dit-digits": ("network.width=16", "network.depth=2"),
}


@pytest.mark.parametrize("network", SMALLER)
def test_a_network_of_the_papers_learns_and_samples(logsnr: Verb, tmp_path: Path, network: str) -> None:
    smaller = [word for option in SMALLER[network] for word in ("--set", option)]
    run = tmp_path / "run"
    words = ["train", "ddpm", "--data", "digits", "--network", network, "--out", run, "--steps", "30", "--quiet"]
    words += ["--batch-size", "32", "--lr", "0.005", "--threads", "1", "--set", "train.warmup_steps=5", *smaller]
    assert logsnr(*words)[0] == 0
    losses = [record["loss"] for record in records(run) if "loss" in record]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5]), "a new network answers 0, and the noise has variance 1"
    assert logsnr("sample", run, "--n", "4", "--steps", "5", "--quiet")[0] == 0
