"""Feature spaces: what a network sees, that it is frozen, and files that are whole, cached or refused."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from logsnr.data import load
from logsnr.metrics import FEATURES, Wish
from logsnr.metrics.features import extract, fetch, inception
from logsnr.metrics.features.features import pictures

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
RNG = np.random.default_rng(0)


class Means(nn.Module):
    """Mean, extremes and corner of each channel: simple enough to know by heart."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), x[:, :, 0, 0]], dim=1)


class Doubtful(nn.Module):
    """Dropout that no evaluation mode can reach."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.dropout(x.flatten(1), 0.5, True)


class Logits(nn.Module):
    """A classifier's module that gives its features when told to, as maps."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return x[:, :, :2, :2] if return_features else x.flatten(1)[:, :5]


def saved(path: Path, module: nn.Module) -> Path:
    torch.jit.script(module.train()).save(str(path))
    return path


@pytest.fixture
def images() -> np.ndarray:
    return RNG.integers(0, 256, (30, 12, 10, 3)).astype(np.uint8)


def wish(tmp_path: Path, images: np.ndarray, **options: object) -> Wish:
    np.save(tmp_path / "x.npy", images)
    return Wish(load(str(tmp_path / "x.npy")).transform, **options)  # type: ignore[arg-type]


def test_pixels_are_model_units(tmp_path: Path, images: np.ndarray) -> None:
    found = extract(FEATURES["pixels"](wish(tmp_path, images)), images)
    assert np.allclose(found, images.transpose(0, 3, 1, 2).reshape(30, -1) / 127.5 - 1, atol=1e-6)


