"""Well-known data sets, where they are at hand: set LOGSNR_DATA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logsnr.data import load


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_and_fashion_mnist(real_data: Path, name: str) -> None:
    path = real_data / f"{name}_test.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    data = load(str(path))
    assert (data.shape, data.levels, data.splits) == ((1, 28, 28), 256, {"train": 9000, "test": 1000})
    assert data.classes == tuple("0123456789")
    assert data.summary()["range"] == [0, 255]
    raw = data.raw(range(500))
    assert np.array_equal(data.transform.decode(data.batch(range(500))[0]), raw)


def test_cifar_10(real_data: Path) -> None:
    path = real_data / "cifar10_test_first1000.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    data = load(str(path))
    assert (data.shape, data.levels, data.splits) == ((3, 32, 32), 256, {"train": 900, "test": 100})
    assert np.array_equal(data.transform.decode(data.batch(range(900))[0]), data.raw(range(900)))
    assert load(str(path), size=64).batch(range(4))[0].shape == (4, 3, 64, 64)
