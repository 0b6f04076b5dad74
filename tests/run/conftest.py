"""Small runs shared by the tests of the verbs: real training, a few steps, a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logsnr.cli import main

TINY = (
    "--network", "tiny", "--batch-size", "8", "--threads", "1", "--quiet",
    "--set", "network.channels=8", "--set", "train.holdout_every=4", "--set", "train.warmup_steps=5",
)  # fmt: skip


@pytest.fixture
def logsnr(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run one command line in this process: (exit status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = main([str(word) for word in words])
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps on the embedded digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert (
        main(["train", "ddpm", "--out", str(out), "--steps", "10", "--checkpoint-every", "5", "--lr", "0.02", *TINY])
        == 0
    )
    return out


def records(run: Path) -> list[dict[str, Any]]:
    """The log without its times."""
    lines = (run / "log.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def weights(run: Path) -> dict[str, bytes]:
    """Every safetensors file of the newest checkpoint."""
    newest = max((run / "checkpoints").glob("step-*"))
    return {file.relative_to(newest).as_posix(): file.read_bytes() for file in newest.rglob("*.safetensors")}
