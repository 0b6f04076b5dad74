"""Folders of images: modes, sizes, classes, splits, and each way in which a folder can be wrong."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from logsnr.data import lazy as lazy_module
from logsnr.data import load
from logsnr.data.resize import resize

WAYS = [
    ((5, 6), np.uint8, 256, (1, 5, 6)),
    ((5, 6, 2), np.uint8, 256, (2, 5, 6)),
    ((5, 6, 3), np.uint8, 256, (3, 5, 6)),
    ((5, 6, 4), np.uint8, 256, (4, 5, 6)),
    ((5, 6), np.uint16, 65536, (1, 5, 6)),
    ((5, 6), bool, 2, (1, 5, 6)),
]


@pytest.mark.parametrize(("shape", "dtype", "levels", "model_shape"), WAYS)
def test_files_of_every_mode_come_back_exactly(tmp_path, noise, save, shape, dtype, levels, model_shape) -> None:  # type: ignore[no-untyped-def]
    pixels = [noise.integers(0, levels, shape).astype(dtype) for _ in range(8)]
    for number, each in enumerate(pixels):
        save(tmp_path / f"{number}.png", each)
    data = load(str(tmp_path))
    assert (data.shape, data.levels, data.classes) == (model_shape, levels, ())
    order = np.random.default_rng(0).permutation(8)[:7]
    raw = data.raw(range(7))
    assert np.array_equal(raw, np.stack([pixels[row] for row in order]))
    decoded = data.transform.decode(data.batch(range(7))[0])
    assert np.array_equal(decoded, raw)
    # What is decoded can be written as an image of the same mode, and the folder of those is the same data.
    for row, each in zip(order, decoded, strict=True):
        save(tmp_path / f"{row}.png", each.astype(dtype))
    assert load(str(tmp_path)).fingerprint == data.fingerprint


def test_palettes_count_as_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3), np.uint8)
    indices = np.arange(36).reshape(6, 6) % 4
    for number in range(3):
        image = Image.fromarray(indices.astype(np.uint8), "P")
        image.putpalette(colours.tobytes())
        image.save(tmp_path / f"{number}.png")
    assert np.array_equal(load(str(tmp_path)).raw([0])[0], colours[indices])


def test_sub_folders_are_classes_and_splits_are_recognised(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        for value, name in enumerate(("cat", "dog")):
            for number in range(count):
                save(tmp_path / split / name / "deeper" / f"{number}.png", np.full((2, 2), value, np.uint8))
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        data = load(str(tmp_path), split=split)
        assert data.splits == {"test": 6, "train": 8, "val": 4}
        assert data.classes == ("cat", "dog")
        assert data.labels is not None
        assert data.labels.tolist() == data.raw(range(2 * count))[:, 0, 0].tolist() == [0] * count + [1] * count
    inner = load(str(tmp_path / "train"))
    assert (inner.classes, inner.splits) == (("cat", "dog"), {"train": 7, "test": 1})


def test_a_lone_or_partial_sub_folder_is_no_class(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    for number in range(3):
        save(tmp_path / "images" / f"{number}.png", np.zeros((2, 2), np.uint8))
    assert load(str(tmp_path)).classes == ()
    save(tmp_path / "3.png", np.zeros((2, 2), np.uint8))
    assert load(str(tmp_path)).labels is None


def test_hidden_files_and_other_extensions_are_left_out(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.png", "B.JPG", ".hidden.png", ".cache/c.png", "__MACOSX/d.png"):
        save(tmp_path / name, np.zeros((2, 2), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    assert load(str(tmp_path)).splits == {"train": 1, "test": 1}


def test_a_link_to_a_folder_above_adds_nothing(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert load(str(tmp_path)).splits == {"train": 2, "test": 1}


def test_mixed_modes_name_the_odd_file_and_channels_converts_them(tmp_path, refused, save) -> None:  # type: ignore[no-untyped-def]
    colour = np.zeros((4, 4, 3), np.uint8) + np.array([10, 200, 30], np.uint8)
    save(tmp_path / "a.png", colour)
    save(tmp_path / "b.png", colour)
    save(tmp_path / "c.png", np.full((4, 4), 7, np.uint8))
    assert refused(tmp_path) == (
        f"{tmp_path / 'c.png'} is L but {tmp_path / 'a.png'} is RGB; convert all with --channels 3 (or 1, or 4)"
    )
    rgb = load(str(tmp_path), channels=3)
    raw = np.concatenate(
        [load(str(tmp_path), split=split, channels=3).raw(range(rgb.splits[split])) for split in rgb.splits]
    )
    assert sorted(raw[:, 0, 0].tolist()) == [[7, 7, 7], [10, 200, 30], [10, 200, 30]]
    assert rgb.summary()["modes"] == {"RGB": 2, "L": 1}
    assert load(str(tmp_path), channels=1).shape == (1, 4, 4)
    assert load(str(tmp_path), channels=4).batch([0])[0][0, 3].min() == 1


def test_transparency_is_laid_over_white(tmp_path, save) -> None:  # type: ignore[no-untyped-def]
    for number, opacity in enumerate((0, 0, 0)):
        save(tmp_path / f"{number}.png", np.array([[[9, 9, 9, opacity]] * 2] * 2, np.uint8))
    assert (load(str(tmp_path), channels=3).raw([0, 1]) == 255).all()
    assert (load(str(tmp_path), channels=1).raw([0, 1]) == 255).all()


def test_16_bit_files_are_not_mixed_or_converted(tmp_path, refused, save) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.png", "b.png"):
        save(tmp_path / name, np.full((2, 2), 40_000, np.uint16))
    assert (load(str(tmp_path), channels=1).raw([0]) == 40_000).all()
    assert f"{tmp_path / 'a.png'} is 16-bit grey" in refused(tmp_path, channels=3)
    save(tmp_path / "c.png", np.zeros((2, 2), np.uint8))
    assert "is 16-bit grey: such files are neither mixed" in refused(tmp_path, channels=1)


def test_mixed_sizes_name_two_files_and_size_resizes_them(tmp_path, refused, save) -> None:  # type: ignore[no-untyped-def]
    save(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    save(tmp_path / "b.png", np.zeros((5, 4), np.uint8))
    message = refused(tmp_path)
    assert "a.png is 4x6" in message
    assert "b.png is 5x4; give --size N or --size HxW" in message
    assert load(str(tmp_path), size=(3, 2)).shape == (1, 3, 2)
    assert load(str(tmp_path), size=8).summary()["sizes"] == {"4x6": 1, "5x4": 1}


def test_resizing_covers_and_crops_the_centre() -> None:
    # Three flat vertical bands; a square out of the middle of a wide image sees only the middle one.
    image = np.repeat(np.array([0, 100, 200], np.uint8), 40)[np.newaxis].repeat(40, 0)
    middle = resize(image, (10, 10), 256)
    assert np.abs(middle[:, 1:-1].astype(int) - 100).max() <= 1
    assert np.array_equal(resize(image.T.copy(), (10, 10), 256), middle.T)
    assert resize(image, (40, 120), 256) is image


def test_resizing_is_antialiased() -> None:
    # A checkerboard of single pixels shrunk sixteen times is its mean; without a filter it would be 0 or 255.
    board = (np.indices((160, 160)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(resize(board, (10, 10), 256).astype(int) - 128).max() <= 2
    wide = resize((board.astype(np.uint16) * 257), (10, 10), 65536)
    assert wide.dtype == np.uint16
    assert np.abs(wide.astype(int) - 32768).max() < 600
    assert np.abs(resize(board / 255, (10, 10), None) - 0.5).max() < 0.01


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it clockwise by 90 degrees
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, :16] = 255
    for number in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", exif=exif, quality=100)
    data = load(str(tmp_path))
    assert data.shape == (1, 32, 16)
    assert data.raw([0])[0, :15].min() > 240
    assert data.raw([0])[0, 17:].max() < 15


def test_damaged_files_are_named(tmp_path, refused, save) -> None:  # type: ignore[no-untyped-def]
    for number in range(4):
        save(tmp_path / f"{number}.png", np.random.default_rng(number).integers(0, 256, (32, 32), np.uint8))
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(b"not an image")
    assert f"cannot read {tmp_path / '2.png'}" in refused(tmp_path)
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    data = load(str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot decode .*2\.png") as caught:
        [load(str(tmp_path), split=split).fingerprint for split in data.splits]
    assert "\n" not in str(caught.value)


def test_16_bit_colour_is_refused(tmp_path, refused) -> None:  # type: ignore[no-untyped-def]
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"".join(b"\0" + bytes(range(12)) for _ in range(2)))
    png = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    assert "16-bit colour" in refused(tmp_path)


def test_an_empty_folder_lists_the_extensions(tmp_path, refused) -> None:  # type: ignore[no-untyped-def]
    assert refused(tmp_path).startswith("no images in the folder; extensions looked for: .png .jpg")


def test_pixels_are_decoded_once_if_they_fit_and_alike_if_they_do_not(tmp_path, save, noise, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for number in range(10):
        save(tmp_path / f"{number}.png", noise.integers(0, 256, (4, 4), np.uint8))
    kept = load(str(tmp_path))
    first = kept.raw([3, 1, 3])
    monkeypatch.setattr(lazy_module, "KEPT_BYTES", 0)
    fresh = load(str(tmp_path))
    assert np.array_equal(fresh.raw([3, 1, 3]), first)
    assert fresh.fingerprint == kept.fingerprint
    for path in tmp_path.iterdir():
        path.unlink()
    assert np.array_equal(kept.raw([3, 1, 3]), first)
    with pytest.raises(ValueError, match="cannot decode"):
        fresh.raw([3])
