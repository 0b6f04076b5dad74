"""Conditions through the verbs: trained with, sampled under, resumed exactly, measured, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import logsnr as library
from logsnr.cli import main
from logsnr.data import load as load_data
from logsnr.draws import Draws
from tests.run.conftest import TINY, records, weights
from tests.run.test_errors import one_line

Verb = Callable[..., tuple[int, str, str]]
RNG = np.random.default_rng(0)
# no warm-up: the zero-initialised output must have moved, or every condition would give the same picture
FAST = (*TINY, "--lr", "0.01", "--set", "train.warmup_steps=0")


@pytest.fixture(scope="module")
def classes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classes") / "run"
    words = ["train", "ddpm", "--condition", "classes", "--drop", "0.3", "--out", str(out), "--steps", "8"]
    assert main([*words, "--preview-every", "8", *FAST]) == 0
    return out


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten by ten pictures with a label, a vector and a mask each."""
    path = tmp_path_factory.mktemp("arrays") / "d.npz"
    images = RNG.integers(0, 256, (60, 10, 10)).astype(np.uint8)
    labels = np.array(["left", "right", "right"] * 20)
    np.savez(path, images=images, labels=labels, vectors=RNG.normal(size=(60, 3)), conditions=images > 128)
    return path


@pytest.fixture(scope="module")
def arrays_run(tmp_path_factory: pytest.TempPathFactory, arrays: Path) -> Path:
    out = tmp_path_factory.mktemp("beside") / "run"
    words = ["train", "vdm", "--data", str(arrays), "--condition", "vector,image", "--out", str(out), "--steps", "6"]
    assert main([*words, "--preview-every", "3", *FAST, "--set", "network.channels=8"]) == 0
    return out


def sampled(logsnr: Verb, run: Path, out: Path, *flags: object) -> dict[str, np.ndarray]:
    words = ("sample", run, "--out", out, "--steps", "4", "--weights", "raw", "--float", "--quiet")
    status, _, err = logsnr(*words, *flags)
    assert status == 0, err
    with np.load(out / "samples.npz") as made:
        return dict(made)


def test_everything_follows_from_the_data(classes_run: Path, arrays_run: Path) -> None:
    states = [json.loads(next(run.glob("checkpoints/*/state.json")).read_text()) for run in (classes_run, arrays_run)]
    assert [state["network"]["num_classes"] for state in states] == [10, 0]
    assert (states[1]["network"]["vector_features"], states[1]["network"]["condition_channels"]) == (3, 1)
    assert "vector_features" not in states[0]["network"]
    assert states[0]["data"]["conditions"].keys() == {"classes"}
    assert states[1]["holdout"]["conditions"].keys() == {"vector", "image"}
    assert states[0]["conditions"]["classes"] == list("0123456789")
    assert yaml.safe_load((classes_run / "run.yaml").read_text())["condition"] == {"use": ["classes"], "drop": 0.3}
    assert list((classes_run / "previews").glob("*.png"))
    assert len(list((arrays_run / "previews").glob("*.png"))) == 2
    assert [r["step"] for r in records(classes_run) if r.get("holdout_loss")] == [4, 8]


def test_labels_are_written_and_follow_what_was_asked(logsnr: Verb, classes_run: Path, tmp_path: Path) -> None:
    made = sampled(logsnr, classes_run, tmp_path, "--n", "5", "--class", "3,none", "--class", "9")
    assert made["labels"].tolist() == [3, -1, 9, 3, -1]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["classes"] == list("0123456789")
    assert manifest["condition"] == {"use": ["classes"], "classes": ["3", "none", "9"], "from": None}
    other = sampled(logsnr, classes_run, tmp_path / "b", "--n", "5", "--class", "3")
    assert np.array_equal(other["x"][[0, 3]], made["x"][[0, 3]])
    assert not np.array_equal(other["x"][1], made["x"][1])
    trained = library.load(classes_run, weights="raw")
    images = trained.sample(5, steps=4, classes=["3", "none", 9])
    assert np.array_equal(images, made["images"])


def test_class_none_is_the_model_without_condition(classes_run: Path) -> None:
    trained = library.load(classes_run, weights="raw")
    x, level = torch.randn(trained.width, 1, 8, 8), trained.model.path.at(0.5)
    given = trained.given(classes="none")(torch.arange(trained.width))
    with torch.inference_mode():
        assert torch.equal(trained.model(x, level, **given).value, trained.model(x, level).value)
        some = trained.given(classes="3")(torch.arange(trained.width))
        assert not torch.equal(trained.model(x, level, **some).value, trained.model(x, level).value)


def test_without_a_class_they_have_the_frequencies_of_the_data(arrays: Path, classes_run: Path) -> None:
    trained = library.load(classes_run)
    index = torch.arange(20_000)
    drawn = trained.given(seed=5)(index)["classes"]
    counts = torch.tensor(trained.conditions.counts, dtype=torch.float64)
    share, wanted = torch.bincount(drawn, minlength=10) / len(index), counts / counts.sum()
    assert ((share - wanted).abs() < 4 * (wanted * (1 - wanted) / len(index)).sqrt()).all()
    assert torch.equal(trained.given(seed=5)(index[70:80])["classes"], drawn[70:80])
    assert not torch.equal(trained.given(seed=6)(index)["classes"], drawn)


