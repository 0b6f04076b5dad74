"""Improved DDPM through the verbs: a doubled output, respacing as text, importance-sampled t that survives a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import logsnr as library
from logsnr.cli import main
from logsnr.config import resolve
from logsnr.data import load as load_data
from logsnr.metrics.digits import check_digits
from logsnr.run import edit
from logsnr.train import checkpoint
from tests.run.conftest import TINY, records, weights
from tests.run.test_errors import one_line

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("iddpm") / "run"
    assert main(["train", "iddpm", "--out", str(out), "--steps", "4", "--lr", "0.02", *TINY]) == 0
    return out


def test_a_learned_variance_doubles_the_output_and_is_read(run: Path) -> None:
    trained = library.load(run)
    assert trained.model.spread
    assert json.loads(next(run.glob("checkpoints/*/state.json")).read_text())["network"]["out_channels"] == 2
    level, x = trained.model.path.at(0.5), torch.ones(trained.width, 1, 8, 8)
    spread = trained.model(x, level).spread
    assert spread is not None
    assert spread.shape == x.shape
    assert spread.abs().max() > 0, "it has learned"
    assert {"matching", "vlb"} <= records(run)[-1]["parts"].keys()
    samples = [trained.sample(3, steps=6, variance=name) for name in ("learned_range", "small", "large")]
    assert not np.array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])
    assert np.array_equal(samples[0], trained.sample(3, steps=6)), "the run's own variance unless told otherwise"


def test_the_bound_reads_the_learned_variance(run: Path) -> None:
    trained = library.load(run)
    parts = trained.bound_nats(load_data("digits", split="test"))
    assert parts["total"].isfinite().all()
    assert trained.bound().rule.rule.spread


def test_an_edit_begins_where_the_signal_has_a_part(run: Path) -> None:
    """Unclipped, a step from log-SNR −20 would multiply the network's errors by hundreds."""
    trained = library.load(run)
    recipe = trained.edit_recipe(100)
    assert 11 < float(recipe.grid[0].gamma) <= 12 < float(trained.model.path.highest.gamma)
    assert recipe.grid[-1].is_clean
    assert float(recipe.grid.gamma[:-1].diff().abs().max()) < 2
    assert len(trained.edit_recipe(1).grid) == 2
    raw = load_data("digits", split="test").raw(range(2))
    assert np.array_equal(trained.decode(trained.encode(raw)), raw)
    latents = edit.random_latents(recipe, torch.arange(200))
    assert float(latents.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("steps", "count"), [("6", 6), ("2,3,4", 9), ("ddim8", 8)])
def test_respacing_is_accepted_as_text(logsnr: Verb, run: Path, tmp_path: Path, steps: str, count: int) -> None:
    words = ("sample", run, "--steps", steps, "--n", "2", "--out", tmp_path, "--json", "--trajectory")
    status, out, err = logsnr(*words)
    assert status == 0, err
    assert json.loads(out)["steps"] == count
    assert np.array_equal(
        np.load(tmp_path / "samples.npz")["images"],
        library.load(run).sample(2, steps=int(steps) if steps.isdigit() else steps),
    )


def test_respacing_in_a_configuration(logsnr: Verb, tmp_path: Path) -> None:
    words = ("train", "iddpm", "--out", tmp_path / "run", "--steps", "2", "--preview-every", "1", *TINY)
    status, _, err = logsnr(*words, "--set", "sample.steps=2,3")
    assert status == 0, err
    assert library.load(tmp_path / "run").config.sample.steps == "2,3"
    assert len(library.load(tmp_path / "run").recipe().grid) == 6
    assert logsnr("explain", "iddpm", "--set", "sample.steps=ddim20", "--json", "--out", tmp_path / "e.png")[0] == 0
    assert resolve("iddpm", [{"sample": {"steps": "25"}}]).sample.steps == 25
    dry = logsnr("train", "iddpm", "--out", tmp_path / "no", "--dry-run", "--json", "--set", "sample.steps=2,3", *TINY)
    assert json.loads(dry[1])["config"]["sample"]["steps"] == "2,3"


def test_history_of_the_losses_survives_a_resume(tmp_path: Path) -> None:
    law = "objective.times={name: loss_second_moment, history_per_term: 2}"
    words = ["train", "iddpm", *TINY, "--set", "objective.loss=vlb", "--set", law, "--checkpoint-every", "1"]
    words += ["--set", "schedule.num_diffusion_steps=4", "--set", "sample.steps=3"]
    assert main([*words, "--out", str(tmp_path / "whole"), "--steps", "6"]) == 0
    for steps in ("3", "6"):
        assert main([*words, "--out", str(tmp_path / "halves"), "--steps", steps]) == 0
    assert weights(tmp_path / "whole") == weights(tmp_path / "halves")
    assert records(tmp_path / "whole") == records(tmp_path / "halves")
    newest = checkpoint.latest(tmp_path / "whole" / "checkpoints")
    assert newest is not None
    saved = checkpoint.load(newest).tensors["task"]
    assert {name.rpartition(".")[2] for name in saved} == {"history", "seen"}
    seen = next(tensor for name, tensor in saved.items() if name.endswith("seen"))
    assert int(seen.sum()) == 6 * 8


@pytest.mark.parametrize(
    ("words", "culprits"),
    [
        (("ddpm", "--set", "objective.loss=hybrid"), ("hybrid", "'large'", "learned_range")),
        (("iddpm", "--set", "objective.loss=matching"), ("matching", "learned_range", "vlb")),
        (("iddpm", "--set", "objective.loss.vlb_weight=-1"), ("vlb_weight",)),
        (("ddpm", "--set", "sample.sampler={name: ancestral, variance: learned_range}"), ("spread channel", "small")),
        (("ddpm", "--set", "variance=learned"), ("'learned'", "learned_range")),
        (("ddpm", "--set", "sample.steps=ddim"), ("ddim", "10,15,20")),
        (("ddpm", "--set", "sample.steps=0"), ("sample.steps",)),
        (("ddpm", "--set", "objective.weight={name: ddim, eta: 0}"), ("eta = 0", "above 0")),
        (("ddpm", "--set", "objective.weight={name: table, values: []}"), ("values", "list")),
    ],
)
def test_wrong_combinations_are_one_line(
    logsnr: Verb, tmp_path: Path, words: tuple[str, ...], culprits: tuple[str, ...]
) -> None:
    one_line(logsnr("train", *words, "--out", tmp_path / "run"), *culprits)
    assert not (tmp_path / "run").exists()


def test_a_model_without_spread_has_no_learned_variance(digits_run: Path) -> None:
    with pytest.raises(ValueError, match="'learned_range' of sampler 'ancestral' needs a model with a spread channel"):
        library.load(digits_run).sample(1, sampler="ancestral", steps=3, variance="learned_range")


@pytest.mark.slow
def test_two_minutes_on_digits(tmp_path: Path) -> None:
    assert main(["train", "iddpm", "--data", "digits", "--out", str(tmp_path), "--minutes", "2", "--quiet"]) == 0
    check = check_digits(library.load(tmp_path).sample(500))
    assert check.passes(0.6, 0.7, 1.5), check
