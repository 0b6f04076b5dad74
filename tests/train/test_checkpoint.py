"""Checkpoints: exact round trips, one-line refusals, and a process killed at every one of its writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from logsnr.train.checkpoint import fingerprint, latest, load, rotate, save


def groups(value: float = 1.0) -> dict[str, dict[str, Tensor]]:
    return {"model": {"w": torch.full((5, 3), value)}, "optimizer": {"exp_avg.w": torch.full((5,), -value)}}


def names(root: Path) -> list[str]:
    return sorted(os.listdir(root))


def test_round_trip_is_exact_for_every_kind_of_tensor(tmp_path: Path) -> None:
    shared = torch.randn(6, 4)
    tree = {
        "nan": torch.tensor([float("nan"), -0.0, 1e-45]),
        "f64": torch.randn(3, dtype=torch.float64),
        "half": torch.randn(3).bfloat16(),
        "count": torch.tensor(2**40),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "turned": torch.randn(3, 5).T,
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "tied": shared,
        "tied_again": shared,
        "slice": shared[2:4],
        "trainable": torch.nn.Parameter(torch.randn(2)),
    }
    state = {"images": 12, "config": {"name": "ddpm", "list": [1, None, True, "é"]}}
    found = load(save(tmp_path, 7, {"model": tree, "ema-500": {"a": torch.ones(1)}}, state))
    assert (found.step, found.state) == (7, {"step": 7, **state})
    assert found.path == tmp_path / "step-00000007"
    assert list(found.tensors) == ["model", "ema-500"]
    for name, tensor in tree.items():
        copy = found.tensors["model"][name]
        assert copy.dtype == tensor.dtype
        assert copy.shape == tensor.shape
        assert torch.equal(copy.nan_to_num(7), tensor.nan_to_num(7))


def test_the_directory_describes_itself(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 1000, groups(), {"images": 5})
    assert names(path) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    assert json.loads((path / "state.json").read_text()) == {
        "format_version": 1,
        "step": 1000,
        "groups": ["model", "optimizer"],
        "images": 5,
    }


def test_wrapper_prefixes_are_not_written(tmp_path: Path) -> None:
    wrapped = {"module._orig_mod.a.weight": torch.ones(1), "net.module.b": torch.ones(1)}
    assert set(load(save(tmp_path, 1, {"model": wrapped}, {})).tensors["model"]) == {"a.weight", "net.b"}


def test_latest_goes_by_number_and_sees_complete_checkpoints_only(tmp_path: Path) -> None:
    assert latest(tmp_path / "nowhere") is None
    assert latest(tmp_path) is None
    for step in (9, 100_000_000, 20):
        save(tmp_path, step, groups(), {})
    for rubbish in (".step-900000000.tmp", "step-abc", "step-5", "notes"):
        (tmp_path / rubbish).mkdir()
    assert latest(tmp_path) == tmp_path / "step-100000000"


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step, groups(), {})
    rotate(tmp_path, 2)
    assert names(tmp_path) == ["step-00000004", "step-00000005"]
    rotate(tmp_path, 2)
    rotate(tmp_path, 1)
    assert names(tmp_path) == ["step-00000005"]
    with pytest.raises(ValueError, match="at least 1, not 0"):
        rotate(tmp_path, 0)


def test_fingerprint_changes_with_any_byte_and_not_with_the_place(tmp_path: Path) -> None:
    one, two = save(tmp_path / "a", 1, groups(), {}), save(tmp_path / "b", 1, groups(), {})
    assert fingerprint(one) == fingerprint(two)
    assert len(fingerprint(one)) == 64
    content = bytearray((two / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (two / "model.safetensors").write_bytes(content)
    assert fingerprint(one) != fingerprint(two)


def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    save(tmp_path, 3, groups(1.0), {})
    with pytest.raises(ValueError, match="step-00000003 exists already"):
        save(tmp_path, 3, groups(2.0), {})
    with pytest.raises(ValueError, match="cannot save step 4"):
        save(tmp_path, 4, {"../model": {}}, {})
    with pytest.raises(ValueError, match="cannot save step 4"):
        save(tmp_path, 4, groups(), {"step": 5})
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, 4, groups(), {"loss": float("inf")})
    assert names(tmp_path) == ["step-00000003"]
    assert load(tmp_path / "step-00000003").tensors["model"]["w"][0, 0] == 1.0


def one_line(path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_every_damage_is_one_line_that_says_what_and_where(tmp_path: Path) -> None:
    path = save(tmp_path, 3, groups(), {})
    assert "has step-00000003" in one_line(tmp_path / "step-00000004")
    assert "has nothing" in one_line(tmp_path / "no" / "such")
    assert "has step-00000003" in one_line(tmp_path)
    model = path / "model.safetensors"
    whole = model.read_bytes()
    for cut in (0, 4, 20, len(whole) - 1):
        model.write_bytes(whole[:cut])
        assert "model.safetensors" in one_line(path)
    model.unlink()
    assert "model.safetensors is missing; there are optimizer" in one_line(path)
    model.write_bytes(whole)
    text = (path / "state.json").read_text()
    for broken in ("", text[:-5], "[]", "[" * 100_000, "{}", text.replace('"step": 3', '"step": "3"')):
        (path / "state.json").write_text(broken)
        one_line(path)
    (path / "state.json").write_text(text.replace('"format_version": 1', '"format_version": 2'))
    assert "format_version 2; known: 1" in one_line(path)
    (path / "state.json").write_text(text.replace('"model"', '"../../secret"'))
    assert "missing" in one_line(path)


def test_full_disk_leaves_the_last_checkpoint_and_says_what_was_needed(tmp_path: Path) -> None:
    """The operating system itself refuses: no file may grow beyond 20 kB, the tensors need 400 kB."""
    resource = pytest.importorskip("resource")
    save(tmp_path, 1, groups(), {})
    before = fingerprint(tmp_path / "step-00000001")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        expected = r"^cannot write checkpoint .*step-00000002 of 400\d\d\d bytes, \d+ free: .*$"
        with pytest.raises(OSError, match=expected):
            save(tmp_path, 2, {"model": {"w": torch.zeros(100_000)}}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]
    assert fingerprint(tmp_path / "step-00000001") == before


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_no_space_at_any_sync_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left on device"):
        save(tmp_path, 2, groups(), {})
    assert names(tmp_path) == []


# A child is killed at its k-th operation on the disk, for every k until one survives: before every
# file, sync and rename, and before every deletion of the rotation.
KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
import torch
from logsnr.train import checkpoint
from logsnr.train.checkpoint import latest, load, rotate, save

def groups(value):
    return {"model": {"w": torch.full((5, 3), value)}, "optimizer": {"m": torch.full((5,), -value)}}

def killing(function, left):
    def wrapped(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

def child(root, k):
    left = [k]
    for name in ("fsync", "rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, killing(getattr(os, name), left))
    checkpoint.save_file = killing(checkpoint.save_file, left)
    save(root, 2, groups(2.0), {})
    rotate(root, 1)
    os._exit(0)

seen = set()
for k in range(1, 1000):
    root = Path(sys.argv[1]) / str(k)
    save(root, 1, groups(1.0), {})
    pid = os.fork()
    if pid == 0:
        child(root, k)
    status = os.waitpid(pid, 0)[1]
    visible = [path for path in root.iterdir() if not path.name.startswith(".")]
    for path in visible:
        found = load(path)
        assert (found.tensors["model"]["w"] == found.step).all(), path
        assert (found.tensors["optimizer"]["m"] == -found.step).all(), path
    newest = load(latest(root)).step
    seen.add((newest, len(visible)))
    save(root, 9, groups(9.0), {})
    rotate(root, 2)
    assert sorted(os.listdir(root)) == [f"step-{newest:08d}", "step-00000009"], os.listdir(root)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(k, sorted(seen))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
def test_killed_at_any_moment_only_whole_checkpoints_remain(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    kills, seen = done.stdout.split(maxsplit=1)
    assert int(kills) > 15
    assert seen.strip() == str([(1, 1), (2, 1), (2, 2)])
