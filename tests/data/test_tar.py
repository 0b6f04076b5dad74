"""What a tar says of itself is checked: damage loses no samples, numbers that cannot be end in one line."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.shards import png, write_tar

from logsnr.data import load, tar

Refused = Callable[..., str]
IMAGE = png(np.zeros((4, 4), np.uint8))
FIELDS = {"size": slice(124, 136), "checksum": slice(148, 156), "type": slice(156, 157)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSNR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Eight images, each 1024 bytes of the tar with its header."""
    write_tar(tmp_path / "a.tar", [(f"{row}.png", IMAGE) for row in range(8)])
    return tmp_path / "a.tar"


@pytest.mark.parametrize("damage", ["flipped", "zero", "joined"])
def test_what_follows_a_damaged_header_is_not_lost_in_silence(shard: Path, refused: Refused, damage: str) -> None:
    content, at = bytearray(shard.read_bytes()), 3 * 1024
    if damage == "flipped":
        content[at + 5] ^= 0xFF
    elif damage == "zero":
        content[at : at + 512] = bytes(512)
    else:
        content, at = content + content, 8 * 1024
    shard.write_bytes(content)
    assert f"{shard}: a damaged header at byte {at}, or another tar after" in refused(f"wds:{shard}")


def base_256(size: int) -> bytes:
    """A size as GNU's format has it that octal digits cannot say."""
    return (size % 256**12 if size < 0 else size | 1 << 95).to_bytes(12, "big")


def headed(content: bytes, at: int, **changed: bytes) -> bytes:
    """The tar with other fields in the header at a byte."""
    header = bytearray(content[at : at + 512])
    for name, value in changed.items():
        header[FIELDS[name]] = value
    header[FIELDS["checksum"]] = b" " * 8
    header[FIELDS["checksum"]] = b"%06o\0 " % sum(header)
    return content[:at] + bytes(header) + content[at + 512 :]


@pytest.mark.parametrize("size", [-512, -1024, -1536, 10**6, 2**80])
@pytest.mark.parametrize("row", [0, 1])
def test_a_size_that_cannot_be_is_refused_before_it_is_followed(
    shard: Path, refused: Refused, row: int, size: int
) -> None:
    """Such a header may name itself as the next one."""
    shard.write_bytes(headed(shard.read_bytes(), row * 1024, size=base_256(size)))
    assert f"{row}.png has {size} bytes by its header" in refused(f"wds:{shard}")


@pytest.mark.parametrize("row", [0, 1])
def test_headers_that_tarfile_fails_on_are_one_line(shard: Path, refused: Refused, row: int) -> None:
    whole = shard.read_bytes()
    lead, header = whole[: 1024 * row], whole[1024 * row : 1024 * row + 512]
    for headers in (
        headed(header, 0, size=base_256(0), type=b"L") * 3000,  # names of names: too deep
        headed(header, 0, size=base_256(-512), type=b"x") + bytes(1024),
        headed(header[:482] + b"\1" + header[483:], 0, type=b"S"),  # a map of holes beyond the end
    ):
        shard.write_bytes(lead + headers)
        assert f"{shard}: a damaged header (" in refused(f"wds:{shard}")


def test_sparse_members_are_refused_by_name(shard: Path, refused: Refused) -> None:
    with tarfile.open(shard, "a") as file:
        info = tarfile.TarInfo("8.cls")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**15)}
        file.addfile(info)
    assert f"{shard}: 8.cls is sparse; allowed: whole tar files, neither" in refused(f"wds:{shard}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("0.json", b"[" * 200_000, "0.json of .* recursion depth"),
        ("0.cls", b"1" * (2**20 + 1), "0.cls of .* has 1048577 bytes; allowed: 1048576"),
    ],
)
def test_labels_out_of_bounds_are_one_line(
    tmp_path: Path, refused: Refused, name: str, content: bytes, said: str
) -> None:
    write_tar(tmp_path / "a.tar", [("0.png", IMAGE), (name, content)])
    assert re.search(said, refused(f"wds:{tmp_path}"))


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": lambda found: np.add(found.headers, [77, 0, 0])},
        {"headers": lambda found: found.headers * [1, -1, 1]},
        {"headers": lambda found: found.headers[1:]},
        {"places": lambda found: found.places[:, 0]},
        {"places": lambda found: found.places.astype(np.float64)},
        {"places": lambda found: np.add(found.places, [10**9, 0])},
        {"places": lambda found: np.add(found.places, [0, 2**62])},
        {"places": lambda found: -found.places},
        {"names": lambda found: "0.png"},
        {"labels": lambda found: "1\n2"},
        {"others": lambda found: ["x"]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_index_that_cannot_be_is_made_anew(shard: Path, changed: dict[str, Callable[[tar.Index], object]]) -> None:
    made = tar.index(shard)
    false = replace(made, **{name: change(made) for name, change in changed.items()})  # type: ignore[arg-type]
    assert tar._save(false, shard.with_name(".a.tar.index.safetensors"))
    again = tar.index(shard)
    assert again.digest == made.digest
    assert again.others == made.others


def test_a_tar_replaced_by_one_of_its_size_and_time_gets_a_new_index(shard: Path) -> None:
    before, stat = tar.index(shard), shard.stat()
    write_tar(shard, [(f"{row}.png", IMAGE) for row in range(1, 9)])
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (shard.stat().st_size, shard.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert tar.index(shard).names != before.names


def test_large_numbers_are_texts_and_null_is_no_label(tmp_path: Path) -> None:
    for folder, labels in (("large", (str(2**63), "7")), ("none", ("null", "null"))):
        samples = [
            (f"{row}{extension}", content)
            for row in range(8)
            for extension, content in ((".png", IMAGE), (".json", b'{"label": %s}' % labels[row % 2].encode()))
        ]
        for split in ("train", "test"):
            write_tar(tmp_path / folder / f"{split}-0.tar", samples)
    assert load(f"wds:{tmp_path}/large").classes == ("7", str(2**63))
    assert load(f"wds:{tmp_path}/none").labels is None
