"""NCSN and NCSNv2 through the verbs: train, sample with and without the last denoising step, explain the data."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from logsnr.data import load as load_data
from logsnr.families import FAMILIES
from logsnr.run import load
from logsnr.techniques import geometric_ratio, level_count, relative_step

Verb = Callable[..., tuple[int, str, str]]
SHORT = ["--steps", "3", "--batch-size", "8", "--network", "tiny", "--quiet"]
FEW = ["--set", "sample.sampler.n_steps=2", "--set", "sample.width=4"]


@pytest.mark.parametrize(
    ("recipe", "extra"),
    [
        ("ncsn", []),
        ("ncsnv2", ["--set", "objective.loss=sliced"]),
        ("ncsn", ["--set", "network.output=energy"]),
    ],
)
def test_recipes_train_and_sample(logsnr: Verb, tmp_path: Path, recipe: str, extra: list[str]) -> None:
    run = tmp_path / "run"
    watch = ["--set", "train.holdout_every=2", "--preview-every", "3"]
    status, _, err = logsnr("train", recipe, "--out", run, *SHORT, *FEW, *watch, *extra)
    assert status == 0, err
    levels = FAMILIES[recipe]()["schedule"]["num_diffusion_steps"]
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert np.isfinite(records[1]["holdout_loss"])
    assert list((run / "previews").glob("*.png"))
    for end, evaluations, steps in (("clean", 2 * levels + 1, levels), ("lowest", 2 * levels, levels - 1)):
        words = ["--end", end, "--steps", str(steps), "--n", "3", "--out", tmp_path / end]
        status, out, err = logsnr("sample", run, *words, "--json")
        assert status == 0, err
        manifest = json.loads(out)
        assert manifest["end"] == end
        assert manifest["evaluations_per_example"] == evaluations
        assert manifest["sampler"] == "annealed_langevin"
    first, last = (np.load(tmp_path / end / "samples.npz")["images"] for end in ("clean", "lowest"))
    assert first.shape == last.shape == (3, 8, 8)


def test_the_last_step_is_the_tweedie_denoising_of_the_chain_without_it(logsnr: Verb, tmp_path: Path) -> None:
    """x̂0 = x + σ_L² ŝ(x, σ_L), from the very same chain."""
    run = tmp_path / "run"
    assert logsnr("train", "ncsn", "--out", run, *SHORT, *FEW)[0] == 0
    trained, index = load(run), torch.arange(4)
    for i, parameter in enumerate(trained.model.parameters()):  # a score that is not the zero it starts from
        parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(i))
    clean = trained.sample_x0(index, recipe=trained.recipe())
    chain = trained.sample_x0(index, recipe=trained.recipe(steps=9, end="lowest"))
    level = trained.model.path.lowest
    padded = torch.cat([chain, chain[-1:].expand(trained.width - 4, *chain.shape[1:])])
    with torch.inference_mode():
        denoised = padded + float(level.sigma) ** 2 * trained.model(padded, level).score
    assert torch.allclose(clean, denoised[:4], atol=3e-6)
    assert (clean - chain).abs().max() > 1e-4


def test_explain_computes_the_choices_from_the_data_and_its_line_is_taken(logsnr: Verb, tmp_path: Path) -> None:
    status, out, _ = logsnr("explain", "ncsnv2", "--data", "digits", "--json")
    found = json.loads(out)
    assert status == 0
    data = load_data("digits")
    x = data.batch(range(len(data)))[0].flatten(1).double()
    distance = float(torch.cdist(x, x).max())
    assert found["largest_distance"] == pytest.approx(distance, rel=1e-9)
    assert (found["pairs_compared"], found["all_pairs"]) == (1300 * 1299 // 2, True)
    levels = level_count(found["sigma_first"], distance, geometric_ratio(64))
    ratio = (distance / found["sigma_first"]) ** (1 / (levels - 1))
    assert found["levels"] == levels
    assert found["overlap_of_neighbouring_sigmas"] > 0.5
    step = relative_step(ratio, 5) * found["sigma_first"] ** 2
    assert found["langevin_step_size"] == pytest.approx(step, rel=1e-3)
    assert found["langevin_step_size_in_ncsn_convention"] == 2 * found["langevin_step_size"]
    words = ["train", "ncsnv2", "--out", tmp_path / "run", "--dry-run", "--json", "--network", "tiny"]
    status, out, err = logsnr(*words, *shlex.split(found["set"]))
    assert status == 0, err
    config = json.loads(out)["config"]
    assert config["schedule"]["sigma_max"] == pytest.approx(distance, rel=1e-3)
    assert config["schedule"]["num_diffusion_steps"] == config["sample"]["steps"] == levels
    assert config["sample"]["sampler"]["step_size"] == pytest.approx(step, rel=1e-3)


def test_the_recipe_s_own_numbers_are_the_techniques_for_digits(logsnr: Verb) -> None:
    found = json.loads(logsnr("explain", "ncsnv2", "--data", "digits", "--json")[1])
    recipe = FAMILIES["ncsnv2"]()
    assert recipe["schedule"]["sigma_max"] == pytest.approx(found["largest_distance"], rel=0.01)
    assert recipe["schedule"]["num_diffusion_steps"] == recipe["sample"]["steps"] == found["levels"]
    assert recipe["sample"]["sampler"]["n_steps"] == found["langevin_steps_per_level"]
    step = recipe["sample"]["sampler"]["step_size"]
    assert step == pytest.approx(1.28 * found["langevin_step_size"], rel=0.01)
    # relaxation times ε T/σ_L² over an e-fold of σ: CIFAR-10's in the paper, ours, and explain's
    efolds = math.log(recipe["schedule"]["sigma_max"] / 0.02)
    ours = step / 0.02**2 * 5 * (found["levels"] - 1) / efolds
    assert found["langevin_relaxation_times_per_e_fold"] == pytest.approx(ours / 1.28, rel=0.01)
    assert 0.58 < ours / (6.2e-6 / 0.01**2 * 5 * 231 / math.log(5000)) < 0.63


def test_explain_says_so_where_a_recipe_has_no_place_for_the_numbers(logsnr: Verb) -> None:
    plane = json.loads(logsnr("explain", "ncsnv2", "--data", "toy:two", "--json")[1])
    assert plane["ratio_of_neighbouring_sigmas"] <= 2
    assert "ncsn, ncsnv2" in json.loads(logsnr("explain", "ddpm", "--data", "digits", "--json")[1])["set"]


@pytest.mark.parametrize(
    ("setting", "culprit"),
    [
        ("sample.sampler.step_size=1.0", "below twice that σ²"),
        ("sample.sampler.n_steps=0", "n_steps = 0"),
        ("objective.loss={name: sliced, projections: cube}", "rademacher, gaussian, sphere"),
        ("network.output=enrgy", "known: energy"),
        ("schedule.spacing=cubic", "geometric, uniform"),
        ("schedule.num_diffusion_steps=1", "at least 2"),
        ("label=nothing", "none"),
    ],
)
def test_what_cannot_be_is_one_line(logsnr: Verb, tmp_path: Path, setting: str, culprit: str) -> None:
    status, _, err = logsnr("train", "ncsn", "--out", tmp_path / "run", *SHORT, "--set", setting)
    assert status == 2
    assert culprit in err
    assert len(err.strip().splitlines()) == 1
