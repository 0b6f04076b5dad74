"""Runs of several processes: the same run as of one, whoever launched them, whatever happens to one of them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logsnr.cli import main, parser
from tests.run.conftest import TINY, records, weights

Verb = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def training(out: Path, steps: int, *more: str) -> list[str]:
    return ["train", "ddpm", "--out", str(out), "--steps", str(steps), "--checkpoint-every", "3",
            "--preview-every", "4", *TINY, *more]  # fmt: skip


def launched(ranks: int, *words: str, status: int = 0, how: tuple[str, ...] = TORCHRUN) -> tuple[str, str]:
    """Standard output and error of a command line on several ranks."""
    command = [*how, "--nproc-per-node", str(ranks), "-m", "logsnr", *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert (done.returncode == 0) is (status == 0), done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout, done.stderr


def by_hand(ranks: int, *words: str) -> list[subprocess.Popen[str]]:
    """The ranks, with nobody to look after them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "logsnr", *words],
            env={**ENVIRONMENT, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip


def reaches(out: Path, step: int, seconds: float = 120) -> None:
    """Wait until the log has a record of `step`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (out / "log.jsonl").is_file() and f'"step":{step},' in (out / "log.jsonl").read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached in {seconds} s")


def assert_close(one: list[dict[str, Any]], many: list[dict[str, Any]], relative: float = 1e-6) -> None:
    assert [record["step"] for record in one] == [record["step"] for record in many]
    for ours, theirs in zip(many, one, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("loss", "grad_norm"):
            assert math.isclose(ours[name], theirs[name], rel_tol=relative), (name, ours["step"])
        for our_bin, their_bin in zip(ours["loss_bins"], theirs["loss_bins"], strict=True):
            assert our_bin == their_bin or math.isclose(our_bin, their_bin, rel_tol=relative)
        assert ours["images"] == theirs["images"]
        if "holdout_loss" in theirs:
            assert math.isclose(ours["holdout_loss"], theirs["holdout_loss"], rel_tol=relative)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(training(out, 50)) == 0
    return out


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 steps of two ranks."""
    out = tmp_path_factory.mktemp("both") / "run"
    said, _ = launched(2, *training(out, 50, "--engine", request.param, "--micro-batch", "3"))
    assert re.search(r"rank 1: .+, cpu, threads 1, examples 4 to 7 of 8", said)
    return out


def test_fifty_steps_of_two_ranks_are_those_of_one(alone: Path, both: Path) -> None:
    assert_close(records(alone), records(both))
    assert (both / "previews" / "step-00000048.png").is_file()


def test_two_ranks_make_the_samples_of_one(both: Path, tmp_path: Path) -> None:
    """Bit for bit, from whole and from sharded weights; chunks do not divide the examples."""
    words = ["sample", str(both), "--n", "40", "--steps", "3", "--threads", "1", "--set", "sample.width=16", "--float"]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    said, _ = launched(2, *words, "--out", str(tmp_path / "two"), "--json")
    assert json.loads(said)["index"] == [0, 40]  # one result of two processes
    with np.load(tmp_path / "one" / "samples.npz") as one, np.load(tmp_path / "two" / "samples.npz") as two:
        for name in one.files:
            assert np.array_equal(one[name], two[name]), name


def test_two_ranks_evaluate_as_one(both: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(both), "--n", "80", "--steps", "2", "--threads", "1", "--metrics", "channel_moments",
             "--bootstrap", "0", "--force"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    launched(2, *words, "--out", str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one["metrics"] == two["metrics"]
    assert one["evaluations_per_example"] == two["evaluations_per_example"]


@pytest.mark.parametrize("ranks", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_one_rank_and_four_go_on_with_what_two_saved(alone: Path, both: Path, tmp_path: Path, ranks: int) -> None:
    out = tmp_path / "run"
    shutil.copytree(both, out)
    shutil.rmtree(out / "checkpoints" / "step-00000050")  # go on from step 48
    if ranks == 1:
        assert main(training(out, 50)) == 0
    else:
        launched(ranks, *training(out, 50, "--engine", "fsdp"))
    assert_close(records(alone), records(out))


def test_the_others_end_when_one_is_killed_and_the_same_command_goes_on(both: Path, tmp_path: Path) -> None:
    """With nobody to look after them; the run is then the undisturbed one, bit for bit."""
    engine = yaml.safe_load((both / "run.yaml").read_text())["machine"]["engine"]
    command = training(tmp_path / "run", 50, "--engine", engine, "--micro-batch", "3")
    first, second = by_hand(2, *command)
    reaches(tmp_path / "run", 5)
    second.kill()
    killed = time.monotonic()
    _, err = first.communicate(timeout=100)
    assert time.monotonic() - killed < 30
    assert first.returncode == 1
    assert "rank 0 of 2: another rank has ended" in err
    said, _ = launched(2, *command)
    assert "resumed at step" in said
    assert records(tmp_path / "run") == records(both)
    assert weights(tmp_path / "run") == weights(both)


def test_torchrun_starts_a_job_anew_that_lost_a_rank(tmp_path: Path) -> None:
    launched(2, *training(tmp_path / "undisturbed", 40))
    command = [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", "1", "-m", "logsnr"]
    out = tmp_path / "run"
    job = subprocess.Popen([*command, *training(out, 40)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    reaches(out, 5)
    os.kill(children(job.pid)[-1], signal.SIGKILL)
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 0
    assert "resumed at step" in said
    assert records(out) == records(tmp_path / "undisturbed")


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_rank_stops_all_after_one_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    job = by_hand(2, *training(tmp_path / "run", 100_000))
    reaches(tmp_path / "run", 2)
    job[1].send_signal(number)
    said = [process.communicate(timeout=100) for process in job]
    assert [process.returncode for process in job] == [130, 130], said
    assert "stopped at step" in said[0][0]
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert records(tmp_path / "run")[-1]["step"] == int(newest.name.removeprefix("step-"))


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed")
def test_accelerate_launches_the_same_run(tmp_path: Path) -> None:
    accelerate = (
        sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "logsnr",
    )  # fmt: skip
    words = training(tmp_path / "accelerated", 6)
    done = subprocess.run([*accelerate, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 ranks, engine ddp" in done.stdout
    launched(2, *training(tmp_path / "run", 6))
    assert records(tmp_path / "accelerated") == records(tmp_path / "run")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--batch-size", "1"), "of 2 with batch size 1; allowed: at most a rank an example"),
        (("--engine", "zero"), "engine 'zero'; allowed: auto, ddp, fsdp"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_what_is_wrong_for_all_is_said_once(tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    job = by_hand(2, *training(tmp_path / "run", 5, *more))
    said = [process.communicate(timeout=100)[1] for process in job]
    assert all(process.returncode != 0 for process in job)
    lines = [line for text in said for line in text.splitlines() if line.startswith("logsnr:")]
    assert len(lines) == 1, said
    assert message in lines[0]
    assert not (tmp_path / "run" / "run.yaml").exists()


def flags_of(words: list[str]) -> list[str]:
    """What follows `-m logsnr` in a command."""
    return words[words.index("logsnr") + 1 :]


def test_the_commands_of_the_cluster_examples_parse() -> None:
    script = ROOT / "examples" / "cluster" / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    joined = script.read_text().replace("\\\n", " ")
    (line,) = [line for line in joined.splitlines() if line.startswith("srun ")]
    words = line.split()
    _, job = yaml.safe_load_all((ROOT / "examples" / "cluster" / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    from torch.distributed.run import get_args_parser

    for command in (words[words.index("torchrun") :], container["command"]):
        known = get_args_parser().parse_args([word.strip('"') for word in command[1:]])
        assert (known.module, known.training_script) == (True, "logsnr")
        assert known.max_restarts == 3
        args = parser().parse_args(flags_of(command))
        assert args.verb == "train"
        assert getattr(args, "machine.engine") == "fsdp"
    page = (ROOT / "docs" / "distributed.md").read_text().replace("\\\n", " ")
    told = [line.split() for line in page.splitlines() if line.startswith("torchrun ")]
    assert len(told) >= 6
    for command in told:
        assert get_args_parser().parse_args(command[1:]).training_script == "logsnr"
        parser().parse_args(flags_of(command))
