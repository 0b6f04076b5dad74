"""One rank, two, four: the same losses, norms and weights up to the order of sums, replicated or sharded."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_worker import MICRO, trainer_of

from logsnr.train import checkpoint
from logsnr.train.checkpoint import load

STEPS = 50
HERE = Path(__file__).parent


def launched(out: Path, ranks: int, *engines: str) -> Path:
    """The worker's results; alone where there is one rank, under torchrun where there are more."""
    out.mkdir()
    worker = [str(HERE / "rank_worker.py"), str(out), str(STEPS), *engines]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, *(torchrun if ranks > 1 else []), *worker]
    paths = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("ranks") / "one", 1, "ddp")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("ranks") / "two", 2, "ddp", "fsdp")


def said(out: Path, engine: str, micro: int | None, rank: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / f"{engine}-{micro}-rank{rank}.json").read_text())
    return content


def assert_same_training(one: Path, many: Path, ranks: int) -> None:
    """Losses, their parts and bins, norms and skipped steps, on every rank, and what the law of t has learnt."""
    reference = said(one, "ddp", None)
    for engine in ("ddp", "fsdp"):
        for micro in MICRO:
            for rank in range(ranks):
                found = said(many, engine, micro, rank)
                assert found["history"] == pytest.approx(reference["history"], rel=1e-6)
                assert len(found["reports"]) == len(reference["reports"]) == STEPS
                for ours, theirs in zip(found["reports"], reference["reports"], strict=True):
                    assert (ours["step"], ours["images"]) == (theirs["step"], theirs["images"])
                    assert ours["lr"] == theirs["lr"]  # it falls by the clock that is most advanced
                    assert ours["skipped"] == theirs["skipped"] == (ours["step"] == 8)
                    numbers = ("loss", "grad_norm") if not ours["skipped"] else ()
                    for name in numbers:
                        assert math.isclose(ours[name], theirs[name], rel_tol=1e-6), (engine, micro, name, ours["step"])
                    assert ours["parts"] == pytest.approx(theirs["parts"], rel=1e-6, nan_ok=True)
                    for our_bin, their_bin in zip(ours["loss_bins"], theirs["loss_bins"], strict=True):
                        # a bin may hold one example, whose last bits the order of sums moves more than a mean's
                        assert our_bin == their_bin or math.isclose(our_bin, their_bin, rel_tol=1e-5)


def test_two_ranks_train_as_one(one: Path, two: Path) -> None:
    assert_same_training(one, two, 2)


@pytest.mark.slow
def test_four_ranks_with_uneven_shares_train_as_one(one: Path, tmp_path: Path) -> None:
    """Of six examples two ranks have two and two have one; with two in a micro-batch some ranks have none left."""
    assert_same_training(one, launched(tmp_path / "four", 4, "ddp", "fsdp"), 4)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_weights_averages_and_moments_are_those_of_one_rank(one: Path, two: Path, engine: str) -> None:
    """And a checkpoint of shards is read whole by one process."""
    reference = load(one / "ddp-None" / f"step-{STEPS:08d}")
    found = load(two / f"{engine}-None" / f"step-{STEPS:08d}")
    assert bool(found.shards) is (engine == "fsdp")
    assert found.tensors.keys() == reference.tensors.keys()
    for group, tree in reference.tensors.items():
        assert found.tensors[group].keys() == tree.keys()
        for name, tensor in tree.items():
            torch.testing.assert_close(found.tensors[group][name], tensor, rtol=2e-5, atol=2e-6)


def test_shards_are_cut_and_nothing_in_them_is_executed(two: Path) -> None:
    path = two / "fsdp-None" / f"step-{STEPS:08d}"
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    assert {Path(file).suffix for file in files} == {".safetensors", ".json"}
    assert len([file for file in files if file.startswith("model/")]) == 2
    whole = sum(tensor.nbytes for tensor in load(path, only=["model"]).tensors["model"].values())
    assert max(file.stat().st_size for file in (path / "model").iterdir()) < whole + 1000


def test_one_rank_goes_on_with_the_shards_of_two(two: Path) -> None:
    saved = load(two / "fsdp-None" / f"step-{STEPS:08d}")
    run = trainer_of("auto", 0, 1, None)
    run.load_state(saved.tensors, saved.state["trainer"])
    assert run.step == STEPS
    for name, tensor in run.state().tensors["optimizer"].items():
        assert torch.equal(tensor, saved.tensors["optimizer"][name])


@pytest.mark.parametrize(
    ("harm", "message"),
    [("gone", "lacks shard-00002"), ("torn", "damaged checkpoint"), ("all", "lacks shard-00001")],
)
def test_shards_that_are_missing_or_damaged_are_one_line(two: Path, tmp_path: Path, harm: str, message: str) -> None:
    import shutil

    path = shutil.copytree(two / "fsdp-None" / f"step-{STEPS:08d}", tmp_path / "step-00000050")
    last = sorted((path / "model").iterdir())[-1]
    if harm == "gone":
        last.unlink()
    elif harm == "all":
        shutil.rmtree(path / "model")
    else:
        last.write_bytes(last.read_bytes()[:-8])
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_fingerprint_knows_every_shard(two: Path, tmp_path: Path) -> None:
    import shutil

    path = shutil.copytree(two / "fsdp-None" / f"step-{STEPS:08d}", tmp_path / "step-00000050")
    before = checkpoint.fingerprint(path)
    file = sorted((path / "ema").iterdir())[-1]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert checkpoint.fingerprint(path) != before


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="engine 'zero'; allowed: auto, ddp, fsdp"):
        trainer_of("zero", 0, 1, None)
