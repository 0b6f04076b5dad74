"""What several tests of this folder need."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from logsnr.data import load


@pytest.fixture
def refused() -> Callable[..., str]:
    """Return the message with which ``load`` refuses, having checked that it is one line and names the source."""

    def message(source: object, **options: object) -> str:
        with pytest.raises(ValueError, match=r"^data ") as caught:
            load(str(source), **options)
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith(f"data {str(source)!r}: ")
        return text.removeprefix(f"data {str(source)!r}: ")

    return message


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def save() -> Callable[[Path, np.ndarray], None]:
    """Write an array as an image file, its folders made."""

    def write(path: Path, pixels: np.ndarray, **options: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of well-known data sets, which is not part of the package."""
    folder = Path(os.environ.get("LOGSNR_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of real data; set LOGSNR_DATA")
    return folder
