"""`logsnr evaluate`: figures that carry their meaning, of a run and of files, and refusals before any work is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from logsnr.data import TOYS, load
from logsnr.metrics import METRICS, frechet_distance
from logsnr.metrics.features import fetch, inception
from logsnr.train import checkpoint

Verb = Callable[..., tuple[int, str, str]]
TRAIN, HELDOUT = (data.raw(range(len(data))) for data in (load("digits"), load("digits", split="test")))


def measured(logsnr: Verb, *words: object) -> dict[str, Any]:
    status, out, err = logsnr("evaluate", *words, "--bootstrap", "20", "--quiet", "--json")
    assert status == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def values(result: dict[str, Any]) -> dict[str, float]:
    return {
        name: figure["value"] for metric in result["metrics"].values() for name, figure in metric["figures"].items()
    }


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples that are better than chance: blends of two digits each, in the digits' own range."""
    rng = np.random.default_rng(0)
    first, second = TRAIN[rng.integers(0, 1300, (2, 120))].astype(np.float64)
    path = tmp_path_factory.mktemp("given") / "samples.npz"
    np.savez(path, images=np.round((first + second) / 2).astype(np.uint8))
    return path


def test_a_run_is_measured_and_the_record_says_of_what(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    words = ("--n", "60", "--steps", "3", "--seed", "4", "--sampler", "ddim")
    result = measured(logsnr, digits_run, *words, "--force", "--out", tmp_path / "a")
    assert result == json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert set(result["metrics"]) == set(METRICS)
    assert result["not_computed"] == {}
    assert result["checkpoint_sha256"] == checkpoint.fingerprint(digits_run / "checkpoints" / "step-00000010")
    said = {key: result[key] for key in ("weights", "sampler", "steps", "evaluations_per_example", "seed", "forced")}
    assert said == {"weights": "ema", "sampler": "ddim", "steps": 3, "evaluations_per_example": 3, "seed": 4,
                    "forced": True}  # fmt: skip
    reference = result["reference"]
    assert (reference["split"], reference["count"], reference["range"]) == ("train", 1300, [0, 16])
    assert reference["fingerprint"] == load("digits").fingerprint
    assert (result["real"]["split"], result["real"]["count"]) == ("test", 497)
    assert result["samples"]["count"] == 60
    assert result["features"]["name"] == "pixels"
    assert {"resize", "input"} <= result["features"].keys()
    assert {"device", "precision", "threads", "torch", "seconds"} <= result.keys()
    assert result["metrics"]["fd"]["samples"] == 60
    assert result["metrics"]["fd"]["comparable"] is False
    assert any("compare equal numbers" in note for note in result["notes"])
    assert any("not comparable with published" in note for note in result["notes"])
    # the samples are those of `sample`, kept beside the figures
    assert logsnr("sample", digits_run, "--out", tmp_path / "b", *words, "--quiet")[0] == 0
    images = [np.load(tmp_path / name / "samples.npz")["images"] for name in "ab"]
    assert np.array_equal(*images)
    expected = frechet_distance(*(2 * x.reshape(len(x), -1) / 16 - 1 for x in (images[0], TRAIN)))
    assert result["metrics"]["fd"]["figures"]["fd"]["value"] == pytest.approx(expected, rel=1e-5)


def test_real_examples_stand_beside_every_figure(logsnr: Verb, npz: Path, tmp_path: Path) -> None:
    """As many as there are samples; of the other split, whichever is the reference."""
    for split, other in (("train", "test"), ("test", "train")):
        result = measured(logsnr, "--samples", npz, "--data", "digits", "--metrics", "prdc,sliced_wasserstein",
                          "--split", split, "--out", tmp_path)  # fmt: skip
        assert (result["reference"]["split"], result["real"]["split"]) == (split, other)
        assert result["metrics"]["prdc"]["real_samples"] == 120
        figures = result["metrics"]["prdc"]["figures"]
        assert figures["density"]["real"] == pytest.approx(1.0, abs=0.12)
        (sliced,) = result["metrics"]["sliced_wasserstein"]["figures"].values()
        assert sliced["value"] > 1.5 * sliced["real"], "blends are no digits"


def test_png_files_have_the_figures_of_the_array(logsnr: Verb, npz: Path, tmp_path: Path) -> None:
    images = np.load(npz)["images"]
    (tmp_path / "png").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "png" / f"{i:03}.png")
    words = ("--data", "digits", "--metrics", "fd,kd,prdc,sliced_wasserstein,spectral", "--force", "--out", tmp_path)
    array = measured(logsnr, "--samples", npz, *words)
    for features in ("pixels", "classifier"):
        array = measured(logsnr, "--samples", npz, *words, "--features", features)
        files = measured(logsnr, "--samples", tmp_path / "png", *words, "--features", features)
        for name, value in values(array).items():
            if name != "fd_infinity":  # whose subsamples follow the order of the set
                assert values(files)[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert array["features"]["heldout_accuracy"] > 0.95
    assert files["features"]["sha256"] == array["features"]["sha256"]
    Image.fromarray(images[0]).save(tmp_path / "png" / "lossy.jpg")
    noted = measured(logsnr, "--samples", tmp_path / "png", "--data", "digits", "--metrics", "spectral")
    assert any("JPEG" in note for note in noted["notes"])


def test_an_over_fit_model_is_found_out(logsnr: Verb, tmp_path: Path) -> None:
    """Fifty training images and nothing else, some twice."""
    np.save(tmp_path / "x.npy", np.concatenate([TRAIN[:50], TRAIN[:10]]).astype(np.uint8))
    result = measured(logsnr, "--samples", tmp_path / "x.npy", "--data", "digits", "--metrics", "memorisation")
    found, figures = result["metrics"]["memorisation"], values(result)
    assert (found["exact_copies"], found["exact_duplicates"]) == (60, 20)
    assert figures["copies"] == 1
    assert figures["nearest_ratio"] == 0
    assert found["p_value"] < 1e-3


def test_moments_go_by_file(logsnr: Verb, npz: Path, tmp_path: Path) -> None:
    stats = tmp_path / "digits.safetensors"
    assert measured(logsnr, "--data", "digits", "--stats-out", stats)["count"] == 1300
    words = ("--samples", npz, "--force", "--out", tmp_path)
    direct = measured(logsnr, *words, "--data", "digits", "--metrics", "fd")
    given = measured(logsnr, *words, "--data", stats, "--metrics", "fd")
    assert values(given)["fd"] == pytest.approx(values(direct)["fd"], rel=1e-9), "the file knows of 17 levels"
    np.save(tmp_path / "other.npy", np.zeros((60, 9, 9), np.uint8))
    status, _, err = logsnr("evaluate", "--samples", tmp_path / "other.npy", "--data", stats, "--force")
    assert (status, err.count("\n")) == (2, 1)
    assert "examples of shape (9, 9); the data has (8, 8)" in err
    status, _, err = logsnr("evaluate", *words, "--data", stats, "--metrics", "kd")
    assert (status, err.count("\n")) == (2, 1)
    assert "a file of moments; allowed: fd" in err
    status, _, err = logsnr("evaluate", *words, "--data", stats, "--features", "classifier")
    assert (status, err.count("\n")) == (2, 1)


def test_moments_of_a_run_s_data_are_its_reference(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    stats = tmp_path / "digits.safetensors"
    assert measured(logsnr, "--data", "digits", "--stats-out", stats)["features.name"] == "pixels"
    words = (digits_run, "--n", "40", "--steps", "2", "--force", "--metrics", "fd", "--out", tmp_path)
    direct, given = measured(logsnr, *words), measured(logsnr, *words, "--data", stats)
    assert values(given)["fd"] == pytest.approx(values(direct)["fd"], rel=1e-9)
    assert given["reference"]["fingerprint"] == direct["reference"]["fingerprint"]
    assert given["metrics"]["fd"]["reference_samples"] == 1300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics", "fd,fid"), "unknown metric 'fid'; known: fd, kd, prdc"),
        (("--features", "resnet"), "unknown features 'resnet'; known: pixels, classifier, inception, script"),
        (("--metrics", "fd", "--n", "2047"), "fd of 2047 samples; allowed: at least 2048, or --force"),
        (("--metrics", "fd"), "fd of 1300 reference examples; allowed: at least 2048, or --force"),
        (("--split", "dev"), "unknown split 'dev'; known: train, test"),
        (("--bootstrap", "5"), "--bootstrap 5; allowed: 0, or at least 20"),
        (("--data", "toy:ring"), "the run makes examples (8, 8) of 17 levels, the data has (2,) of None"),
        (("--features", "script"), "--features script needs a module"),
        (("--steps", "0"), "--steps 0; allowed: at least 1"),
        (("--samples", "x.npz"), "allowed: one of them"),
        (("--metrics", "prdc", "--n", "1"), "prdc of 1 samples; allowed: at least 2, or --force"),
    ],
)
def test_refusals_are_one_line_before_any_sampling(
    logsnr: Verb, digits_run: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, _, err = logsnr("evaluate", digits_run, *words, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert said in err
    assert not (tmp_path / "out").exists()


def test_what_was_not_asked_for_by_name_is_left_out_with_a_reason(logsnr: Verb, npz: Path, tmp_path: Path) -> None:
    result = measured(logsnr, "--samples", npz, "--data", "digits", "--out", tmp_path)
    assert set(result["metrics"]) == set(METRICS) - {"fd"}
    assert result["not_computed"]["fd"] == "fd of 120 samples; allowed: at least 2048, or --force"
    status, out, _ = logsnr("evaluate", "--samples", npz, "--data", "digits", "--out", tmp_path, "--bootstrap", "0")
    assert status == 0
    assert "fd not computed" in out
    assert "120 samples against 1300 of split 'train', features pixels" in out


def test_a_wrong_range_is_noted(logsnr: Verb, tmp_path: Path) -> None:
    np.save(tmp_path / "dark.npy", (HELDOUT // 8).astype(np.uint8))
    result = measured(logsnr, "--samples", tmp_path / "dark.npy", "--data", "digits", "--metrics", "channel_moments")
    assert result["notes"] == ["samples are from 0 to 2, the data from 0 to 16"]
    assert values(result)["channel_mean"] < -0.3


def test_vectors_have_all_metrics_but_the_spectrum(logsnr: Verb, tmp_path: Path) -> None:
    fresh = TOYS["ring"]().sample(300, 7)
    np.save(tmp_path / "x.npy", fresh.numpy())
    result = measured(logsnr, "--samples", tmp_path / "x.npy", "--data", "toy:ring", "--split", "test")
    assert set(result["not_computed"]) == {"fd", "spectral"}
    assert values(result)["copies"] < 0.05
    assert result["metrics"]["c2st"]["p_value"] > 1e-3


def test_inception_out_of_reach_is_one_line_and_the_rest_works(
    logsnr: Verb, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGSNR_CACHE", str(tmp_path / "cache"))
    nowhere = fetch.Remote("net.pt", "http://127.0.0.1:9/net.pt", "0" * 64)
    monkeypatch.setitem(inception.__globals__, "WEIGHTS", nowhere)
    words = ("--samples", npz, "--data", "digits", "--metrics", "kd", "--out", tmp_path)
    status, _, err = logsnr("evaluate", *words, "--features", "inception")
    assert (status, err.count("\n")) == (1, 1)
    assert "cannot be fetched" in err
    assert "or take --features pixels or classifier" in err
    assert measured(logsnr, *words, "--features", "pixels")["metrics"]