@pytest.mark.parametrize("size", ["1", "3"])
def test_an_image_depends_on_seed_and_index_alone(logsnr: Verb, arrays_run: Path, arrays: Path, classes_run: Path,
                                                  tmp_path: Path, size: str) -> None:  # fmt: skip
    for run, flags in ((classes_run, ()), (arrays_run, ("--condition-from", arrays))):
        whole = sampled(logsnr, run, tmp_path / "whole", "--n", "7", *flags)
        part = sampled(logsnr, run, tmp_path / "part", "--index", "2:6", "--batch-size", size, *flags)
        assert np.array_equal(part["x"], whole["x"][2:6])
        if "labels" in whole:
            assert np.array_equal(part["labels"], whole["labels"][2:6])
            assert len(set(whole["labels"].tolist())) > 1


def test_vectors_and_images_from_a_file(logsnr: Verb, arrays_run: Path, arrays: Path, tmp_path: Path) -> None:
    with np.load(arrays) as stored:
        given = {key: stored[key][:2] for key in ("vectors", "conditions")}
    np.savez(tmp_path / "two.npz", **given)
    made = sampled(logsnr, arrays_run, tmp_path / "a", "--n", "4", "--condition-from", tmp_path / "two.npz")
    bare = sampled(logsnr, arrays_run, tmp_path / "b", "--n", "4")
    assert not any(np.array_equal(a, b) for a, b in zip(made["x"], bare["x"], strict=True))
    np.savez(tmp_path / "one.npz", **{key: value[1:] for key, value in given.items()})
    one = sampled(logsnr, arrays_run, tmp_path / "c", "--n", "4", "--condition-from", tmp_path / "one.npz")
    assert np.array_equal(one["x"][[1, 3]], made["x"][[1, 3]]), "example i takes row i mod n"
    assert not np.array_equal(one["x"][0], made["x"][0])
    trained = library.load(arrays_run, weights="raw")
    images = trained.sample(4, steps=4, vectors=given["vectors"], conditions=given["conditions"])
    assert np.array_equal(images, made["images"])
    assert "labels" not in made


def test_two_halves_are_the_whole_with_conditions_and_drop(tmp_path: Path, arrays: Path) -> None:
    words = ["train", "ddpm", "--data", str(arrays), "--condition", "classes", "--condition", "vector", "--flip",
             "--drop", "0.5", "--micro-batch", "3", "--checkpoint-every", "2", *FAST]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "whole"), "--steps", "6"]) == 0
    for steps in ("3", "6"):
        assert main([*words, "--out", str(tmp_path / "halves"), "--steps", steps]) == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "halves")
    assert records(tmp_path / "whole") == records(tmp_path / "halves")
    assert main([*words, "--out", str(tmp_path / "other"), "--steps", "6", "--seed", "1"]) == 0
    assert weights(tmp_path / "whole") != weights(tmp_path / "other")


