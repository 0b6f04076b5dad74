"""The digits check knows digits from what only looks like their statistics, and its parts are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg

from logsnr.cli import main
from logsnr.data import load
from logsnr.metrics import Neighbourhoods, check_digits, frechet_distance
from logsnr.metrics.neighbours import copies

TRAIN, HELDOUT = (data.raw(range(len(data))) for data in (load("digits"), load("digits", split="test")))
RNG = np.random.default_rng(0)


def test_frechet_is_the_formula_with_a_matrix_square_root() -> None:
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(70, 4)) @ RNG.normal(size=(4, 4)) + 1
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert 0 <= frechet_distance(x, x) + 1e-12 < 1e-9
    shifted = frechet_distance(x[:, :1], x[:, :1] + 3)
    assert shifted == pytest.approx(9.0), "one dimension: the mean alone"


def test_density_and_coverage_by_hand() -> None:
    """Reals at 0, 1, 10 with k = 1: balls of radius 1, 1 and 9."""
    balls = Neighbourhoods.of(np.array([[0.0], [1.0], [10.0]]), k=1)
    assert balls.radii.tolist() == [1.0, 1.0, 9.0]
    # 0.5 is in the first two balls, 2.5 in the third alone, 100 in none: 3 hits of 3 samples
    assert balls.density_coverage(np.array([[0.5], [2.5], [100.0]])) == (1.0, 1.0)
    assert balls.density_coverage(np.array([[2.5]])) == (1.0, pytest.approx(1 / 3))


def test_copies_are_what_lies_nearer_than_held_out_examples_do() -> None:
    train, heldout = np.arange(10.0).reshape(-1, 1), np.arange(10.0).reshape(-1, 1) + 0.3
    assert copies(np.array([[2.0], [2.29], [2.45]]), train, heldout) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("images", "density", "coverage", "frechet"),
    [
        (HELDOUT, 1.0, 1.0, 1.0),
        # a Gaussian with the data's moments, and averages of two digits: the scale that the check was set by
        (RNG.multivariate_normal(TRAIN.reshape(1300, -1).mean(0), np.cov(TRAIN.reshape(1300, -1).T), 500)
         .clip(0, 16).round().reshape(-1, 8, 8), 0.12, 0.15, 2.5),
        (TRAIN[RNG.integers(0, 1300, (2, 500))].mean(0), 0.71, 0.70, 4.7),
    ],
)  # fmt: skip
def test_the_scale_of_the_digits_check(images: np.ndarray, density: float, coverage: float, frechet: float) -> None:
    check = check_digits(images)
    assert check.density == pytest.approx(density, abs=0.04)
    assert check.coverage == pytest.approx(coverage, abs=0.04)
    assert check.frechet == pytest.approx(frechet, rel=0.08)
    assert check.passes(0.8, 0.85, 1.2) == (density == 1.0)


def test_training_digits_are_found_out_as_copies() -> None:
    check = check_digits(TRAIN[:200])
    assert check.copies == 1.0
    assert not check.passes(0.8, 0.85, 1.2)


def test_a_little_training_brings_samples_nearer_to_digits(tmp_path: Path) -> None:
    """The demo in small: the whole road from data to the check, half a minute instead of three."""
    words = ["train", "ddpm", "--out", str(tmp_path), "--network", "tiny", "--batch-size", "64", "--quiet"]
    sample = ["sample", str(tmp_path), "--n", "150", "--steps", "20", "--quiet"]
    checks = []
    for steps in ("1", "150"):
        assert main([*words, "--steps", steps, "--preview-every", "0", "--set", "train.warmup_steps=20"]) == 0
        assert main(sample) == 0
        checks.append(check_digits(np.load(tmp_path / "samples" / "samples.npz")["images"]))
    assert checks[0].density < 0.01
    assert checks[1].frechet < 0.25 * checks[0].frechet


def test_images_of_another_shape_are_refused() -> None:
    refuse: Callable[..., object] = check_digits
    with pytest.raises(ValueError, match=r"\(2, 28, 28\); allowed"):
        refuse(np.zeros((2, 28, 28)))