def test_a_module_sees_the_values_of_a_picture_file(tmp_path: Path, images: np.ndarray) -> None:
    features = FEATURES["script"](wish(tmp_path, images, file=saved(tmp_path / "m.pt", Means())))
    found = extract(features, images)
    planes = images.transpose(0, 3, 1, 2).astype(np.float64)
    expected = np.concatenate([planes.mean((2, 3)), planes.max((2, 3)), planes[:, :, 0, 0]], axis=1)
    assert np.allclose(found, expected, rtol=1e-6)
    assert features.facts["sha256"] == hashlib.sha256((tmp_path / "m.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [None, (7, 7), (20, 30)])
def test_features_of_pngs_are_those_in_memory(tmp_path: Path, images: np.ndarray, size: tuple[int, int] | None) -> None:
    file = saved(tmp_path / "m.pt", Means())
    (tmp_path / "pngs").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pngs" / f"{i:03}.png")
    folder = load(str(tmp_path / "pngs"), split="train")
    features = FEATURES["script"](wish(tmp_path, images, file=file, size=size))
    memory = extract(features, images)
    order = np.random.default_rng(0).permutation(30)[:27]
    assert np.array_equal(extract(features, folder.raw(range(27))), memory[order])


def test_grey_levels_fill_the_range_and_are_repeated() -> None:
    """17 levels of a digit become 0 to 255, as its PNG has them, in three channels."""
    data = load("digits")
    seen = pictures(data.raw([0, 1]), data.transform, None)
    assert seen.shape == (2, 3, 8, 8)
    assert torch.equal(seen[:, 0], seen[:, 2])
    expected = np.round(data.raw([0, 1]).astype(np.float64) * 255 / 16)
    assert np.array_equal(seen[:, 1].numpy(), expected)


def test_what_is_no_image_of_levels_is_refused(tmp_path: Path) -> None:
    x = RNG.normal(size=(20, 3, 4, 4)).astype(np.float32)
    np.save(tmp_path / "f.npy", x)
    transform = load(str(tmp_path / "f.npy")).transform
    with pytest.raises(ValueError, match=r"\(3, 4, 4\) are continuous; allowed: --features pixels"):
        FEATURES["script"](Wish(transform, file=saved(tmp_path / "m.pt", Means())))


def test_resize_is_the_library_s_and_is_named(tmp_path: Path) -> None:
    flat = np.full((4, 12, 10, 3), 200, np.uint8)
    features = FEATURES["script"](wish(tmp_path, flat, file=saved(tmp_path / "m.pt", Means()), size=(5, 5)))
    assert np.allclose(extract(features, flat), 200)
    assert features.facts["resize"] == "5x5 bicubic, antialiased, rounded to uint8"


def test_features_before_the_logits_and_maps_are_averaged(tmp_path: Path, images: np.ndarray) -> None:
    features = FEATURES["script"](wish(tmp_path, images, file=saved(tmp_path / "m.pt", Logits())))
    expected = images[:, :2, :2].astype(np.float64).mean((1, 2))
    assert np.allclose(extract(features, images), expected, rtol=1e-6)


def test_a_module_that_answers_twice_differently_is_refused(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="differ between two calls"):
        FEATURES["script"](wish(tmp_path, images, file=saved(tmp_path / "d.pt", Doubtful())))


class WithDropout(nn.Module):
    """Saved in training mode: `eval` must reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(x).flatten(1))


def test_a_module_saved_in_training_mode_is_evaluated(tmp_path: Path, images: np.ndarray) -> None:
    features = FEATURES["script"](wish(tmp_path, images, file=saved(tmp_path / "t.pt", WithDropout())))
    whole = extract(features, images)
    assert np.array_equal(whole[:4], features.of(images[:4])), "no statistics of the batch"
    assert (whole != 0).mean() > 0.9, "nothing dropped"


def test_files_that_are_no_modules_are_one_line(tmp_path: Path, images: np.ndarray) -> None:
    whole = saved(tmp_path / "m.pt", Means()).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_bytes(b"not a module")
    torch.save({"a": torch.ones(2)}, tmp_path / "pickle.pt")
    for name in ("cut.pt", "text.pt", "pickle.pt"):
        with pytest.raises(ValueError, match=f"{name} is no TorchScript module") as caught:
            FEATURES["script"](wish(tmp_path, images, file=tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such file"):
        FEATURES["script"](wish(tmp_path, images, file=tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="needs a module"):
        FEATURES["script"](wish(tmp_path, images))


def test_the_classifier_tells_digits_and_is_the_same_every_time() -> None:
    train, heldout = load("digits"), load("digits", split="test")
    asked = Wish(train.transform, train=train, heldout=heldout)
    torch.manual_seed(1)
    first = FEATURES["classifier"](asked)
    torch.manual_seed(2)
    second = FEATURES["classifier"](asked)
    assert first.facts == second.facts
    assert first.facts["heldout_accuracy"] > 0.95
    raw = heldout.raw(range(100))
    found = extract(first, raw)
    assert np.array_equal(found, extract(second, raw))
    assert found.shape == (100, 64)
    seen = extract(first, train.raw(range(len(train))))
    assert np.allclose(seen.mean(0), 0, atol=1e-4)
    assert np.allclose(seen.std(0), 1, atol=1e-3)
    with pytest.raises(ValueError, match="needs labels of two classes"):
        FEATURES["classifier"](Wish(train.transform, train=train.conditioned_on(())))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_inception_is_fetched_once_checked_and_cached(
    served: tuple[Path, str], tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    whole = saved(folder / "net.pt", Logits()).read_bytes()
    remote = fetch.Remote("net.pt", f"{address}/net.pt", hashlib.sha256(whole).hexdigest())
    cache = tmp_path / "cache" / "deep"
    monkeypatch.setenv("LOGSNR_CACHE", str(cache))
    monkeypatch.setitem(inception.__globals__, "WEIGHTS", remote)
    features = FEATURES["inception"](wish(tmp_path, images))
    assert features.facts["published_weights"] is True
    assert features.facts["as_published"] is True
    assert FEATURES["inception"](wish(tmp_path, images, size=(9, 9))).facts["as_published"] is False
    assert features.facts["sha256"] == remote.sha256
    assert [path.name for path in cache.iterdir()] == ["net.pt"]
    (folder / "net.pt").unlink()
    again = FEATURES["inception"](wish(tmp_path, images))
    assert np.array_equal(extract(again, images), extract(features, images)), "from the cache alone"
    (cache / "net.pt").write_bytes(whole[:-100])
    with pytest.raises(OSError, match="is damaged and cannot be fetched from .*--feature-file PATH") as caught:
        FEATURES["inception"](wish(tmp_path, images))
    assert "\n" not in str(caught.value)
    (folder / "net.pt").write_bytes(whole)
    FEATURES["inception"](wish(tmp_path, images))
    assert (cache / "net.pt").read_bytes() == whole, "a damaged file is fetched again"
    other = FEATURES["inception"](wish(tmp_path, images, file=saved(tmp_path / "own.pt", Means())))
    assert other.facts["published_weights"] is False


def test_what_comes_with_another_checksum_is_not_kept(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "net.pt").write_bytes(b"cut sh")
    monkeypatch.setenv("LOGSNR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="has SHA-256 .* cut short or changed; not used"):
        fetch.cached(fetch.Remote("net.pt", f"{address}/net.pt", "0" * 64))
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setenv("LOGSNR_CACHE", str(folder / "net.pt"))
    with pytest.raises(OSError, match="LOGSNR_CACHE names another"):
        fetch.cached(fetch.Remote("net.pt", f"{address}/net.pt", "0" * 64))


def test_without_a_network_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGSNR_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="is not there and cannot be fetched.*put the file there, or give --feature-file"):
        fetch.cached(fetch.Remote("net.pt", "http://127.0.0.1:9/net.pt", "0" * 64))
    assert fetch.cache() == tmp_path
    monkeypatch.delenv("LOGSNR_CACHE")
    assert fetch.cache() == Path.home() / ".cache" / "logsnr"
