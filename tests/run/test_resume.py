"""A run that was stopped and continued is the run that was left alone: weights and log, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.run.conftest import TINY, records, weights

Verb = Callable[..., tuple[int, str, str]]
STEPS = 14


def command(out: Path, *more: str, steps: int = STEPS) -> list[str]:
    return ["train", "ddpm", "--out", str(out), "--steps", str(steps), "--checkpoint-every", "3",
            "--preview-every", "5", "--set", "network.dropout=0.1", "--micro-batch", "5", *TINY, *more]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from logsnr.cli import main

    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main(command(out)) == 0
    assert yaml.safe_load((out / "run.yaml").read_text())["network"] == {"name": "tiny", "dropout": 0.1, "channels": 8}
    return out


def test_two_halves_are_the_whole(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    """7 steps, then 14: mid-epoch, between checkpoints, with dropout and accumulation."""
    assert logsnr(*command(tmp_path / "run", steps=7))[0] == 0
    status, out, _ = logsnr(*command(tmp_path / "run"))
    assert status == 0
    assert "resumed at step 7" in out
    assert weights(tmp_path / "run") == weights(undisturbed)
    assert records(tmp_path / "run") == records(undisturbed)


def test_every_step_is_logged_once(undisturbed: Path) -> None:
    assert [record["step"] for record in records(undisturbed)] == list(range(1, STEPS + 1))
    keys = {"step", "images", "loss", "loss_bins", "lr", "grad_norm"}
    assert all(keys <= record.keys() for record in records(undisturbed))
    assert [r["step"] for r in records(undisturbed) if "holdout_loss" in r] == [4, 8, 12]


def test_another_seed_is_another_run(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    assert logsnr(*command(tmp_path / "run", "--seed", "1"))[0] == 0
    assert weights(tmp_path / "run") != weights(undisturbed)


def test_a_torn_log_is_mended(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    """Records after the last checkpoint and half a line are what a kill leaves behind."""
    assert logsnr(*command(tmp_path / "run", steps=7))[0] == 0
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"step":8,"loss":99.0}\n{"step":9,"lo')
    assert logsnr(*command(tmp_path / "run"))[0] == 0
    assert records(tmp_path / "run") == records(undisturbed)


def test_a_finished_run_stays_as_it_is(logsnr: Verb, undisturbed: Path) -> None:
    before = weights(undisturbed)
    status, out, _ = logsnr(*command(undisturbed))
    assert status == 0
    assert "already at step 14" in out
    assert weights(undisturbed) == before


@pytest.mark.parametrize(
    ("more", "culprit"),
    [
        (("--lr", "0.5"), "train.lr"),
        (("--seed", "3"), "seed"),
        (("--set", "schedule.beta_end=0.03"), "schedule.beta_end"),
    ],
)
def test_a_conflicting_flag_names_both_values(
    logsnr: Verb, undisturbed: Path, more: tuple[str, ...], culprit: str
) -> None:
    status, _, err = logsnr(*command(undisturbed, *more, steps=STEPS + 1))
    assert status == 2
    assert len(err.splitlines()) == 1
    assert culprit in err
    assert "another --out" in err


def test_other_data_is_refused(logsnr: Verb, undisturbed: Path) -> None:
    status, _, err = logsnr(*command(undisturbed, "--data", "toy:ring"))
    assert status == 2
    assert len(err.splitlines()) == 1


def test_resume_none_and_a_missing_path(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    assert logsnr(*command(undisturbed, "--resume", "none"))[0] == 2
    status, _, err = logsnr(*command(tmp_path / "run", "--resume", str(tmp_path / "nowhere")))
    assert status == 2
    assert "nowhere" in err


def test_a_law_that_ends_with_the_steps_cannot_be_prolonged(logsnr: Verb, tmp_path: Path) -> None:
    """Twice the steps would be another learning rate from the first step on, not a continuation."""
    cosine = ("--set", "train.decay=cosine", "--set", "train.warmup_steps=1")
    assert logsnr(*command(tmp_path / "run", *cosine, steps=3))[0] == 0
    status, _, err = logsnr(*command(tmp_path / "run", *cosine, steps=6))
    assert status == 2
    assert "train.steps" in err


def test_a_cooldown_by_steps_is_the_same_in_two_halves(logsnr: Verb, tmp_path: Path) -> None:
    """Where the steps end the run the clock has no say; Ctrl-C comes in the middle of the cooldown."""
    words = ("--minutes", "1000", "--set", "train.warmup_steps=1")
    assert logsnr(*command(tmp_path / "whole", *words))[0] == 0
    run = start(tmp_path / "halves", *words)
    wait_for(lambda: (tmp_path / "halves" / "checkpoints" / "step-00000009").is_dir() or run.poll() is not None)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert logsnr(*command(tmp_path / "halves", *words))[0] == 0
    assert weights(tmp_path / "halves") == weights(tmp_path / "whole")
    rates = [record["lr"] for record in records(tmp_path / "whole")]
    assert [record["lr"] for record in records(tmp_path / "halves")] == rates
    assert rates[-1] == pytest.approx(rates[5] / STEPS / 0.6, rel=1e-6)


def test_a_cooldown_is_not_changed_in_silence(logsnr: Verb, tmp_path: Path) -> None:
    """Nor given to a run that is older than it; a law that falls anyway has none."""
    timed = ("--minutes", "1000", "--set", "train.warmup_steps=1")
    assert logsnr(*command(tmp_path / "run", *timed, "--set", "train.cooldown=0", steps=3))[0] == 0
    state = next((tmp_path / "run" / "checkpoints").glob("*/state.json"))
    for _ in range(2):
        status, _, err = logsnr(*command(tmp_path / "run", *timed))
        assert status == 2
        assert "train.cooldown is 0.0" in err
        state.write_text(state.read_text().replace('"cooldown": 0.0,', ""))
    linear = ("--set", "train.decay=linear")
    assert logsnr(*command(tmp_path / "linear", *timed, *linear))[0] == 0
    assert logsnr(*command(tmp_path / "plain", "--set", "train.warmup_steps=1", *linear))[0] == 0
    assert weights(tmp_path / "linear") == weights(tmp_path / "plain")


def test_a_finished_start_elsewhere_is_kept_as_it_is(logsnr: Verb, tmp_path: Path) -> None:
    assert logsnr(*command(tmp_path / "a", steps=3))[0] == 0
    assert logsnr(*command(tmp_path / "b", "--resume", str(tmp_path / "a"), steps=3))[0] == 0
    assert weights(tmp_path / "b") == weights(tmp_path / "a")


def test_going_on_elsewhere_equals_going_on_here(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    assert logsnr(*command(tmp_path / "a", steps=7))[0] == 0
    assert logsnr(*command(tmp_path / "b", "--resume", str(tmp_path / "a")))[0] == 0
    assert weights(tmp_path / "b") == weights(undisturbed)


def start(out: Path, *more: str, steps: int = STEPS) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "logsnr", *command(out, *more, steps=steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.005)
    assert condition()


def test_sigterm_saves_and_says_how_to_go_on(logsnr: Verb, tmp_path: Path, undisturbed: Path) -> None:
    out = tmp_path / "run"
    process = start(out, steps=100_000)
    wait_for(lambda: (out / "log.jsonl").is_file() and (out / "log.jsonl").stat().st_size > 0)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    stopped = int(max((out / "checkpoints").glob("step-*")).name[5:])
    if stopped < STEPS:  # a fast machine may have passed the comparison's end
        assert logsnr(*command(out))[0] == 0
        assert weights(out) == weights(undisturbed)
        assert records(out) == records(undisturbed)


def test_killed_in_the_middle_of_writing(tmp_path: Path, undisturbed: Path) -> None:
    """Three kills aimed at the moment a checkpoint is being written."""
    out = tmp_path / "run"
    for _ in range(3):
        process = start(out)
        seen = set(out.glob("checkpoints/*"))
        while process.poll() is None and not set(out.glob("checkpoints/.*")) - seen:
            time.sleep(0.0005)
        process.kill()
        process.communicate()
    assert start(out).wait(timeout=300) == 0
    assert weights(out) == weights(undisturbed)
    assert records(out) == records(undisturbed)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    """Kill -9 at twenty random moments of the command's life, from its first imports to its last steps."""
    steps, moments = 600, random.Random(0)
    quick = ("--preview-every", "0", "--set", "train.holdout_every=100")
    started, whole, out = time.monotonic(), tmp_path / "undisturbed", tmp_path / "run"
    process = start(whole, *quick, steps=steps)
    wait_for(lambda: any(whole.glob("checkpoints/step-*")))
    born = time.monotonic() - started
    assert process.wait(timeout=280) == 0
    for kill in range(20):
        process = start(out, *quick, steps=steps)
        # a life begins with seconds of imports, then come the steps: kills fall into both
        time.sleep(moments.uniform(0.0, 1.2 * born + 1))
        assert process.poll() is None, f"kill {kill} came too late"
        process.kill()
        process.communicate()
    reached = max((int(path.name[5:]) for path in (out / "checkpoints").glob("step-*")), default=0)
    assert 0 < reached < steps
    said, _ = (last := start(out, *quick, steps=steps)).communicate(timeout=280)
    assert last.returncode == 0, said
    assert weights(out) == weights(tmp_path / "undisturbed")
    assert records(out) == records(tmp_path / "undisturbed")