def test_another_condition_is_another_run(logsnr: Verb, tmp_path: Path, arrays: Path) -> None:
    with np.load(arrays) as stored:
        given = dict(stored)
    np.savez(tmp_path / "d.npz", **given)
    words = ["train", "ddpm", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", *FAST, "--condition", "classes"]
    assert logsnr(*words, "--steps", "1")[0] == 0
    one_line(logsnr(*words, "--steps", "2", "--drop", "0.2"), "condition.drop", "0.2", "0.1")
    np.savez(tmp_path / "d.npz", **{**given, "vectors": 2 * given["vectors"]})
    assert logsnr(*words, "--steps", "2")[0] == 0, "vectors are not used"
    np.savez(tmp_path / "d.npz", **{**given, "labels": given["labels"][::-1]})
    one_line(logsnr(*words, "--steps", "3"), "other conditions")


def test_the_bound_is_that_of_the_conditional_model(classes_run: Path) -> None:
    trained, data = library.load(classes_run, weights="raw"), load_data("digits", split="test")
    nats = trained.bound_nats(data)["total"].float()
    per_class = [float(nats[data.labels == c].mean()) for c in range(10)]
    assert len(set(per_class)) == 10
    index = torch.arange(trained.width)
    x0, given = data.batch(index.numpy())
    with torch.inference_mode():
        strata = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
        draws = Draws(0, 0, strata[index], len(data))
        loss = trained.bound().estimate(trained.model, x0, draws, **given)
        bare = trained.bound().estimate(trained.model, x0, draws)
    assert torch.allclose(nats[: trained.width], sum(loss.parts.values()), rtol=1e-5)
    assert not torch.allclose(nats[: trained.width], sum(bare.parts.values()), rtol=1e-4)


def test_an_edit_is_of_the_model_without_condition_unless_told(classes_run: Path) -> None:
    trained, raw = library.load(classes_run, weights="raw"), load_data("digits", split="test").raw(range(3))
    latents = trained.encode(raw, recipe=trained.edit_recipe(20))
    assert np.array_equal(trained.decode(latents, recipe=trained.edit_recipe(20)), raw)
    under = trained.edit_recipe(20, condition=trained.given(classes=["3", "4"]))
    others = trained.encode(raw, recipe=under)
    assert not torch.equal(others[0], latents[0])
    assert np.array_equal(trained.decode(others, recipe=under), raw)


def test_what_is_refused(logsnr: Verb, classes_run: Path, arrays_run: Path, arrays: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    one_line(logsnr("train", "ddpm", "--condition", "vector", "--out", out), "no vector", "classes")
    one_line(logsnr("train", "ddpm", "--data", "toy:ring", "--condition", "classes", "--out", out), "no classes")
    one_line(logsnr("train", "ddpm", "--condition", "colour", "--out", out), "colour", "classes, vector, image")
    one_line(logsnr("train", "ddpm", "--condition", "classes,classes", "--out", out), "at most once")
    one_line(logsnr("train", "ddpm", "--drop", "1.5", "--out", out), "condition.drop", "1.5")
    one_line(
        logsnr("train", "ddpm", "--network", "tiny", "--set", "network.vector_features=3", "--out", out),
        "vector_features",
        "data",
    )
    assert not out.exists()
    one_line(logsnr("sample", classes_run, "--class", "ten"), "'ten'", "0, 1, 2", "none")
    one_line(logsnr("sample", arrays_run, "--class", "left"), "no classes")
    one_line(logsnr("sample", classes_run, "--condition-from", tmp_path / "no.npz"), "no.npz")
    np.savez(tmp_path / "v.npz", vectors=np.zeros((2, 3)))
    one_line(logsnr("sample", classes_run, "--condition-from", tmp_path / "v.npz"), "has vector", "takes classes")
    one_line(logsnr("sample", arrays_run, "--condition-from", tmp_path / "v.npz"), "image", "none")
    np.savez(tmp_path / "w.npz", vectors=np.zeros((2, 4)), conditions=np.zeros((2, 10, 10), bool))
    one_line(logsnr("sample", arrays_run, "--condition-from", tmp_path / "w.npz"), "(2, 4)", "(n, 3)")
    np.save(tmp_path / "w.npy", np.zeros((2, 3)))
    one_line(logsnr("sample", arrays_run, "--condition-from", tmp_path / "w.npy"), "single array", "vector, image")
    with np.load(arrays) as stored:
        one = {"x": stored["images"], "y": np.array(["up", "down"] * 30)}
    np.savez(tmp_path / "other.npz", **one)
    with pytest.raises(ValueError, match=r"classes down, up\) are not those of the run \(0, 1"):
        library.load(classes_run).bound_nats(load_data(str(tmp_path / "other.npz")))


def test_a_model_that_never_went_without_is_not_asked_to(logsnr: Verb, arrays: Path, tmp_path: Path) -> None:
    words = ["train", "ddpm", "--data", arrays, "--condition", "vector", "--drop", "0", "--out", tmp_path / "run"]
    assert logsnr(*words, "--steps", "2", "--preview-every", "1", *FAST)[0] == 0
    assert list((tmp_path / "run" / "previews").glob("*.png"))
    one_line(logsnr("sample", tmp_path / "run", "--n", "1"), "condition.drop 0", "--condition-from")
    np.save(tmp_path / "v.npy", np.zeros((1, 3)))
    sampled(logsnr, tmp_path / "run", tmp_path / "out", "--n", "2", "--condition-from", tmp_path / "v.npy")


@pytest.mark.slow
def test_digits_look_like_their_class(logsnr: Verb, tmp_path: Path) -> None:
    """After a minute and a half, the nearest training digits of a sample are mostly of the class it was asked for."""
    run = tmp_path / "run"
    words = ("train", "ddpm", "--condition", "classes", "--out", run, "--steps", "900", "--minutes", "2.5")
    assert logsnr(*words, "--quiet", "--set", "train.decay=cosine")[0] == 0
    flags = ("--n", "200", "--class", ",".join("0123456789"), "--steps", "30", "--quiet", "--out", tmp_path)
    assert logsnr("sample", run, *flags)[0] == 0
    with np.load(tmp_path / "samples.npz") as made:
        images, labels = made["images"].reshape(200, -1).astype(float), made["labels"]
    data = load_data("digits")
    known, truth = data.raw(range(len(data))).reshape(len(data), -1).astype(float), data.labels.numpy()
    nearest = ((images[:, None] - known[None]) ** 2).sum(2).argsort(1)[:, :5]
    votes = np.array([np.bincount(truth[row], minlength=10).argmax() for row in nearest])
    assert (votes == labels).mean() > 0.9
