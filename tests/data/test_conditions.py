"""Classes, vectors and condition images beside the examples: read, checked, dropped, fingerprinted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from logsnr.data import Batches, Conditions, load
from logsnr.data.conditions import without
from logsnr.data.split import held_out

COUNT = 40


@pytest.fixture
def arrays(noise: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "images": noise.integers(0, 256, (COUNT, 6, 6)).astype(np.uint8),
        "labels": np.array(["cat", "dog", "emu", "cat"] * (COUNT // 4)),
        "vectors": noise.normal(5.0, [1.0, 10.0, 0.0], (COUNT, 3)),
        "conditions": noise.integers(0, 2, (COUNT, 6, 6)).astype(bool),
    }


def test_every_array_follows_its_example(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    data, rows = load(str(tmp_path / "d.npz")), held_out(COUNT)["train"]
    assert data.conditions.names == ("classes", "vector", "image")
    assert data.conditions.sizes == {"num_classes": 3, "vector_features": 3, "condition_channels": 1}
    assert sum(data.conditions.counts) == len(data)
    index = [5, 0, 5]
    _, given = data.batch(index)
    assert [data.classes[c] for c in given["classes"].tolist()] == arrays["labels"][rows[index]].tolist()
    vector = arrays["vectors"][rows]
    std = np.where(vector.std(0) > 1e-12, vector.std(0), 1.0)
    assert np.allclose(given["vector"][:, :3], ((vector - vector.mean(0)) / std)[index], atol=1e-5)
    assert given["vector"].shape == (3, 4)
    assert (given["vector"][:, 3] == 1).all(), "given"
    assert np.array_equal(given["image"][:, 0], 2.0 * arrays["conditions"][rows[index]] - 1)
    assert given["image"].shape == (3, 2, 6, 6)
    assert (given["image"][:, 1] == 1).all()


def test_transforms_are_those_of_the_training_split(tmp_path: Path, noise: np.random.Generator) -> None:
    x, v = (
        noise.normal(size=(30, 2)),
        np.concatenate([np.full((20, 1), 7.0) + [[0.0], [2.0]] * 10, np.full((10, 1), 99.0)]),
    )
    np.savez(tmp_path / "d.npz", x_train=x[:20], x_test=x[20:], train_vectors=v[:20], vectors_test=v[20:])
    train, test = (load(str(tmp_path / "d.npz"), split=split) for split in ("train", "test"))
    assert train.conditions.vector == test.conditions.vector
    assert set(train.condition(range(20))["vector"][:, 0].tolist()) == {-1.0, 1.0}
    assert test.condition(range(10))["vector"][:, 0].tolist() == pytest.approx([91.0] * 10)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"vectors": np.zeros((COUNT, 3, 2))}, ("vectors", f"({COUNT}, 3, 2)", "(N, F)")),
        ({"vectors": np.zeros(COUNT)}, ("vectors", f"({COUNT},)", "(N, F)")),
        ({"vectors": np.zeros((COUNT - 1, 3))}, ("vectors", f"({COUNT - 1}, 3)", f"{COUNT} examples")),
        ({"vectors": np.full((COUNT, 3), np.nan)}, ("vectors", "NaN")),
        ({"vectors": np.array([["a"]] * COUNT)}, ("vectors", "dtype")),
        ({"conditions": np.zeros((COUNT, 1, 5, 6))}, ("conditions", f"({COUNT}, 1, 5, 6)", "(N, C, 6, 6)")),
        ({"conditions": np.zeros((COUNT, 6, 6))}, ("conditions", "(N, C, 6, 6)")),
    ],
)
def test_wrong_shapes_are_one_line(
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    refused: Callable[..., str],
    wrong: dict[str, np.ndarray],
    words: tuple[str, ...],
) -> None:
    np.savez(tmp_path / "d.npz", **{**arrays, **wrong})
    message = refused(tmp_path / "d.npz")
    for word in words:
        assert word in message


def test_a_mirrored_example_keeps_its_condition(tmp_path: Path, noise: np.random.Generator) -> None:
    images = noise.integers(0, 256, (COUNT, 1, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, conditions=images)
    batch = Batches(load(str(tmp_path / "d.npz")), 16, 0, flip=True).at(3)
    assert torch.equal(batch.condition["image"][:, :1], batch.x)
    plain = Batches(load(str(tmp_path / "d.npz")), 16, 0).at(3)
    assert not torch.equal(plain.x, batch.x)


def test_only_the_conditions_used_are_handed_out_and_fingerprinted(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", **{**arrays, "vectors": arrays["vectors"] + 1, "labels": arrays["labels"][::-1]})
    a, b = load(str(tmp_path / "a.npz")), load(str(tmp_path / "b.npz"))
    assert a.fingerprint == b.fingerprint, "the examples are the same"
    for name, same in (("classes", False), ("vector", False), ("image", True)):
        ours, theirs = a.conditioned_on([name]), b.conditioned_on([name])
        assert set(ours.batch([0])[1]) == {name} == ours.condition_fingerprints.keys()
        assert (ours.condition_fingerprints == theirs.condition_fingerprints) is same
    assert a.conditioned_on([]).batch([0])[1] == {}
    with pytest.raises(ValueError, match="has no vector to condition on; it has: classes"):
        load("digits").conditioned_on(["vector"])


def test_a_dropped_row_is_none_given_and_the_others_are_untouched(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    data = load(str(tmp_path / "d.npz"))
    given, rows = data.condition(range(4)), torch.tensor([True, False, True, False])
    dropped, none = without(given, rows, 3), data.conditions.none(4)
    for name in given:
        assert torch.equal(dropped[name][rows], none[name][rows])
        assert torch.equal(dropped[name][~rows], given[name][~rows])
        assert dropped[name].dtype == given[name].dtype
    assert none["classes"].tolist() == [3] * 4


def test_the_record_survives_json(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    conditions = load(str(tmp_path / "d.npz")).conditions
    assert Conditions.from_dict(conditions.to_dict()) == conditions
    assert Conditions.from_dict({}) == Conditions()
    raw = arrays["vectors"][:2]
    assert torch.equal(conditions.encode("vector", raw)[:, -1], torch.ones(2))
    with pytest.raises(ValueError, match=r"vector of shape \(2, 1\); allowed here: \(n, 3\)"):
        conditions.encode("vector", raw[:, :1])
    with pytest.raises(ValueError, match="image given, but this run is conditioned on classes"):
        replace(conditions, vector=None, image=None).encode("image", raw)


def test_classes_by_name_before_index() -> None:
    conditions = Conditions(("1", "0", "emu"), (1, 1, 1))
    assert [conditions.index(name) for name in ("1", "0", "emu", "2", 0, "none")] == [0, 1, 2, 2, 0, 3]
    with pytest.raises(ValueError, match="unknown class 'dog'; known: 1, 0, emu, or none"):
        conditions.index("dog")
    for bad in (3, "3", "-1"):
        with pytest.raises(ValueError, match="unknown class"):
            conditions.index(bad)
    with pytest.raises(ValueError, match="no classes"):
        Conditions().index("dog")
