"""2N steps are N steps, a checkpoint and N steps, bit for bit, even if it is killed again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_task import Toy, assert_bits, batches, copied, toy, trainer

from logsnr.train import checkpoint


def quiet(reports: list[Any]) -> list[dict[str, Any]]:
    return [{**report.record(), "seconds": None} for report in reports]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_resumed_run_is_the_same_run(tmp_path: Path, kind: str) -> None:
    """Mid-epoch, with dropout, accumulation and skipped steps on both sides of the cut, through the files."""
    settings: dict[str, Any] = {"dropout": 0.3, "poison": (2, 4, 5, 6), "kind": kind}
    undisturbed = trainer(toy(**settings), micro_batch=4)
    expected = list(undisturbed.steps(batches(0, 10)))
    assert [r.step for r in expected if r.skipped] == [3, 5, 6, 7]

    first = trainer(toy(**settings), micro_batch=4)
    reports = list(first.steps(batches(0, 5)))
    path = checkpoint.save(tmp_path, first.step, first.state().tensors, first.state().values)
    torch.manual_seed(99)
    second = trainer(Toy(**settings), micro_batch=4)
    loaded = checkpoint.load(path)
    second.load_state(loaded.tensors, loaded.state)
    reports += list(second.steps(batches(5, 10)))
    assert quiet(reports) == quiet(expected)
    assert (
        second.state().values
        == undisturbed.state().values
        == {
            "step": 10,
            "images": 60,
            "skipped": 4,
            "skipped_in_a_row": 0,
        }
    )
    assert_bits(copied(second), copied(undisturbed))
    assert "task/history" in copied(second)
    assert copied(second)["optimizer/step.model.0.weight"] == 6


# The whole life of a run under kill -9: it is killed at its k-th touch of the disk, started again with the
# same command, and so on; the log and the weights must be those of a run that nothing befell.
LIFE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
from toy_task import batches, toy, trainer
from logsnr.train import checkpoint
from logsnr.train.journal import Journal, read

torch.set_num_threads(1)
STEPS, EVERY = 12, 3

def life(root, kill_at):
    left = [kill_at]
    def killing(function):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return wrapped
    for name in ("fsync", "rename", "replace", "unlink"):
        setattr(os, name, killing(getattr(os, name)))
    run = trainer(toy(dropout=0.2, poison=(4,)), micro_batch=4)
    found = checkpoint.latest(root / "checkpoints")
    if found:
        saved = checkpoint.load(found)
        run.load_state(saved.tensors, saved.state)
    with Journal(root / "log.jsonl") as journal:
        journal.keep_until(run.step)
        append = killing(journal.append)
        for report in run.steps(batches(run.step, STEPS)):
            append(report.record())
            if report.step % EVERY == 0:
                journal.sync()
                checkpoint.save(root / "checkpoints", run.step, *run.state())
                checkpoint.rotate(root / "checkpoints", 2)
    os._exit(0)

def live(root, kill_at):
    pid = os.fork()
    if pid == 0:
        life(root, kill_at)
    return os.waitpid(pid, 0)[1]

def outcome(root):
    path = checkpoint.latest(root / "checkpoints")
    records = [{**record, "seconds": None} for record in read(root / "log.jsonl")]
    return checkpoint.fingerprint(path), records

root = Path(sys.argv[1])
list(trainer(toy()).steps(batches(0, 1)))  # what the first step imports is then there in every child
assert live(root / "undisturbed", 0) == 0
expected = outcome(root / "undisturbed")
assert [record["step"] for record in expected[1]] == list(range(1, STEPS + 1))
deaths = 0
for first in (11, 26):
    kill_at = first
    while (status := live(root / str(first), kill_at)) != 0:
        assert os.WIFSIGNALED(status), "the run failed by itself"
        deaths += 1
        kill_at += 1
for path in root.iterdir():
    assert outcome(path) == expected, path
print(deaths)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
def test_a_run_killed_again_and_again_is_the_undisturbed_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIFE, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 6
