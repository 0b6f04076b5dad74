"""Data sets of Hugging Face: saved Arrow files, parquet files, the Hub's file system; nothing is read unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.shards import png

from logsnr.data import Batches, hf, load, tables

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
Refused = Callable[..., str]
COUNT, GROUP, NAMES = 96, 12, ("ant", "bee", "cat")
FEATURES = {
    "img": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": list(NAMES)},
    "note": {"dtype": "string"},
}


@pytest.fixture
def images(noise: np.random.Generator) -> np.ndarray:
    return noise.integers(0, 256, (COUNT, 6, 5, 3), dtype=np.uint8)


def table(images: np.ndarray, features: dict[str, Any] | None = FEATURES, **more: list[object]) -> Any:
    """As `datasets` lays it out, with what it says of the columns."""
    columns = {
        "img": [{"bytes": png(image), "path": None} for image in images],
        "label": [row % len(NAMES) for row in range(len(images))],
        "note": ["-"] * len(images),
        **more,
    }
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {name: image if type(rows[0]) is dict else None for name, rows in columns.items()}
    found = pa.table({name: pa.array(rows, types[name]) for name, rows in columns.items()})
    said = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return found.replace_schema_metadata(said)


def save(folder: Path, images: np.ndarray, files: int = 2) -> None:
    """What save_to_disk leaves: Arrow streams of record batches and state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{files:05}.arrow" for number in range(files)]
    for name, part in zip(names, np.array_split(images, files), strict=True):
        found = table(part)
        with pa.ipc.new_stream(str(folder / name), found.schema) as stream:
            stream.write_table(found, max_chunksize=GROUP)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def write(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(found, path, row_group_size=GROUP)


@pytest.fixture(params=["arrow", "parquet"])
def source(request: pytest.FixtureRequest, tmp_path: Path, images: np.ndarray) -> str:
    """Train and validation split, in one of the two forms."""
    if request.param == "arrow":
        save(tmp_path / "set" / "train", images)
        save(tmp_path / "set" / "validation", images[:24], 1)
        (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    else:
        for split, part in (("train-00000-of-00002", images[:48]), ("train-00001-of-00002", images[48:])):
            write(tmp_path / "set" / "data" / f"{split}.parquet", table(part))
        write(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", table(images[:24]))
    return f"hf:{tmp_path / 'set'}"


def test_the_examples_are_those_that_were_written(source: str, images: np.ndarray) -> None:
    data = load(source)
    assert data.splits == {"train": COUNT, "val": 24}
    assert data.classes == NAMES
    assert np.array_equal(data.raw(range(COUNT)), images)
    assert np.array_equal(load(source, split="val").raw(range(24)), images[:24])
    assert data.shards is not None
    assert data.shards.sizes == (GROUP,) * (COUNT // GROUP)


def test_one_split_alone_is_split_again(source: str, images: np.ndarray) -> None:
    parts = [load(f"{source}?split=validation&image=img&label=note", split=split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [22, 2]
    assert parts[0].classes == ("-",)
    found = np.concatenate([part.raw(range(len(part))) for part in parts])
    assert {each.tobytes() for each in found} == {each.tobytes() for each in images[:24]}


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_draw_one_rank_s_batches_from_groups_of_their_own(source: str, ranks: int) -> None:
    whole = Batches(load(source), 16, 3)
    parts = [Batches(load(source), 16, 3, rank=rank, ranks=ranks) for rank in range(ranks)]
    steps = range(COUNT // 16)
    groups = [set() for _ in range(ranks)]  # type: ignore[var-annotated]
    for step in steps:
        drawn = [part.at(step) for part in parts]
        assert torch.equal(torch.cat([each.x for each in drawn]), whole.at(step).x)
        for each, read in zip(drawn, groups, strict=True):
            read |= set((each.examples // GROUP).tolist())
    assert sum(map(len, groups)) == len(set.union(*groups)) == COUNT // GROUP


def test_a_row_group_is_read_once_and_none_to_open_the_data(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logsnr.data.lazy.KEPT_BYTES", 0)
    write(tmp_path / "train-0.parquet", table(images))
    write(tmp_path / "val-0.parquet", table(images[:2]))
    read: list[int] = []

    class Recorded(parquet.ParquetFile):  # type: ignore[misc]
        def read_row_group(self, group: int, columns: list[str]) -> Any:
            read.append(group)
            return super().read_row_group(group, columns=columns)

    monkeypatch.setattr(parquet, "ParquetFile", Recorded)
    data = load(f"hf:{tmp_path}")
    assert data.fingerprint
    assert read == [0, 0]  # the first examples of either split, for their size and mode
    batches = Batches(data, 16, 0)
    for step in range(COUNT // 16):
        batches.at(step)
    assert sorted(read) == [0, 0, *range(1, COUNT // GROUP)]


def test_the_hub_s_files_are_read_where_they_lie(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file system is stood in for by a folder: the repository has no parquet files, its conversion has."""
    fsspec, hub = pytest.importorskip("fsspec"), pytest.importorskip("huggingface_hub")
    write(tmp_path / "datasets/me/birds@refs/convert/parquet/default/train/0000.parquet", table(images))
    write(tmp_path / "datasets/me/birds@refs/convert/parquet/default/test/0000.parquet", table(images[:5]))
    (tmp_path / "datasets/me/birds").mkdir(parents=True)
    monkeypatch.setattr(
        hub, "HfFileSystem", lambda: fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
    )
    data = load("hf:me/birds")
    assert data.splits == {"test": 5, "train": COUNT}
    assert np.array_equal(data.raw(range(20)), images[:20])
    with pytest.raises(
        ValueError, match="^data 'hf:me/other': other is not|me/other is not in parquet files on the Hub"
    ):
        load("hf:me/other")


def test_labels_that_are_kept_back_are_none(tmp_path: Path, images: np.ndarray) -> None:
    write(tmp_path / "train-0.parquet", table(images))
    write(tmp_path / "test-0.parquet", table(images[:9], label=[-1] * 9))
    assert load(f"hf:{tmp_path}").classes == NAMES
    assert load(f"hf:{tmp_path}", split="test").labels is None


@pytest.mark.parametrize("other", ["train-1", "test-0"])
def test_class_names_in_another_order_are_refused(
    tmp_path: Path, images: np.ndarray, refused: Refused, other: str
) -> None:
    turned = FEATURES | {"label": {"_type": "ClassLabel", "names": [*reversed(NAMES)]}}
    write(tmp_path / "train-0.parquet", table(images))
    write(tmp_path / f"{other}.parquet", table(images, turned))
    assert ("or class names" if other == "train-1" else "the column label of split t") in refused(f"hf:{tmp_path}")


@pytest.mark.parametrize("without", ["test", "val", "train"])
def test_a_split_without_labels_decides_for_itself_alone(tmp_path: Path, images: np.ndarray, without: str) -> None:
    for split in ("train", "val", "test"):
        found = table(images)
        write(tmp_path / f"{split}-0.parquet", found.drop_columns(["label"]) if split == without else found)
    for split in ("train", "val", "test"):
        data = load(f"hf:{tmp_path}", split=split)
        assert (data.labels is None) == (split == without)
        assert data.classes == NAMES


def test_a_split_whose_image_has_another_name_is_refused(tmp_path: Path, images: np.ndarray, refused: Refused) -> None:
    write(tmp_path / "train-0.parquet", table(images))
    write(tmp_path / "test-0.parquet", table(images).rename_columns(["image", "label", "note"]))
    said = refused(f"hf:{tmp_path}?image=img")
    assert said == "the column img of split test is {}, that of another {'_type': 'Image'}"


def test_empty_groups_are_passed_over_and_empty_splits_refused(
    tmp_path: Path, images: np.ndarray, refused: Refused
) -> None:
    none = table(images)[:0]
    write(tmp_path / "some" / "train-0.parquet", none)
    with parquet.ParquetWriter(tmp_path / "some" / "train-1.parquet", table(images).schema) as file:
        for rows in (none, table(images[:10]), none, table(images[10:20])):
            file.write_table(rows)
    found = hf.read_hf(f"hf:{tmp_path}/some", hf.Wish()).blocks["train"]
    assert found.shards is not None
    assert found.shards.sizes == (10, 10)
    assert np.array_equal(found.examples[np.arange(20)], images[:20])
    assert found.labels is not None
    assert found.labels.tolist() == [row % 10 % 3 for row in range(20)]
    save(tmp_path / "none", images, 1)
    with pa.ipc.new_stream(str(tmp_path / "none" / "data-00000-of-00001.arrow"), none.schema) as stream:
        stream.write_table(none)
    assert refused(f"hf:{tmp_path}/none") == "the data set has no examples"
    write(tmp_path / "some" / "test-0.parquet", none)
    assert refused(f"hf:{tmp_path}/some") == "split test has no examples"


def test_a_hub_out_of_reach_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def glob(self, pattern: str) -> list[str]:
            raise Exception("Name or service\nnot known")  # as the errors of its HTTP library are: no OSError

    monkeypatch.setattr(pytest.importorskip("huggingface_hub"), "HfFileSystem", Unreachable)
    assert refused("hf:me/birds") == "me/birds cannot be read from the Hub: Name or service not known"


def test_what_is_ambiguous_or_missing_is_one_line(tmp_path: Path, refused: Refused, images: np.ndarray) -> None:
    two = {"img": {"_type": "Image"}, "mask": {"_type": "Image"}, "label": FEATURES["label"]}
    mask = [{"bytes": png(image), "path": None} for image in images]
    write(tmp_path / "two" / "a.parquet", table(images, two, mask=mask))
    assert "the columns img, mask may be the image; ?image=NAME says which" in refused(f"hf:{tmp_path}/two")
    assert load(f"hf:{tmp_path}/two?image=mask").classes == NAMES
    assert "no column 'x'; its columns: img (Image), label (ClassLabel)" in refused(f"hf:{tmp_path}/two?image=x")
    assert "note: " not in refused(f"hf:{tmp_path}/two?image=note")
    assert "unknown option colour; allowed: image, label, split, config" in refused(f"hf:{tmp_path}/two?colour=1")
    assert "no split 'dev'; it has: none with a name" in refused(f"hf:{tmp_path}/two?split=dev&image=img")
    write(tmp_path / "none" / "a.parquet", table(images).drop_columns(["img"]))
    assert "no column is an image; its columns: label (ClassLabel), note (string)" in refused(f"hf:{tmp_path}/none")
    for config in ("big", "small"):
        write(tmp_path / "configs" / config / "train-0.parquet", table(images))
    assert "config is not given; it has: big, small; ?config=NAME" in refused(f"hf:{tmp_path}/configs")
    assert len(load(f"hf:{tmp_path}/configs?config=big")) == 87
    (tmp_path / "empty").mkdir()
    assert "no parquet files in the folder" in refused(f"hf:{tmp_path}/empty")
    assert "no such folder; allowed: " in refused(f"hf:{tmp_path}/not/there")
    (tmp_path / "empty" / "a.parquet").write_bytes(b"PAR1")
    assert "a.parquet" in refused(f"hf:{tmp_path}/empty")


def test_an_example_unlike_the_first_is_named(tmp_path: Path, noise: np.random.Generator) -> None:
    images = [noise.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(COUNT)]
    images[80], images[81] = images[80][:4], images[81][:, :, 0]
    rows = [{"bytes": png(image), "path": None} for image in images]
    write(tmp_path / "a.parquet", table(np.zeros((COUNT, 6, 5), np.uint8), img=rows))
    blocks = hf.read_hf(f"hf:{tmp_path}", hf.Wish()).blocks
    with pytest.raises(ValueError, match="^example 80 is 4x5, the first are 6x5; give --size N or --size HxW$"):
        blocks[""].examples[np.array([80])]
    with pytest.raises(ValueError, match="^example 81 is L, the first are RGB; convert all: --channels 3"):
        blocks[""].examples[np.array([81])]
    both = hf.read_hf(f"hf:{tmp_path}", hf.Wish(size=(6, 5), channels=3)).blocks
    assert both[""].examples[np.array([80, 81])].shape == (2, 6, 5, 3)


def test_parquet_that_says_nothing_of_its_columns_is_read(tmp_path: Path, images: np.ndarray) -> None:
    write(tmp_path / "a.parquet", table(images, {}).replace_schema_metadata({"huggingface": "{}"}))
    data = load(f"hf:{tmp_path}?label=label")
    assert data.classes == ("0", "1", "2")
    assert data.raw([0]).shape == (1, 6, 5, 3)


def test_what_is_not_installed_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "find_spec", lambda name: None)
    said = refused("hf:me/birds")
    assert said == f"hf: needs the package pyarrow, which is not installed: {tables.INSTALL}"


def test_what_datasets_saves_is_what_is_read(tmp_path: Path, images: np.ndarray) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    rows = {"img": [{"bytes": png(image), "path": None} for image in images], "label": [0, 1, 2] * (COUNT // 3)}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    (tmp_path / "files").mkdir()
    made.to_parquet(str(tmp_path / "files" / "train-0.parquet"), batch_size=GROUP)
    for folder in ("saved", "files"):
        parts = [load(f"hf:{tmp_path / folder}", split=split) for split in ("train", "test")]
        assert parts[0].classes == NAMES
        found = np.concatenate([part.raw(range(len(part))) for part in parts])
        assert {each.tobytes() for each in found} == {each.tobytes() for each in images}
