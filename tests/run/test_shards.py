"""Training on shards through the command line: inspected, tried, stopped in the middle of an epoch and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.shards import write_shards
from tests.run.conftest import TINY, records, weights

Verb = Callable[..., tuple[int, str, str]]
COUNT, SHARDS, STEPS = 90, 6, 20


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, noise = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    images = noise.integers(0, 256, (COUNT, 8, 8), dtype=np.uint8)
    write_shards(folder, images, noise.integers(0, 3, COUNT), SHARDS)
    return f"wds:{folder}/shard-{{000000..{SHARDS - 1:06}}}.tar"


def command(source: str, out: Path, *more: str, steps: int = STEPS) -> list[str]:
    return ["train", "ddpm", "--data", source, "--out", str(out), "--steps", str(steps), "--checkpoint-every", "3",
            "--flip", "--set", "network.dropout=0.1", "--condition", "classes", *TINY, *more]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from logsnr.cli import main

    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(command(source, out)) == 0
    return out


def test_two_halves_are_the_whole(logsnr: Verb, source: str, tmp_path: Path, undisturbed: Path) -> None:
    """13 steps of 8, then on to 20: from the middle of the second epoch of 81 examples."""
    assert logsnr(*command(source, tmp_path / "run", steps=13))[0] == 0
    status, out, _ = logsnr(*command(source, tmp_path / "run"))
    assert status == 0
    assert "resumed at step 13" in out
    assert weights(tmp_path / "run") == weights(undisturbed)
    assert records(tmp_path / "run") == records(undisturbed)


def test_a_killed_run_goes_on_as_if_it_had_not_been(
    logsnr: Verb, source: str, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "logsnr", *command(source, out)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)) as run:
        deadline = time.monotonic() + 120
        while not list((out / "checkpoints").glob("step-*")) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    status, said, _ = logsnr(*command(source, out))
    assert status == 0
    assert "resumed at step" in said or "already at step" in said
    assert weights(out) == weights(undisturbed)
    assert records(out) == records(undisturbed)


def test_shards_are_inspected_and_a_run_on_them_is_tried(logsnr: Verb, source: str, tmp_path: Path) -> None:
    status, out, _ = logsnr("inspect", source, "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["count"], found["levels"], found["shards"]) == (81, 256, SHARDS)
    assert found["classes"] == ["0", "1", "2"]
    status, out, _ = logsnr(*command(source, tmp_path / "run"), "--dry-run")
    assert status == 0
    assert not (tmp_path / "run").exists()


def test_other_shards_are_another_run(logsnr: Verb, source: str, tmp_path: Path) -> None:
    assert logsnr(*command(source, tmp_path / "run", steps=3))[0] == 0
    fewer = source.replace(f"..{SHARDS - 1:06}", f"..{SHARDS - 2:06}")
    status, _, error = logsnr(*command(fewer, tmp_path / "run"))
    assert status != 0
    assert "was trained on other data" in error
    assert len(error.strip().splitlines()) == 1
