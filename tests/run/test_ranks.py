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
from logsnr.train import checkpoint
from tests.run.conftest import TINY, records

Verb = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def training(out: Path, steps: int, *more: str) -> list[str]:
    every = ("--checkpoint-every", "8", "--preview-every", "40", "--set", "train.holdout_every=16")
    return ["train", "ddpm", "--out", str(out), "--steps", str(steps), *TINY, *every, *more]


def launched(ranks: int, *commands: list[str], how: tuple[str, ...] = TORCHRUN) -> str:
    """Standard output of command lines, one after the other, on several ranks."""
    worker = [str(Path(__file__).with_name("rank_worker.py")), json.dumps(commands)]
    many = () if how != TORCHRUN else ("--nproc-per-node", str(ranks))
    done = subprocess.run([*how, *many, *worker], env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


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


def tensors(run: Path) -> dict[str, bytes]:
    """Every tensor of the newest checkpoint; the headers of shards name them in no particular order."""
    saved = checkpoint.load(max((run / "checkpoints").glob("step-*"))).tensors
    return {f"{g}/{n}": tensor.numpy().tobytes() for g, named in saved.items() for n, tensor in named.items()}


def assert_close(one: list[dict[str, Any]], many: list[dict[str, Any]], relative: float = 1e-6) -> None:
    assert [record["step"] for record in one] == [record["step"] for record in many]
    for ours, theirs in zip(many, one, strict=True):
        assert ours.keys() == theirs.keys()
        assert math.isclose(ours["loss"], theirs["loss"], rel_tol=relative), ours["step"]
        assert math.isclose(ours["grad_norm"], theirs["grad_norm"], rel_tol=10 * relative), ours["step"]
        for our_bin, their_bin in zip(ours["loss_bins"], theirs["loss_bins"], strict=True):
            assert our_bin == their_bin or math.isclose(our_bin, their_bin, rel_tol=10 * relative)
        assert ours["images"] == theirs["images"]
        if "holdout_loss" in theirs:
            assert math.isclose(ours["holdout_loss"], theirs["holdout_loss"], rel_tol=relative)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(training(out, 50)) == 0
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks make, in one launch: for each engine 50 steps, samples and an evaluation."""
    out = tmp_path_factory.mktemp("two")
    commands = []
    for engine in ("ddp", "fsdp"):
        run = out / engine
        commands += [accumulated(run, engine), [*sampling(run), "--out", str(run / "two")]]
    said = launched(2, *commands, [*evaluation(out / "fsdp"), "--out", str(out / "evaluated")])
    assert re.search(r"rank 1: .+, cpu, threads 1, examples 4 to 7 of 8", said)
    return out


@pytest.fixture(params=["ddp", "fsdp"])
def both(request: pytest.FixtureRequest, two: Path) -> Path:
    """The run of two ranks, with either engine."""
    return two / str(request.param)


def accumulated(out: Path, engine: str) -> list[str]:
    return training(out, 50, "--engine", engine, "--micro-batch", "3")


def sampling(run: Path) -> list[str]:
    return ["sample", str(run), "--n", "40", "--steps", "3", "--threads", "1", "--set", "sample.width=16", "--float"]


def evaluation(run: Path) -> list[str]:
    return ["evaluate", str(run), "--n", "80", "--steps", "2", "--threads", "1", "--metrics", "channel_moments",
            "--bootstrap", "0", "--force"]  # fmt: skip


def test_fifty_steps_of_two_ranks_are_those_of_one(alone: Path, both: Path) -> None:
    assert_close(records(alone), records(both))
    assert (both / "previews" / "step-00000040.png").is_file()


def test_two_ranks_make_the_samples_of_one(both: Path, tmp_path: Path) -> None:
    """Bit for bit, from whole and from sharded weights; chunks do not divide the examples."""
    assert main([*sampling(both), "--out", str(tmp_path)]) == 0
    with np.load(tmp_path / "samples.npz") as one, np.load(both / "two" / "samples.npz") as many:
        assert {"images", "x"} <= set(one.files) == set(many.files)
        for name in one.files:
            assert np.array_equal(one[name], many[name]), name


def test_two_ranks_evaluate_as_one(two: Path, tmp_path: Path) -> None:
    assert main([*evaluation(two / "fsdp"), "--out", str(tmp_path)]) == 0
    one, many = (json.loads((path / "metrics.json").read_text()) for path in (tmp_path, two / "evaluated"))
    assert one["metrics"]["channel_moments"]["figures"] == many["metrics"]["channel_moments"]["figures"]
    assert one["evaluations_per_example"] == many["evaluations_per_example"]


NETWORKS: dict[str, tuple[str, ...]] = {
    "ncsnpp": ("ddpm", "--network", "ncsnpp", "--set", "network.channels=8"),
    "refinenet": ("ncsn", "--network", "refinenet", "--set", "network.channels=8"),
    "dit": ("ddpm", "--network", "dit", "--set", "network.width=32", "--set", "network.heads=2"),
    "learned": ("vdm", "--network", "vdm_unet", "--set", "network.channels=8", "--set", "network.depth=2"),
    "vectors": ("ddpm", "--data", "toy:ring"),
    "classes": ("iddpm", "--network", "tiny", "--set", "network.channels=8", "--condition", "classes"),
}


@pytest.mark.slow
def test_every_network_and_a_learned_schedule_are_sharded(tmp_path: Path) -> None:
    """With shares of two and three examples; the first steps, before differences of the last bit have grown."""

    def words(name: str, out: Path, engine: str) -> list[str]:
        short = ("--steps", "3", "--batch-size", "5", "--precision", "fp32", "--threads", "1", "--quiet")
        every = ("--preview-every", "3", "--set", "train.holdout_every=3", "--set", "train.warmup_steps=100")
        return ["train", *NETWORKS[name], "--out", str(out), "--engine", engine, *short, *every]

    launched(2, *[words(name, tmp_path / f"{name}-{e}", e) for name in NETWORKS for e in ("ddp", "fsdp")])
    for name in NETWORKS:
        assert main(words(name, tmp_path / name, "auto")) == 0
        for engine in ("ddp", "fsdp"):
            assert_close(records(tmp_path / name), records(tmp_path / f"{name}-{engine}"), 1e-5)


@pytest.mark.parametrize("ranks", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_one_rank_and_four_go_on_with_what_two_saved(alone: Path, both: Path, tmp_path: Path, ranks: int) -> None:
    """And with the other engine."""
    out = tmp_path / "run"
    shutil.copytree(both, out)
    shutil.rmtree(out / "checkpoints" / "step-00000050")  # go on from step 48
    if ranks == 1:
        assert main(training(out, 50, "--micro-batch", "3")) == 0
    else:
        launched(ranks, accumulated(out, "ddp" if both.name == "fsdp" else "fsdp"))
    assert_close(records(alone), records(out))


@pytest.mark.parametrize("engine", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_when_one_rank_is_killed_the_other_ends(two: Path, tmp_path: Path, engine: str) -> None:
    """With nobody to look after them; the same command then makes the undisturbed run, bit for bit."""
    command = accumulated(tmp_path / "run", engine)
    first, second = by_hand(2, *command)
    reaches(tmp_path / "run", 12)
    second.kill()
    killed = time.monotonic()
    _, err = first.communicate(timeout=100)
    assert time.monotonic() - killed < 30
    assert first.returncode == 1
    assert "rank 0: another rank has ended" in err
    assert "resumed at step" in launched(2, command)
    assert records(tmp_path / "run") == records(two / engine)
    assert tensors(tmp_path / "run") == tensors(two / engine)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_starts_a_job_anew_that_lost_a_rank(two: Path, tmp_path: Path, victim: int) -> None:
    command = [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", "1", "-m", "logsnr"]
    out = tmp_path / "run"
    words = accumulated(out, "ddp")
    job = subprocess.Popen([*command, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    reaches(out, 12)
    os.kill(children(job.pid)[victim], signal.SIGKILL)
    said, _ = job.communicate(timeout=200)
    assert job.returncode == 0
    assert "resumed at step" in said
    assert records(out) == records(two / "ddp")


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_one_rank_stops_all_after_one_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    job = by_hand(2, *training(tmp_path / "run", 100_000))
    reaches(tmp_path / "run", 2)
    job[1].send_signal(number)
    said = [process.communicate(timeout=100) for process in job]
    assert [process.returncode for process in job] == [130, 130], said
    assert "stopped at step" in said[0][0]
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert records(tmp_path / "run")[-1]["step"] == int(newest.name.removeprefix("step-"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed")
def test_accelerate_launches_the_same_run(two: Path, tmp_path: Path) -> None:
    accelerate = (
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
    )  # fmt: skip
    said = launched(2, accumulated(tmp_path / "run", "ddp"), how=accelerate)
    assert "2 ranks, engine ddp" in said
    assert records(tmp_path / "run") == records(two / "ddp")


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--engine", "zero"), "engine 'zero'; allowed: auto, ddp, fsdp"),
        slow(("--batch-size", "1"), "2 ranks with batch size 1; allowed: at most a rank an example"),
        slow(("--nonsense",), "--nonsense"),
        slow(("--engine", "fsdp", "--set", "objective.loss=sliced"), "differentiates the network itself"),
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
