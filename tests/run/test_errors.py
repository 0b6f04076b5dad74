"""Bad input is one line that names the culprit and what is allowed, status 2, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]


def one_line(result: tuple[int, str, str], *culprits: str, status: int = 2) -> None:
    got, _, err = result
    assert got == status, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("logsnr: ")
    for culprit in culprits:
        assert culprit in err


@pytest.mark.parametrize(
    ("words", "culprits"),
    [
        (["train", "ddmp"], ("ddmp", "ddpm")),
        (["train", "ddim"], ("ddim is a sampler", "train ddpm")),
        (["train", "ddpm", "--data", "nowhere"], ("nowhere",)),
        (["train", "ddpm", "--data", "toy:rings"], ("rings", "ring")),
        (["train", "ddpm", "--set", "train.lrr=1"], ("train.lrr", "lr")),
        (["train", "ddpm", "--set", "schedule.beta_stop=1"], ("beta_stop",)),
        (["train", "ddpm", "--set", "schedule.beta_end=1.5"], ("beta_667", "0 < beta < 1")),
        (["train", "ddpm", "--set", "schedule={name: beta_table, betas: scaled_linear, num_diffusion_steps: 10}"],
         ("beta_6", "larger T")),
        (["train", "ddpm", "--set", "schedule.name=cosin"], ("cosin", "cosine")),
        (["train", "ddpm", "--set", "target=noise"], ("noise", "eps")),
        (["train", "ddpm", "--set", "sample.sampler.name=eular"], ("eular", "ddim")),
        (["train", "ddpm", "--set", "sample.steps=1001"], ("1001", "1000")),
        (["train", "ddpm", "--set", "train.steps=-3"], ("train.steps", "-3")),
        (["train", "ddpm", "--network", "huge"], ("huge", "small")),
        (["train", "ddpm", "--device", "tpu"], ("tpu", "cpu")),
        (["train", "ddpm", "--precision", "fp8"], ("fp8", "bf16")),
        (["train", "ddpm", "--steps", "many"], ("--steps", "many")),
        (["train", "ddpm", "--colour", "red"], ("--colour",)),
        (["train", "ddpm", "--config", "none.yaml"], ("none.yaml",)),
        (["train", "ddpm", "--lr", "inf"], ("train.lr", "inf")),
        (["train", "ddpm", "--minutes", "nan"], ("train.minutes",)),
        (["train", "ddpm", "--minutes", "-1"], ("train.minutes",)),
        (["train", "ddpm", "--set", "train.cooldown=2"], ("train.cooldown = 2", "0 to 1")),
        (["train", "ddpm", "--seed", "18446744073709551616"], ("seed",)),
        (["train", "ddpm", "--channels", "0"], ("0",)),
        (["train", "ddpm", "--step", "1"], ("--step",)),
        (["train", "ddpm", "--set", "recipe=vdm"], ("vdm", "ddpm")),
        (["train", "ddpm", "--set", "schedule.num_diffusion_steps=-5"], ("-5",)),
        (["train", "ddpm", "--set", "schedule.betas=warmup", "--set", "schedule.fraction=2"], ("fraction",)),
        (["train", "ddpm", "--set", "network={name: tiny, shape: [3]}"], ("shape",)),
        (["train", "ddpm", "--set", "sample.width=-3"], ("width", "-3")),
        (["train", "ddpm", "--set", "schedule.name=beta_linear", "--set", "schedule.scale=sub_vp"], ("sub_vp", "vp")),
        (["train", "ddpm", "--set", "schedule.name=beta_linear", "--set", "scale=ve", "--set", "label=time"], ("ve",)),
    ],
)  # fmt: skip
def test_train(logsnr: Verb, tmp_path: Path, words: list[str], culprits: tuple[str, ...]) -> None:
    one_line(logsnr(*words, "--out", tmp_path / "run"), *culprits)
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_verbs(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    one_line(logsnr("tarin"), "tarin", "train")
    one_line(logsnr("sample", tmp_path / "nothing"), "nothing")
    one_line(logsnr("sample", digits_run, "--sampler", "dpm"), "dpm", ["ddim", "ancestral"][0])
    one_line(logsnr("sample", digits_run, "--steps", "1001"), "1001")
    one_line(logsnr("sample", digits_run, "--eta", "2"), "eta", "2")
    one_line(logsnr("sample", digits_run, "--index", "8:5"), "8:5")
    one_line(logsnr("sample", digits_run, "--index", "0:5", "--n", "3"), "--n")
    one_line(logsnr("sample", digits_run, "--sampler", "ancestral", "--eta", "1"), "eta")
    one_line(logsnr("sample", digits_run, "--weights", "best"), "best", "raw")
    one_line(logsnr("sample", digits_run, "--n", "0"), "--n 0")
    one_line(logsnr("sample", digits_run, "--steps", "0"), "--steps 0")
    one_line(logsnr("sample", digits_run, "--seed", "-1"), "--seed -1")
    one_line(logsnr("doctor", "--device", "cpu:x"), "cpu:x")
    one_line(logsnr("inspect", tmp_path / "nothing"), "nothing")
    one_line(logsnr("explain", "vdmm"), "vdmm", "ddpm")


def test_data(logsnr: Verb, tmp_path: Path) -> None:
    def train(source: Path) -> tuple[int, str, str]:
        return logsnr("train", "ddpm", "--data", source, "--out", tmp_path / "run", "--steps", "1", *TINY)

    empty = tmp_path / "empty"
    empty.mkdir()
    one_line(train(empty), "empty", "png")

    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8), "L").save(corrupt / name)
    (corrupt / "b.png").write_bytes((corrupt / "b.png").read_bytes()[:40])
    one_line(train(corrupt), "b.png")

    np.save(tmp_path / "nan.npy", np.array([[0.0, 1.0], [np.nan, 2.0]] * 20))
    one_line(train(tmp_path / "nan.npy"), "nan.npy", "NaN")
    np.save(tmp_path / "complex.npy", np.zeros((20, 2), np.complex64))
    one_line(train(tmp_path / "complex.npy"), "complex")
    np.save(tmp_path / "object.npy", np.array([None] * 20), allow_pickle=True)
    one_line(train(tmp_path / "object.npy"), "object.npy")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY rubbish")
    one_line(train(tmp_path / "x.npy"), "x.npy")


def test_damaged_checkpoint(logsnr: Verb, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert logsnr("train", "ddpm", "--out", out, "--steps", "2", *TINY)[0] == 0
    file = next(out.glob("checkpoints/*/ema.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    one_line(logsnr("sample", out, "--n", "1"), "ema.safetensors")


def test_two_trainings_in_one_directory(logsnr: Verb, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one_line(logsnr("train", "ddpm", "--out", tmp_path / "run", "--steps", "1", *TINY), "another process")
