"""WebDataset shards: the same examples as from files, an index that is made once, and one line for what is wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.shards import png, write_shards, write_tar

from logsnr.data import Batches, load, tar

Refused = Callable[..., str]
COUNT = 96


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOGSNR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def images(noise: np.random.Generator) -> np.ndarray:
    return noise.integers(0, 256, (COUNT, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def labels(noise: np.random.Generator) -> np.ndarray:
    return noise.integers(3, 7, COUNT)


@pytest.fixture
def folder(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    write_shards(tmp_path / "data", images, labels, 8)
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that examples are read from, one for each read."""
    reads: list[str] = []
    lock, read = threading.Lock(), tar.read

    def recorded(path: Path, *where: object) -> bytes:
        with lock:
            reads.append(path.name)
        return read(path, *where)  # type: ignore[arg-type]

    monkeypatch.setattr("logsnr.data.wds.read", recorded)
    return reads


def test_the_examples_are_those_that_were_written(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    for where in (folder, folder / "shard-*.tar", folder / "shard-{000000..000007}.tar"):
        train, test = (load(f"wds:{where}", split=split) for split in ("train", "test"))
        assert len(train) + len(test) == COUNT
        assert train.classes == tuple(map(str, np.unique(labels)))
        written = {images[row].tobytes(): labels[row] for row in range(COUNT)}
        for data in (train, test):
            raw, classes = data.raw(range(len(data))), data.condition(range(len(data)))["classes"]
            for example, label in zip(raw, classes.tolist(), strict=True):
                assert str(written.pop(example.tobytes())) == data.classes[label]
        assert not written


def test_names_of_shards_say_splits_and_json_says_labels(tmp_path: Path, images: np.ndarray) -> None:
    for split, part in (("train", images[:60]), ("val", images[60:])):
        members = [
            (f"{row}{extension}", content)
            for row, each in enumerate(part)
            for extension, content in ((".png", png(each)), (".json", b'{"label": "kind of %d"}' % (row % 2)))
        ]
        write_tar(
            tmp_path / f"birds_{split}-0.tar", [*members, ("caption.png", png(part[0])), ("caption.txt", b"-")][:-2]
        )
    train, val = (load(f"wds:{tmp_path}", split=split) for split in ("train", "val"))
    assert train.splits == {"train": 60, "val": 36}
    assert train.classes == val.classes == ("kind of 0", "kind of 1")
    assert np.array_equal(val.raw(range(36)), images[60:])


def test_opening_reads_no_image_and_the_index_is_made_once(
    folder: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(f"wds:{folder}")
    assert first.fingerprint
    assert first.levels == 256
    assert not opened
    assert len(list(folder.glob(".shard-*.index.safetensors"))) == 8
    monkeypatch.setattr(tar, "_make", None)
    again = load(f"wds:{folder}")
    assert again.fingerprint == first.fingerprint
    assert again.classes == first.classes


def test_a_changed_shard_gets_a_new_index(folder: Path, images: np.ndarray) -> None:
    before = load(f"wds:{folder}")
    before.raw(range(COUNT // 2))
    shard = folder / "shard-000003.tar"
    write_tar(shard, [(f"{row}.png", png(255 - images[row])) for row in range(20)])
    for path in folder.glob("*.tar"):  # the labels are gone in all of them
        if path != shard:
            write_tar(path, [("0.png", png(images[0]))])
    after = load(f"wds:{folder}")
    assert len(after) + len(load(f"wds:{folder}", split="test")) == 27
    assert after.fingerprint != before.fingerprint
    assert {bytes(each) for each in after.raw(range(len(after)))} <= {bytes(255 - each) for each in images[:20]} | {
        bytes(images[0])
    }


def test_the_index_is_in_the_cache_where_the_shards_cannot_be_written_to(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = tar._save
    monkeypatch.setattr(tar, "_save", lambda made, place: place.parent != folder and save(made, place))
    assert load(f"wds:{folder}").labels is not None
    assert not list(folder.glob(".*"))
    assert len(list((cache / "shards").glob("*.safetensors"))) == 8
    monkeypatch.setattr(tar, "_make", None)
    assert load(f"wds:{folder}").labels is not None


def test_a_damaged_index_is_made_anew(folder: Path) -> None:
    fingerprint = load(f"wds:{folder}").fingerprint
    for path in folder.glob(".*"):
        path.write_bytes(path.read_bytes()[:50])
    assert load(f"wds:{folder}").fingerprint == fingerprint


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_draw_one_rank_s_batches_and_open_other_shards(
    tmp_path: Path, images: np.ndarray, opened: list[str], monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    write_shards(tmp_path / "data", images, None, 8, "train")
    write_shards(tmp_path / "data", images, None, 1, "val")
    source = f"wds:{tmp_path / 'data'}"
    monkeypatch.setattr("logsnr.data.lazy.KEPT_BYTES", 0)  # as data is that does not fit: every draw is a read
    whole = Batches(load(source), 16, 3, flip=True)
    steps = range(COUNT // 16)  # one epoch
    expected = [whole.at(step) for step in steps]
    assert len(opened) == 16 * len(steps)
    read: list[set[str]] = []
    parts = []
    for rank in range(ranks):
        opened.clear()
        batches = Batches(load(source), 16, 3, flip=True, rank=rank, ranks=ranks)
        parts.append([batches.at(step) for step in steps])
        read.append(set(opened))
    assert sum(map(len, read)) == len(set.union(*read)) == 8
    for step in steps:
        assert torch.equal(torch.cat([part[step].x for part in parts]), expected[step].x)
        assert torch.equal(torch.cat([part[step].examples for part in parts]), expected[step].examples)
        assert torch.equal(torch.cat([part[step].index for part in parts]), expected[step].index)


def test_more_ranks_than_lanes_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="4 ranks for 8 shards and batch size 12, .* 6 lanes; allowed: 1, 2, 3, 6, or"):
        Batches(load(f"wds:{folder}"), 12, 0, rank=0, ranks=4)


def test_sizes_that_differ_need_a_size(tmp_path: Path, refused: Refused, noise: np.random.Generator) -> None:
    def image(height: int, width: int) -> bytes:
        return png(noise.integers(0, 256, (height, width), dtype=np.uint8))

    write_tar(tmp_path / "a.tar", [(f"{row}.png", image(9, 9)) for row in range(5)])
    write_tar(tmp_path / "b.tar", [(f"{row}.png", image(9, 7 + row)) for row in range(5)])
    said = refused(f"wds:{tmp_path}")
    assert "images of several sizes: 0.png of " in said
    assert f"0.png of {tmp_path}/b.tar is 9x7; give --size N" in said
    assert load(f"wds:{tmp_path}", size=8).raw(range(4)).shape == (4, 8, 8)


def test_damage_is_one_line(tmp_path: Path, refused: Refused, images: np.ndarray) -> None:
    shard, pictures = tmp_path / "a.tar", [(f"{row}.png", png(images[row])) for row in range(8)]
    write_tar(shard, pictures)
    whole = shard.read_bytes()
    for length in (len(whole) // 2, 700, 512 * 16, 300):
        shard.write_bytes(whole[:length])
        assert refused(f"wds:{shard}").startswith(f"{shard}")
    for members, said in (
        ([*pictures, ("8.cls", b"3")], "sample 8 has the members .cls; allowed: one image, .png"),
        ([*pictures, ("8.png", png(images[8])), ("8.jpg", b"")], "sample 8 has the members .png, .jpg; allowed: one"),
        ([("1.xyz", b"?"), ("1.cls", b"1")], "sample 1 has the members .xyz, .cls; allowed: one image, .png"),
        ([*pictures, ("8.png", b"not an image")], "cannot read 8.png of"),
        ([*pictures, ("8.png", png(images[8])), ("8.cls", b"1")], "0.png has no label"),
        ([*pictures, ("8.png", png(images[8])), ("8.json", b"{")], "8.json of"),
        ([], "has no samples"),
    ):
        write_tar(shard, members)
        assert said in refused(f"wds:{shard}")


def test_a_body_that_is_damaged_is_named_when_it_is_read(tmp_path: Path, noise: np.random.Generator) -> None:
    pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    broken = bytearray(png(pixels))
    broken[200:4000] = bytes(3800)
    write_tar(tmp_path / "a.tar", [(f"{row}.png", bytes(broken) if row == 2 else png(pixels)) for row in range(9)])
    data = load(f"wds:{tmp_path}")
    with pytest.raises(ValueError, match=r"^sample 2.png: cannot decode .*a\.tar: "):
        data.raw(range(len(data)))


def test_shards_that_are_not_there_are_one_line(tmp_path: Path, refused: Refused, folder: Path) -> None:
    assert refused(f"wds:{tmp_path}/*.tar").startswith(f"no shards {tmp_path}/*.tar; allowed: a folder of .tar files")
    assert "shard-000008.tar" in refused(f"wds:{folder}/shard-{{000000..000008}}.tar")
    assert "is not on a file system" in refused("wds:https://example.org/a.tar")


def test_brackets_are_of_the_name_and_a_shard_by_two_names_is_one(folder: Path) -> None:
    odd = folder.with_name("run[1]")
    folder.rename(odd)
    (odd / "shard-000008.tar").symlink_to(odd / "shard-000003.tar")
    for where in (odd, odd / "*.tar", f"{odd}/shard-000000.tar::{odd}/../{odd.name}/shard-00000{{0..8}}.tar"):
        assert sum(load(f"wds:{where}").splits.values()) == COUNT


def test_a_shard_that_is_replaced_while_it_is_used_is_an_error(folder: Path, images: np.ndarray) -> None:
    data = load(f"wds:{folder}")
    for path in folder.glob("*.tar"):
        write_tar(path, [("0.png", png(images[0]))])
    with pytest.raises(ValueError, match=r"shard-00000.\.tar has changed since its index was read; start again"):
        data.raw(range(len(data)))


def test_jpegs_with_long_headers_are_indexed(tmp_path: Path, noise: np.random.Generator) -> None:
    """A colour profile of 100 kB stands before the size of the image."""
    image = Image.fromarray(noise.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(tmp_path / "x.jpg", icc_profile=os.urandom(100_000))
    write_tar(tmp_path / "a.tar", [(f"{row}.jpg", (tmp_path / "x.jpg").read_bytes()) for row in range(3)])
    assert load(f"wds:{tmp_path}").shape == (3, 20, 30)
