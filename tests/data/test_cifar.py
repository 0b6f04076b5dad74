"""CIFAR-10's two published versions, and a pickle that would run code."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from logsnr.data import load

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def batches(noise):  # type: ignore[no-untyped-def]
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    return {name: (noise.integers(0, 256, (4, 3072), np.uint8), noise.integers(0, 10, 4)) for name in names}


def write_binary(folder: Path, batches) -> None:  # type: ignore[no-untyped-def]
    for name, (pixels, labels) in batches.items():
        records = np.concatenate([labels[:, np.newaxis].astype(np.uint8), pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")


def write_python(folder: Path, batches, protocol: int, key=str) -> None:  # type: ignore[no-untyped-def]
    for name, (pixels, labels) in batches.items():
        content = {
            key("batch_label"): name,
            key("labels"): labels.tolist(),
            key("data"): pixels,
            key("filenames"): ["a.png"] * 4,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    meta = {key("label_names"): list(NAMES), key("num_vis"): 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol))


def check(folder: Path, batches) -> str:  # type: ignore[no-untyped-def]
    planes = np.concatenate([batches[f"data_batch_{number}"][0] for number in range(1, 6)]).reshape(20, 3, 32, 32)
    train, test = (load(str(folder), split=split) for split in ("train", "test"))
    assert train.shape == (3, 32, 32)
    assert train.classes == NAMES
    assert np.array_equal(train.raw(range(20)), planes.transpose(0, 2, 3, 1))
    assert np.array_equal(test.labels, batches["test_batch"][1])
    assert np.array_equal(train.transform.decode(train.batch(range(20))[0]), train.raw(range(20)))
    return train.fingerprint


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("key", [str, str.encode])
def test_both_versions_are_the_same_data(tmp_path, batches, protocol: int, key) -> None:  # type: ignore[no-untyped-def]
    for name, write in (("bin", write_binary), ("py", lambda *args: write_python(*args, protocol, key))):
        (tmp_path / name).mkdir()
        write(tmp_path / name, batches)
    assert check(tmp_path / "bin", batches) == check(tmp_path / "py", batches)


def test_a_pickle_of_python_2_is_read(tmp_path, batches) -> None:  # type: ignore[no-untyped-def]
    """The published files: protocol 2, byte strings for text and for the array's content, numpy.core names."""

    def string(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    for name, (pixels, labels) in batches.items():
        array = (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
            b"(K\x01M\x04\x00M\x00\x0c\x86cnumpy\ndtype\nq\x04U\x02u1K\x00K\x01\x87Rq\x05"
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + string(pixels.tobytes()) + b"tb"
        )
        numbers = b"".join(b"K" + bytes([label]) for label in labels)
        content = b"}q\x00(U\x04data" + array + b"U\x06labels]q\x06(" + numbers + b"eu."
        (tmp_path / name).write_bytes(b"\x80\x02" + content)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": list(NAMES)}, 2))
    check(tmp_path, batches)


def test_one_file_alone_is_split_by_the_common_rule(tmp_path, batches) -> None:  # type: ignore[no-untyped-def]
    write_binary(tmp_path, batches)
    data = load(str(tmp_path / "data_batch_2.bin"))
    assert data.splits == {"train": 3, "test": 1}
    assert data.classes == NAMES


def test_cut_files_are_refused(tmp_path, refused, batches) -> None:  # type: ignore[no-untyped-def]
    write_binary(tmp_path, batches)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(tmp_path) == f"{path} has 12291 bytes, which is not a multiple of 3073"
    for each in tmp_path.iterdir():
        each.unlink()
    write_python(tmp_path, batches, 2)
    path = tmp_path / "data_batch_3"
    whole = path.read_bytes()
    for cut in (1, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert str(path) in refused(tmp_path)
    path.write_bytes(pickle.dumps({"data": np.zeros((4, 9), np.uint8), "labels": [0] * 4}))
    assert "does not hold data (N, 3072) uint8 and N labels; its keys: data, labels" in refused(tmp_path)
    path.write_bytes(pickle.dumps([1, 2]))
    assert "holds a list; a dict is needed" in refused(tmp_path)


class Malice:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_runs_code_is_refused_without_running_it(tmp_path, refused, batches, protocol: int) -> None:  # type: ignore[no-untyped-def]
    write_python(tmp_path, batches, protocol)
    mark = tmp_path / "executed"
    attack = pickle.dumps({"data": Malice(mark), "labels": [0]}, protocol)
    (tmp_path / "data_batch_3").write_bytes(attack)
    message = refused(tmp_path)
    assert "data_batch_3" in message
    assert "is refused" in message
    assert not mark.exists()
    pickle.loads(attack)
    assert mark.exists()
