"""Image i of a sampling is a function of (seed, i): not of the batch size, not of its neighbours, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import logsnr as library
from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 × 32 × 3 with 256 levels, attention included."""
    from logsnr.cli import main

    root = tmp_path_factory.mktemp("colour")
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    np.save(root / "x.npy", images)
    words = ["train", "ddpm", "--data", str(root / "x.npy"), "--out", str(root / "run"), "--steps", "3", *TINY]
    # no warm-up: the zero-initialised output must have moved, or every network would agree
    assert main([*words, "--set", "network.attention=[2]", "--lr", "0.01", "--set", "train.warmup_steps=0"]) == 0
    assert library.load(root / "run").config.network.options == {"channels": 8, "attention": [2]}
    return root / "run"


def floats(logsnr: Verb, run: Path, out: Path, *flags: str) -> np.ndarray:
    status, _, err = logsnr("sample", run, "--out", out, "--steps", "4", "--float", "--quiet", *flags)
    assert status == 0, err
    return np.load(out / "samples.npz")["x"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_size_and_range_do_not_change_an_image(
    logsnr: Verb, colour_run: Path, tmp_path: Path, precision: str
) -> None:
    flags = ("--precision", precision, "--weights", "raw", "--sampler", "ancestral")
    whole = floats(logsnr, colour_run, tmp_path / "whole", "--n", "9", *flags)
    assert whole.dtype == np.float32
    assert whole.shape == (9, 3, 32, 32)
    for size in ("1", "3", "8"):
        again = floats(logsnr, colour_run, tmp_path / size, "--n", "9", "--batch-size", size, *flags)
        assert np.array_equal(again, whole), f"batch size {size}"
    part = floats(logsnr, colour_run, tmp_path / "part", "--index", "5:8", "--batch-size", "1", *flags)
    assert np.array_equal(part, whole[5:8])
    assert len({image.tobytes() for image in whole}) == 9, "nine different images"


def test_what_is_written(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    status, out, _ = logsnr("sample", digits_run, "--out", tmp_path, "--n", "5", "--steps", "6", "--seed", "7",
                            "--trajectory", "--json")  # fmt: skip
    manifest = json.loads(out)
    assert status == 0
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["sampler"], manifest["steps"], manifest["seed"]) == ("ddim", 6, 7)
    assert len(manifest["checkpoint_sha256"]) == 64
    arrays = np.load(tmp_path / "samples.npz")
    assert arrays["images"].dtype == np.uint8
    assert arrays["images"].shape == (5, 8, 8)
    assert arrays["images"].max() <= 16
    assert arrays["seeds"].tolist() == [7] * 5
    assert Image.open(tmp_path / "grid.png").size[0] > 100
    assert getattr(Image.open(tmp_path / "trajectory.gif"), "n_frames", 0) >= 4  # equal frames are stored once
    assert (tmp_path / "trajectory.png").is_file()


def test_seeds_and_weights_matter(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    base = floats(logsnr, digits_run, tmp_path / "a", "--n", "2")
    assert np.array_equal(base, floats(logsnr, digits_run, tmp_path / "b", "--n", "2"))
    assert not np.array_equal(base, floats(logsnr, digits_run, tmp_path / "c", "--n", "2", "--seed", "1"))
    assert not np.array_equal(base, floats(logsnr, digits_run, tmp_path / "d", "--n", "2", "--weights", "raw"))


def test_eta_zero_forgets_the_noise_and_eta_one_is_ancestral(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    ancestral = floats(logsnr, digits_run, tmp_path / "a", "--n", "2", "--sampler", "ancestral")
    eta = floats(logsnr, digits_run, tmp_path / "b", "--n", "2", "--sampler", "ddim", "--eta", "1")
    # the recipe's ancestral variance is the large one: same mean, other noise
    assert not np.array_equal(ancestral, eta)
    trained = library.load(digits_run)
    small = trained.sample_x0(torch.arange(2), recipe=trained.recipe(sampler="ancestral", steps=4, variance="small"))
    assert np.allclose(small.numpy(), eta, atol=1e-5), "η = 1 is the ancestral step with the small variance"
    assert not np.array_equal(floats(logsnr, digits_run, tmp_path / "c", "--n", "2", "--eta", "0"), eta)


def test_library_and_verb_agree(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    assert logsnr("sample", digits_run, "--out", tmp_path, "--n", "3", "--steps", "5", "--seed", "2")[0] == 0
    images = library.load(digits_run).sample(3, steps=5, seed=2)
    assert np.array_equal(images, np.load(tmp_path / "samples.npz")["images"])


def test_leaves_of_the_run_s_sample_can_be_set(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    """--set is --sampler, --eta and so on by other words; a named sampler has its own defaults."""

    def images(*flags: str) -> np.ndarray:
        status, _, err = logsnr("sample", digits_run, "--out", tmp_path, "--n", "3", "--steps", "5", "--quiet", *flags)
        assert status == 0, err
        return np.load(tmp_path / "samples.npz")["images"]

    by_flag = images("--sampler", "ddim", "--eta", "0.3")
    assert np.array_equal(images("--set", "sample.sampler={name: ddim, eta: 0.3}"), by_flag)
    assert np.array_equal(images("--sampler", "ddim", "--set", "sample.sampler.eta=0.3"), by_flag)
    assert np.array_equal(images("--set", "sample.sampler.eta=0.3"), by_flag), "the recipe's sampler is ddim too"
    own = images("--sampler", "ddim")
    assert np.array_equal(images("--sampler", "ddim", "--eta", "0"), own)
    assert not np.array_equal(images(), own), "the recipe's own has noise"
    status, _, err = logsnr("sample", digits_run, "--set", "train.lr=1")
    assert (status, err.count("\n")) == (2, 1)
    assert "allowed: sample.KEY=VALUE" in err


def test_evaluations_of_an_adaptive_sampler_are_those_that_were_made(
    logsnr: Verb, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    forward = library.Denoiser.forward

    def counted(self: library.Denoiser, x: torch.Tensor, level: library.Level, **condition: torch.Tensor) -> object:
        calls.append(1)
        return forward(self, x, level, **condition)

    monkeypatch.setattr(library.Denoiser, "forward", counted)
    flags = ("--sampler", "dpm_adaptive", "--steps", "2", "--set", "sample.sampler.rtol=0.05")
    status, _, err = logsnr("sample", digits_run, "--out", tmp_path, "--n", "1", "--quiet", *flags)
    assert status == 0, err
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    # the rows beside the one example are copies of it, and the loop's last step is x0
    assert manifest["evaluations_per_example"] == len(calls)
