"""EDM and flow matching through the verbs: training, sampling from both kinds of prior, figures at infinite levels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import logsnr as library
from logsnr.cli import main
from tests.run.conftest import TINY, records

Verb = Callable[..., tuple[int, str, str]]
RECIPES = ["edm", "flow"]


@pytest.fixture(scope="module", params=RECIPES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param) / "run"
    assert main(["train", request.param, "--out", str(out), "--steps", "5", "--lr", "0.02", *TINY]) == 0
    return out


def test_a_few_steps_train_and_sample(run: Path) -> None:
    assert all(math.isfinite(record["loss"]) for record in records(run) if "loss" in record)
    trained = library.load(run)
    own = trained.sample(3)
    assert own.shape[0] == 3
    for sampler in ("euler", "heun", "multistep", "dpmpp_2m", "euler_ancestral", "auto"):
        images = trained.sample(3, sampler=sampler, steps=6)
        assert images.shape == own.shape, sampler
        assert np.isfinite(np.asarray(images, dtype=np.float64)).all(), sampler


def test_a_sample_costs_at_most_fifty_evaluations(run: Path, logsnr: Verb) -> None:
    status, _, _ = logsnr("sample", run, "--n", "2", "--json")
    assert status == 0
    manifest = json.loads((run / "samples" / "manifest.json").read_text())
    assert manifest["evaluations_per_example"] == 50


@pytest.mark.parametrize("recipe", RECIPES)
def test_figures_at_infinite_levels_are_drawn_and_are_json(recipe: str, logsnr: Verb, tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    status, out, _ = logsnr("explain", recipe, "--json", "--out", tmp_path / "curves.png")
    assert status == 0
    figures = json.loads(out, parse_constant=refuse)
    assert figures["log_snr_last"] == (None if recipe == "flow" else pytest.approx(-2 * math.log(80.0)))
    assert (tmp_path / "curves.png").stat().st_size > 10_000
