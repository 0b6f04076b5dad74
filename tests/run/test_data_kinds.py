"""`logsnr train ddpm --data X` works unchanged on whatever people have; samples come back in the data's own form."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]
RNG = np.random.default_rng(0)


def grey_pngs(root: Path) -> tuple[Path, tuple[str, ...]]:
    for i in range(20):
        Image.fromarray(RNG.integers(0, 256, (16, 16)).astype(np.uint8), "L").save(root / f"{i}.png")
    return root, ()


def mixed_jpegs(root: Path) -> tuple[Path, tuple[str, ...]]:
    for i in range(20):
        Image.fromarray(RNG.integers(0, 256, (20 + i, 45 - i, 3)).astype(np.uint8)).save(root / f"{i}.jpg")
    return root, ("--size", "16")


def odd_pngs(root: Path) -> tuple[Path, tuple[str, ...]]:
    for i in range(12):
        Image.fromarray(RNG.integers(0, 256, (37, 53, 3)).astype(np.uint8)).save(root / f"{i}.png")
    return root, ()


def five_channels(root: Path) -> tuple[Path, tuple[str, ...]]:
    np.save(root / "x.npy", RNG.normal(size=(16, 5, 32, 32)).astype(np.float32))
    return root / "x.npy", ()


def vectors(root: Path) -> tuple[Path, tuple[str, ...]]:
    np.save(root / "x.npy", RNG.normal(size=(100, 2)))
    return root / "x.npy", ()


def sequences(root: Path) -> tuple[Path, tuple[str, ...]]:
    np.save(root / "x.npy", RNG.normal(size=(50, 1, 128)).astype(np.float32))
    return root / "x.npy", ()


def volumes(root: Path) -> tuple[Path, tuple[str, ...]]:
    np.save(root / "x.npy", RNG.normal(size=(12, 1, 8, 8, 8)).astype(np.float32))
    return root / "x.npy", ()


def idx(root: Path) -> tuple[Path, tuple[str, ...]]:
    images = RNG.integers(0, 256, (30, 28, 28)).astype(np.uint8)
    header = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
    with gzip.open(root / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(header + images.tobytes())
    return root / "train-images-idx3-ubyte.gz", ()


@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [
        (grey_pngs, (16, 16), np.uint8),
        (mixed_jpegs, (16, 16, 3), np.uint8),
        (odd_pngs, (37, 53, 3), np.uint8),
        (five_channels, (5, 32, 32), np.float32),
        (vectors, (2,), np.float32),
        (sequences, (1, 128), np.float32),
        (volumes, (1, 8, 8, 8), np.float32),
        (idx, (28, 28), np.uint8),
    ],
)
def test_trains_and_samples(
    logsnr: Verb, tmp_path: Path, make: Callable[[Path], tuple[Path, tuple[str, ...]]], shape: tuple[int, ...],
    dtype: type,
) -> None:  # fmt: skip
    (tmp_path / "data").mkdir()
    source, flags = make(tmp_path / "data")
    options = [word for word in TINY if word != "--set" and not word.startswith("network.")]
    run = tmp_path / "run"
    words = ["train", "ddpm", "--data", source, "--out", run, "--steps", "2", "--preview-every", "2", *flags]
    status, _, err = logsnr(
        *words, "--set", "train.holdout_every=2", *[w for w in options if not w.startswith("train.")]
    )
    assert status == 0, err
    assert list((run / "previews").glob("*.png"))
    status, _, err = logsnr("sample", run, "--n", "3", "--steps", "3", "--trajectory", "--quiet")
    assert status == 0, err
    images = np.load(run / "samples" / "samples.npz")["images"]
    assert images.shape == (3, *shape)
    assert images.dtype == dtype
    assert len({image.tobytes() for image in images}) == 3
    assert (run / "samples" / "grid.png").is_file()
