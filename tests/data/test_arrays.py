"""Arrays: which axis means what, how many levels, which splits; and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from logsnr.data import load, record
from logsnr.data.split import held_out


@pytest.mark.parametrize(
    ("shape", "dtype", "model_shape", "layout"),
    [
        ((12, 5), np.uint8, (5,), "same"),
        ((12, 5), np.float32, (5,), "same"),
        ((12, 6, 7), np.uint8, (1, 6, 7), "grey"),
        ((12, 6, 7), bool, (1, 6, 7), "grey"),
        ((12, 6, 7), np.float64, (6, 7), "same"),
        ((12, 6, 7, 3), np.uint8, (3, 6, 7), "channels_last"),
        ((12, 6, 7, 1), np.uint8, (1, 6, 7), "channels_last"),
        ((12, 3, 6, 7), np.uint8, (3, 6, 7), "same"),
        ((12, 3, 7, 3), np.uint8, (3, 7, 3), "same"),
        ((12, 5, 32, 32), np.float32, (5, 32, 32), "same"),
        ((12, 32, 32, 5), np.float32, (32, 32, 5), "same"),
        ((12, 2, 4, 5, 6), np.float32, (2, 4, 5, 6), "same"),
    ],
)
def test_layout_and_round_trip(tmp_path, noise, shape, dtype, model_shape, layout) -> None:  # type: ignore[no-untyped-def]
    values = (255 * noise.random(shape)).astype(dtype) if dtype is not bool else noise.random(shape) < 0.5
    np.save(tmp_path / "x.npy", values)
    data = load(str(tmp_path / "x.npy"))
    rows = held_out(12)["train"]
    assert (data.shape, data.transform.layout) == (model_shape, layout)
    raw = data.raw(range(len(data)))
    assert np.array_equal(raw, values[rows])
    assert raw.dtype == values.dtype
    decoded = data.transform.decode(data.batch(range(len(data)))[0])
    if data.levels is None:
        assert decoded.dtype == np.float32
        assert np.allclose(decoded, raw, rtol=1e-5, atol=1e-4)
    else:
        assert np.array_equal(decoded, raw)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([0, 1, 16]), 17),
        (np.array([0, 1, 16], np.uint8), 256),
        (np.array([0, 1, 16], np.uint16), 65536),
        (np.array([0, 1, 999], np.int16), 1000),
        (np.array([0, 1, 65535], np.int64), 65536),
        (np.array([0, 0, 0], np.int32), 2),
        (np.array([0, 1, 1], bool), 2),
    ],
)
def test_levels_follow_from_the_dtype_or_the_largest_value_of_all_splits(tmp_path, values, levels) -> None:  # type: ignore[no-untyped-def]
    # Whichever split the largest value falls into.
    for shift in range(3):
        np.save(tmp_path / "x.npy", np.roll(values, shift)[:, np.newaxis])
        data = load(str(tmp_path / "x.npy"))
        assert data.levels == levels
        assert np.array_equal(data.transform.decode(data.batch([0, 1])[0]), data.raw([0, 1]))


def test_arrays_on_disk_are_memory_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 2), np.uint8))
    data = load(str(tmp_path / "x.npy"))
    np.lib.format.open_memmap(tmp_path / "x.npy", mode="r+")[:] = 9
    assert (data.raw(range(4)) == 9).all()


@pytest.mark.parametrize("chunk_bytes", [record.CHUNK_BYTES, 7000])
def test_continuous_data_is_standardised_per_channel_of_the_training_split(  # type: ignore[no-untyped-def]
    tmp_path, noise, monkeypatch, chunk_bytes
) -> None:
    monkeypatch.setattr(record, "CHUNK_BYTES", chunk_bytes)
    values = noise.normal([1e6, -3, 5], [1e-2, 7, 0], (5000, 3))
    values[:, 2] = 0.1
    np.save(tmp_path / "x.npy", values)
    data = load(str(tmp_path / "x.npy"))
    train = values[held_out(5000)["train"]]
    assert np.allclose(data.transform.mean, train.mean(0), rtol=1e-12)
    assert np.allclose(data.transform.std[:2], train.std(0)[:2], rtol=1e-9)
    assert data.transform.std[2] == 1
    x, _ = data.batch(range(len(data)))
    assert torch.allclose(x.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std(0, correction=0), torch.tensor([1.0, 1, 0]), atol=1e-5)
    assert torch.equal(x[:, 2], torch.zeros(4500))
    assert load(str(tmp_path / "x.npy"), split="test").transform == data.transform


def test_channel_moments_of_float_images(tmp_path, noise) -> None:  # type: ignore[no-untyped-def]
    values = noise.normal(0, 1, (300, 6, 6, 3)) * [1, 2, 3] + [0, 10, -10]
    for name, array in (("last", values), ("first", np.moveaxis(values, -1, 1))):
        np.save(tmp_path / f"{name}.npy", array)
    last, first = (load(str(tmp_path / f"{name}.npy")) for name in ("last", "first"))
    assert np.allclose(last.transform.std, [1, 2, 3], rtol=0.05)
    assert np.allclose(last.transform.mean, first.transform.mean)
    assert torch.allclose(last.batch(range(9))[0], first.batch(range(9))[0])


def test_unlabelled_and_unsplit_data_holds_out_the_last_tenth_of_a_fixed_permutation(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(57)[:, np.newaxis])
    order = np.random.default_rng(0).permutation(57)
    assert load(str(tmp_path / "x.npy")).raw(range(52))[:, 0].tolist() == order[:52].tolist()
    test = load(str(tmp_path / "x.npy"), split="test")
    assert test.raw(range(len(test)))[:, 0].tolist() == order[52:].tolist()
    assert test.labels is None
    assert test.batch([0])[1] == {}


@pytest.mark.parametrize(("count", "test"), [(2, 1), (10, 1), (29, 2), (100_000, 10_000), (10**6, 10_000)])
def test_how_many_are_held_out(count: int, test: int) -> None:
    assert len(held_out(count)["test"]) == test
    assert len(held_out(count)["train"]) == count - test


SPELLINGS = [
    {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")},
    {
        "train": ("train_images", "train_labels"),
        "val": ("val_images", "val_labels"),
        "test": ("test_images", "test_labels"),
    },
    {"train": ("images_train", "labels_train"), "val": ("images_valid", "labels_valid")},
]


@pytest.mark.parametrize("names", SPELLINGS)
def test_splits_of_an_npz(tmp_path, noise, names) -> None:  # type: ignore[no-untyped-def]
    content = {split: (noise.integers(0, 256, (9, 4, 4), np.uint8), noise.integers(0, 3, 9)) for split in names}
    arrays = {name: each for split in names for name, each in zip(names[split], content[split], strict=True)}
    np.savez(tmp_path / "x.npz", **arrays)
    for split, (images, labels) in content.items():
        data = load(str(tmp_path / "x.npz"), split=split)
        assert np.array_equal(data.raw(range(9)), images)
        assert data.labels is not None
        assert data.labels.tolist() == labels.tolist()
        assert data.splits == dict.fromkeys(names, 9)


def test_labels_are_numbered_and_named_by_their_values(tmp_path: Path) -> None:
    images = np.zeros((4, 2, 2), np.uint8)
    order = held_out(4)["train"]
    for labels, names in (([7, 3, 7, 5], ("3", "5", "7")), (["dog", "cat", "dog", "eel"], ("cat", "dog", "eel"))):
        np.savez_compressed(tmp_path / "x.npz", images=images, labels=np.array(labels))
        data = load(str(tmp_path / "x.npz"))
        assert data.classes == names
        assert data.labels is not None
        assert [data.classes[label] for label in data.labels] == [str(labels[row]) for row in order]


def test_equal_data_has_an_equal_fingerprint_whatever_its_file(tmp_path, noise) -> None:  # type: ignore[no-untyped-def]
    images = noise.integers(0, 256, (20, 4, 4), np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", images=images)
    changed = images.copy()
    changed[11, 2, 2] ^= 1
    np.save(tmp_path / "c.npy", changed)
    np.save(tmp_path / "d.npy", images.reshape(20, 2, 8))
    prints = [load(str(tmp_path / name)).fingerprint for name in ("a.npy", "b.npz", "c.npy", "d.npy")]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_images_stored_as_floats_are_noted(tmp_path, noise) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", noise.integers(0, 256, (20, 1, 4, 4)) / np.float32(255))
    assert any("1/255" in note for note in load(str(tmp_path / "x.npy")).summary()["notes"])
    np.save(tmp_path / "x.npy", noise.random((20, 1, 4, 4)))
    assert not any("1/255" in note for note in load(str(tmp_path / "x.npy")).summary()["notes"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1, -2]] * 9), "int64 values from -2 to 1; allowed: 0 to 65535"),
        (np.array([[1, 65536]] * 9), "allowed: 0 to 65535"),
        (np.ones((9, 2), np.complex64), "dtype complex64 is refused"),
        (np.array([["a"]] * 9), "dtype <U1 is refused"),
        (np.array([[{}]] * 9), "dtype object is refused"),
        (np.zeros(9), r"an array of shape \(9,\); allowed: 2 to 5 axes"),
        (np.zeros((0, 3)), r"an array of shape \(0, 3\)"),
        (np.zeros((1, 3)), "1 example; at least 2 are needed"),
        (np.zeros((2, 1, 1, 1, 1, 1)), "allowed: 2 to 5 axes"),
    ],
)
def test_refused_arrays(tmp_path, refused, values, message) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", values, allow_pickle=True)
    assert re.search(message, refused(tmp_path / "x.npy"))


@pytest.mark.parametrize("chunk_bytes", [record.CHUNK_BYTES, 700])
def test_non_finite_values_are_counted_and_placed(tmp_path, refused, monkeypatch, chunk_bytes) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(record, "CHUNK_BYTES", chunk_bytes)
    values = np.zeros((50, 3, 4))
    values[31, 2, 1] = np.inf
    values[40:42, 0, 0] = np.nan
    np.save(tmp_path / "x.npy", values)
    assert refused(tmp_path / "x.npy") == "3 values are NaN or infinite, the first at index (31, 2, 1)"
    np.savez(tmp_path / "x.npz", x_train=np.zeros((5, 2)), x_test=np.full((5, 2), np.nan))
    assert refused(tmp_path / "x.npz").startswith("10 values of split 'test' are NaN or infinite")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"foo": np.zeros((3, 2)), "bar": np.zeros(3)}, "arrays foo, bar; known: images, labels"),
        (
            {"x_train": np.zeros((3, 2)), "x_test": np.zeros((3, 4))},
            "test holds float64 of shape (4,), train float64 of (2,)",
        ),
        ({"images": np.zeros((3, 2)), "x_train": np.zeros((3, 2))}, "arrays images, x_train; known"),
        ({"images": np.zeros((3, 2)), "labels": np.zeros(4, int)}, "labels of shape (4,)"),
        ({"images": np.zeros((3, 2)), "labels": np.zeros(3)}, "dtype float64; 3 integers or strings are needed"),
        ({"images": np.array([[None]] * 3), "labels": np.zeros(3)}, "dtype object is refused"),
    ],
)
def test_refused_npz(tmp_path, refused, arrays, message) -> None:  # type: ignore[no-untyped-def]
    np.savez(tmp_path / "x.npz", **arrays)
    assert message in refused(tmp_path / "x.npz")


def test_damaged_files_are_refused(tmp_path, refused) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.zeros((100, 9)))
    np.savez_compressed(tmp_path / "x.npz", images=np.random.default_rng(0).random((100, 9)))
    for name in ("x.npy", "x.npz"):
        whole = (tmp_path / name).read_bytes()
        for cut in (7, 60, len(whole) // 2, len(whole) - 3):
            (tmp_path / name).write_bytes(whole[:cut])
            refused(tmp_path / name)


def test_options_that_do_not_apply_are_refused(tmp_path, refused) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.zeros((9, 5)))
    assert refused(tmp_path / "x.npy", size=8) == "--size resizes images; examples here have shape (5,)"
    assert refused("digits", channels=3) == "--channels converts image files; this data has shape (1, 8, 8)"
    assert refused("digits", channels=2) == "channels is 2; allowed: auto, 1, 3, 4"
    assert refused("digits", size=0) == "size is 0; a positive N or (height, width) is needed"
