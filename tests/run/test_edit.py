"""`logsnr edit`: what it writes, that encoding and decoding are inverse, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import logsnr as library
from logsnr.data import load as load_data
from tests.run.test_errors import one_line

Verb = Callable[..., tuple[int, str, str]]


def edited(logsnr: Verb, run: Path, what: str, out: Path, *flags: object) -> tuple[dict, dict[str, np.ndarray]]:
    status, text, err = logsnr("edit", run, what, "--out", out, "--json", *flags)
    assert status == 0, err
    assert Image.open(out / "grid.png").size[0] > 60
    with np.load(out / "latents.npz") as arrays:
        made = dict(arrays)
    manifest = json.loads(text)
    assert manifest == json.loads((out / "manifest.json").read_text())
    return manifest, made


def test_reconstruction_goes_there_and_back(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    flags = ("--steps", "20", "--index", "3:6")
    manifest, made = edited(logsnr, digits_run, "reconstruct", tmp_path / "r", *flags)
    originals = load_data("digits", split="test").raw(range(3, 6))
    assert np.array_equal(made["images"], originals)
    assert np.array_equal(made["reconstructions"], originals), "to the grey level"
    assert made["index"].tolist() == [3, 4, 5]
    assert manifest["psnr_db_least"] > 40
    assert manifest["psnr_db_mean"] == pytest.approx(made["psnr_db"].mean())
    assert (manifest["steps"], manifest["refinements"], manifest["what"]) == (20, 5, "reconstruct")
    rough, _ = edited(logsnr, digits_run, "reconstruct", tmp_path / "q", *flags, "--refinements", "0")
    assert rough["psnr_db_mean"] < manifest["psnr_db_mean"] - 10
    _, encoded = edited(logsnr, digits_run, "encode", tmp_path / "e", *flags)
    assert np.array_equal(encoded["latents"], made["latents"])
    assert encoded["latents"].shape == (3, 1, 8, 8)
    one, _ = edited(logsnr, digits_run, "encode", tmp_path / "one", "--steps", "20", "--index", "4:5")
    alone = np.load(tmp_path / "one" / "latents.npz")["latents"]
    assert np.array_equal(alone[0], made["latents"][1]), "an example does not know its neighbours"
    assert one["latent_std"] == pytest.approx(float(alone.std(ddof=1)), rel=1e-5)


def test_interpolation_begins_and_ends_at_its_examples(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    flags = ("--steps", "15", "--frames", "5", "--index", "0:3")
    _, made = edited(logsnr, digits_run, "interpolate", tmp_path / "d", "--data", "digits", "--split", "train", *flags)
    originals = load_data("digits").raw(range(3))
    assert made["images"].shape == (2, 5, 8, 8)
    assert made["latents"].shape == (2, 5, 1, 8, 8)
    assert np.array_equal(made["images"][:, 0], originals[:2])
    assert np.array_equal(made["images"][:, -1], originals[1:])
    trained = library.load(digits_run)
    again = trained.interpolate(originals[:2], originals[1:], 5, recipe=trained.edit_recipe(15))
    assert np.array_equal(again, made["images"])
    first, last = (torch.from_numpy(made["latents"][:, i]) for i in (0, -1))
    assert np.array_equal(library.slerp(first, last, 0.25).numpy(), made["latents"][:, 1])


def test_random_latents_are_those_that_sampling_starts_from(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    _, made = edited(logsnr, digits_run, "interpolate", tmp_path, "--steps", "6", "--seed", "4", "--index", "1:3")
    trained = library.load(digits_run)
    recipe = trained.recipe(sampler="ddim", steps=6, seed=4)
    assert made["latents"].shape == (1, 11, 1, 8, 8)
    noise = library.seeded(4, torch.arange(1, 3), torch.empty(2, 1, 8, 8))
    assert np.array_equal(made["latents"][0, [0, -1]], library.prior(recipe.path, noise).numpy())


def test_decode_is_the_inverse_of_encode(digits_run: Path) -> None:
    trained = library.load(digits_run)
    raw = load_data("digits", split="test").raw(range(2))
    for spec in (30, "10,20"):
        recipe = trained.edit_recipe(spec)
        assert np.array_equal(trained.decode(trained.encode(raw, recipe=recipe), recipe=recipe), raw)
    assert recipe.sampler.eta == 0


def test_continuous_data(logsnr: Verb, tmp_path: Path) -> None:
    words = ("train", "ddpm", "--data", "toy:ring", "--out", tmp_path / "run", "--steps", "3", "--network", "tiny")
    assert logsnr(*words, "--batch-size", "8", "--quiet", "--threads", "1")[0] == 0
    manifest, made = edited(logsnr, tmp_path / "run", "reconstruct", tmp_path / "out", "--steps", "20")
    assert made["reconstructions"] == pytest.approx(made["images"], abs=1e-3)
    assert "psnr_db_mean" not in manifest
    assert manifest["rmse_model_units"] < 1e-3


def test_wrong_edits_are_one_line(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    def edit(*words: object) -> tuple[int, str, str]:
        return logsnr("edit", digits_run, *words, "--out", tmp_path / "out")

    one_line(edit("paint"), "paint", "encode")
    one_line(edit("encode", "--index", "490:900"), "490:900", "497 examples")
    one_line(edit("encode", "--split", "val"), "val", "test")
    one_line(edit("encode", "--data", "toy:ring"), "shape")
    one_line(edit("encode", "--steps", "0"), "--steps 0")
    one_line(edit("encode", "--steps", "3;4"), "3;4", "10,15,20")
    one_line(edit("encode", "--steps", "2000"), "2000", "1000")
    one_line(edit("encode", "--refinements", "-1"), "refinements = -1")
    one_line(edit("encode", "--spacing", "cubic"), "cubic", "quadratic")
    one_line(edit("encode", "--seed", "-1"), "--seed -1")
    one_line(edit("interpolate", "--frames", "1"), "--frames 1")
    one_line(edit("interpolate", "--index", "0:1"), "1 examples")
    one_line(logsnr("edit", tmp_path / "nothing", "encode"), "nothing")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_trained_model_returns_its_pictures(logsnr: Verb, tmp_path: Path) -> None:
    """Above 40 dB at 100 steps."""
    words = ("train", "ddpm", "--out", tmp_path / "run", "--steps", "300", "--network", "tiny", "--quiet")
    assert logsnr(*words, "--threads", "1")[0] == 0
    manifest, _ = edited(logsnr, tmp_path / "run", "reconstruct", tmp_path / "out", "--index", "0:32")
    assert manifest["psnr_db_least"] > 40
