"""The embedded digits are scikit-learn's, split by the published formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from logsnr.data import load


def test_the_digits_are_those_of_scikit_learn_split_by_the_formula() -> None:
    original = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(1797)
    for split, rows in (("train", order[:1300]), ("test", order[1300:])):
        digits = load("digits", split=split)
        assert np.array_equal(digits.raw(range(len(digits))), original.images[rows])
        assert digits.labels is not None
        assert np.array_equal(digits.labels.numpy(), original.target[rows])


def test_the_digits_have_17_levels_and_an_offset_of_3_bits() -> None:
    digits = load("digits")
    assert (digits.shape, digits.levels, len(digits)) == ((1, 8, 8), 17, 1300)
    assert digits.splits == {"train": 1300, "test": 497}
    assert digits.classes == tuple("0123456789")
    assert digits.transform.bits_per_dim_offset == pytest.approx(3.0)
    raw = digits.raw(range(1300))
    assert raw.dtype == np.uint8
    assert (raw.min(), raw.max()) == (0, 16)
    x, condition = digits.batch(range(1300))
    assert torch.equal(x[:, 0], torch.from_numpy(raw / 8 - 1).float())
    assert np.array_equal(digits.transform.decode(x), raw)
    assert torch.equal(condition["classes"], digits.labels)


def test_the_fingerprints_are_those_recorded() -> None:
    assert load("digits").fingerprint.startswith("2b6c473cefdd949d")
    assert load("digits", split="test").fingerprint != load("digits").fingerprint


def test_resized_digits_keep_their_17_levels() -> None:
    digits = load("digits", size=16)
    assert (digits.shape, digits.levels) == ((1, 16, 16), 17)
    raw = digits.raw(range(200))
    assert raw.max() == 16
    small = load("digits").raw(range(200)).astype(float)
    # Averages over 2×2 blocks of an enlargement are the original, up to the sharpening of the bicubic filter.
    assert np.abs(raw.reshape(-1, 8, 2, 8, 2).mean((2, 4)) - small).mean() < 1
    assert digits.fingerprint != load("digits").fingerprint
    assert digits.summary()["resize"] == "16x16 bicubic, centre crop"


def test_other_splits_are_refused_with_the_known_ones(refused) -> None:  # type: ignore[no-untyped-def]
    assert refused("digits", split="val") == "unknown split 'val'; known: train, test"


def test_the_summary_says_what_there_is_to_say() -> None:
    summary = load("digits", split="test").summary()
    assert summary["count"] == 497
    assert summary["range"] == [0, 16]
    assert summary["splits"] == {"train": 1300, "test": 497}
    assert any("497 examples" in note for note in summary["notes"])
    assert load("digits").summary()["notes"] == []
