"""What a string of data can be, and what is said when it is none of that."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from logsnr.data import READERS, load


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("digit", "did you mean 'digits'?"),
        ("Digits", "did you mean 'digits'?"),
        ("/no/such/file.npy", "no such"),
        ("", "no such"),
    ],
)
def test_an_unknown_source_lists_what_is_known(refused, source: str, hint: str) -> None:  # type: ignore[no-untyped-def]
    message = refused(source)
    assert hint in message
    for reader in READERS:
        assert reader.known_as in message


@pytest.mark.parametrize("source", ["hf:mnist", "wds:shard-{0..9}.tar", "", "\0"])
def test_strings_that_are_nothing_are_refused_in_one_line(refused, source: str) -> None:  # type: ignore[no-untyped-def]
    refused(source)


def test_files_of_an_unknown_kind_are_refused(tmp_path, refused) -> None:  # type: ignore[no-untyped-def]
    for name, content in (("x.csv", b"1,2\n"), ("x.parquet", b"PAR1"), ("x.npz", b"not a zip"), ("x.bin", b"")):
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).startswith("the content is not of a known kind; known: digits, toy:NAME")


def test_the_kind_is_found_by_content_not_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.arange(40).reshape(20, 2))
    (tmp_path / "x.npy").rename(tmp_path / "table")
    assert load(str(tmp_path / "table")).levels == 40


def test_toys_have_two_splits_of_different_seeds() -> None:
    from logsnr.data.toys import TOYS

    for name, seed, count in (("train", 0, 10_000), ("test", 1, 2_000)):
        data = load("toy:ring", split=name)
        assert len(data) == count
        assert np.array_equal(data.raw(range(count)), TOYS["ring"]().sample(count, seed).numpy())
    train = load("toy:ring")
    x, condition = train.batch(range(10_000))
    assert condition == {}
    assert torch.allclose(x.std(0, correction=0), torch.ones(2), atol=1e-5)


def test_an_unknown_toy_lists_the_known_ones(refused) -> None:  # type: ignore[no-untyped-def]
    message = refused("toy:rings")
    assert message.startswith("unknown toy 'rings'; did you mean 'ring'?; known: ")
    assert "spiral" in message
