"""Nearest neighbours: digits of distances, the four figures against brute force, and what counts as memorised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from logsnr.metrics import METRICS, neighbours
from logsnr.metrics.memorisation import train_gap
from logsnr.metrics.neighbours import distance_blocks, nearest
from tests.metrics.conftest import comparison

RNG = np.random.default_rng(0)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.concatenate([block for _, block in distance_blocks(x, y)])


def test_distances_keep_their_digits() -> None:
    """Far from the origin, equal examples are at exactly 0 and near ones have the digits of the difference."""
    x = RNG.normal(size=(60, 10)) + 1000
    y = np.concatenate([x[::2], x[1::2] + 1e-4, RNG.normal(size=(20, 10)) + 1000])
    found, expected = distances(x, y), cdist(x, y)
    assert (found[::2][np.eye(30, 80, dtype=bool)] == 0).all()
    assert np.allclose(found, expected, rtol=1e-7, atol=0)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = RNG.normal(size=(50, 4)), RNG.normal(size=(70, 4))
    whole = METRICS["prdc"](comparison(x, y)).figures
    near = nearest(x, y, 3)
    monkeypatch.setattr(neighbours, "CHUNK_NUMBERS", 200)
    assert len(list(distance_blocks(x, y))) == 25
    assert np.allclose(nearest(x, y, 3), near, rtol=1e-12)
    assert METRICS["prdc"](comparison(x, y)).figures == whole


def test_precision_recall_density_and_coverage_by_brute_force() -> None:
    x, y = RNG.normal(size=(80, 2)) + 1.2, RNG.normal(size=(120, 2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    cross, reals, fakes = cdist(x, y), np.sort(cdist(y, y), axis=1), np.sort(cdist(x, x), axis=1)
    expected = {
        "precision": (cross <= reals[:, 3]).any(1).mean(),
        "recall": (fakes[:, 3] >= cross.T).any(1).mean(),
        "density": (cross <= reals[:, 5]).sum() / (5 * 80),
        "coverage": (cross <= reals[:, 5]).any(0).mean(),
    }
    found = METRICS["prdc"](comparison(x, y, bootstrap=100)).figures
    assert (cross <= reals[:, 5]).any(1).mean() > expected["precision"], "k matters here"
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-12), name
        interval = found[name].interval
        assert interval is not None
        assert interval[0] < value < interval[1]
    assert found["precision"].standard_error == pytest.approx(
        np.sqrt(expected["precision"] * (1 - expected["precision"]) / 80)
    )


def test_a_copy_of_the_set_is_in_every_ball_that_its_examples_are_on_the_edge_of() -> None:
    """Ties: with x = y every real example has itself and its k neighbours in its ball."""
    x = RNG.normal(size=(200, 30)) + 30
    found = METRICS["prdc"](comparison(x, x)).figures
    assert found["density"].value == pytest.approx(6 / 5, rel=1e-12)
    assert (found["precision"].value, found["recall"].value, found["coverage"].value) == (1, 1, 1)
    # radii with other roundings: by differences in place of the product
    x = x.astype(np.float32).astype(np.float64)
    balls = neighbours.Neighbourhoods(x, np.sort(cdist(x, x), axis=1)[:, 5], 5)
    assert balls.density_coverage(x) == (pytest.approx(6 / 5, rel=1e-12), 1)


def law(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6))


def test_copies_and_duplicates_are_found() -> None:
    train, heldout = law(400, 1), law(200, 2)
    samples = law(100, 3)
    samples[:30] = train[:30]
    samples[40:50] = samples[50:60]
    samples[60:70] = train[60:70] + 1e-3
    samples[70:80] = samples[80:90] - 1e-3
    found = METRICS["memorisation"](comparison(samples, train, train=train, heldout=heldout))
    figures, facts = found.figures, found.facts
    assert (facts["exact_copies"], facts["exact_duplicates"]) == (30, 20)
    assert 0.40 <= figures["copies"].value < 0.46
    assert 0.40 <= figures["duplicates"].value < 0.46
    assert figures["train_gap"].value > 0.1
    assert facts["p_value"] < 0.01


def test_fresh_samples_are_not_memorised() -> None:
    train, heldout = law(1000, 1), law(400, 2)
    found = METRICS["memorisation"](comparison(law(500, 3), train, train=train, heldout=heldout))
    assert found.figures["nearest_ratio"].value == pytest.approx(1, abs=0.05)
    assert found.figures["copies"].value == pytest.approx(0.01, abs=0.015)
    assert found.facts["exact_copies"] == 0
    assert found.facts["p_value"] > 0.01


def test_the_p_value_of_the_gap_is_uniform_for_splits_dealt_by_chance() -> None:
    """Also where the samples sit on a few points, so that their nearest neighbours are few and the same."""
    values = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        train, heldout = rng.normal(size=(60, 2)), rng.normal(size=(30, 2))
        samples = rng.normal(size=(12, 2)).repeat(10, axis=0) + 0.2 * rng.normal(size=(120, 2))
        found = METRICS["memorisation"](comparison(samples, train, train=train, heldout=heldout))
        values.append(found.facts["p_value"])
    assert kstest(values, "uniform").pvalue > 0.01


def test_the_gap_s_deviation_is_that_of_all_deals() -> None:
    """Every way to call two of four real examples "train", for samples that have them 5, 3, 1, 1 times as nearest."""
    counts = np.array([5, 3, 1, 1])
    shares = [counts[[i, j]].sum() / 10 for i in range(4) for j in range(i)]
    place = np.repeat([0, 1], [5, 3])
    difference = np.concatenate([np.full(8, -1.0), np.full(2, 1.0)])
    figure, p_value = train_gap(difference, np.concatenate([place, [0, 0]]), np.array([0] * 8 + [0, 1]), (2, 2), seed=0)
    assert figure.value == pytest.approx(0.8 - 0.5)
    assert figure.standard_error == pytest.approx(np.std(shares))
    assert 0 < p_value < 0.1


def test_memorisation_needs_two_splits() -> None:
    with pytest.raises(ValueError, match="needs examples of a train and of a held-out split"):
        METRICS["memorisation"](comparison(law(9, 0), law(9, 1)))
