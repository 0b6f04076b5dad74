"""IDX files, written here by the definition of the format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from logsnr.data import load

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def write(path: Path, values: np.ndarray) -> None:
    code = CODES[values.dtype.str.replace("|", "")]
    content = bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def mnist(tmp_path, noise):  # type: ignore[no-untyped-def]
    content = {}
    for split, count in (("train", 20), ("t10k", 12)):
        content[split] = noise.integers(0, 256, (count, 5, 4), np.uint8), noise.integers(0, 10, count).astype(np.uint8)
    return tmp_path, content


@pytest.mark.parametrize("ending", ["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte"])
@pytest.mark.parametrize("named", ["train", "t10k", "folder"])
def test_a_train_and_a_t10k_file_are_two_splits(mnist, ending: str, named: str) -> None:  # type: ignore[no-untyped-def]
    folder, content = mnist
    for split, (images, labels) in content.items():
        write(folder / f"{split}-images{ending.format(3)}", images)
        write(folder / f"{split}-labels{ending.format(1)}", labels)
    source = folder if named == "folder" else folder / f"{named}-images{ending.format(3)}"
    names = np.unique(np.concatenate([labels for _, labels in content.values()]))
    for split, key in (("train", "train"), ("test", "t10k")):
        data = load(str(source), split=split)
        images, labels = content[key]
        assert np.array_equal(data.raw(range(len(data))), images)
        assert data.labels is not None
        assert np.array_equal(names[data.labels.numpy()], labels)
        assert data.shape == (1, 5, 4)


def test_one_file_alone_is_split_by_the_common_rule_and_has_the_fingerprint_of_the_npy(mnist) -> None:  # type: ignore[no-untyped-def]
    folder, content = mnist
    write(folder / "faces.idx", content["train"][0])
    np.save(folder / "faces.npy", content["train"][0])
    idx, npy = (load(str(folder / name)) for name in ("faces.idx", "faces.npy"))
    assert idx.splits == {"train": 18, "test": 2}
    assert idx.labels is None
    assert idx.fingerprint == npy.fingerprint


@pytest.mark.parametrize("code", [">i2", ">i4", ">f4", ">f8"])
def test_big_endian_values_are_read(tmp_path, noise, code: str) -> None:  # type: ignore[no-untyped-def]
    values = np.arange(60).reshape(20, 3).astype(code)
    write(tmp_path / "x", values)
    data = load(str(tmp_path / "x"))
    assert np.array_equal(np.sort(data.raw(range(18)), axis=0)[:, 0] % 3, np.zeros(18))
    assert np.allclose(data.transform.decode(data.batch(range(18))[0]), data.raw(range(18)), atol=1e-5)
    np.save(tmp_path / "x.npy", values.astype(values.dtype.newbyteorder("<")))
    assert load(str(tmp_path / "x.npy")).fingerprint == data.fingerprint


def test_damaged_and_mistaken_files_are_refused(mnist, refused) -> None:  # type: ignore[no-untyped-def]
    folder, content = mnist
    images, labels = content["train"]
    write(folder / "a-labels-idx1-ubyte", labels)
    assert "holds one number per example (labels?); name the images file" in refused(folder / "a-labels-idx1-ubyte")
    write(folder / "b", images)
    whole = (folder / "b").read_bytes()
    (folder / "b").write_bytes(whole[:-1])
    assert "has 399 bytes of values; its header (20, 5, 4) needs 400" in refused(folder / "b")
    (folder / "b").write_bytes(whole[:9])
    refused(folder / "b")
    write(folder / "c.gz", images)
    packed = (folder / "c.gz").read_bytes()
    (folder / "c.gz").write_bytes(packed[: len(packed) // 2])
    refused(folder / "c.gz")
