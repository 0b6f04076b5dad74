"""The vdm recipe through the verbs: a learned γ is trained, saved, averaged, resumed and sampled from like the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from logsnr.cli import main
from logsnr.data import load as load_data
from logsnr.run import load
from logsnr.samplers import prior, seeded, simulate
from tests.run.conftest import records, weights

Verb = Callable[..., tuple[int, str, str]]
TINY = (
    "--network", "vdm-tiny", "--batch-size", "8", "--threads", "1", "--quiet", "--checkpoint-every", "4",
    "--set", "network.channels=8", "--set", "train.holdout_every=4", "--set", "train.warmup_steps=2", "--lr", "0.01",
)  # fmt: skip


def command(out: Path, steps: int, *more: str) -> list[str]:
    return ["train", "vdm", "--out", str(out), "--steps", str(steps), "--preview-every", "5", *TINY, *more]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vdm") / "run"
    assert main(command(out, 8)) == 0
    return out


def test_what_follows_from_the_data_is_in_the_record(run: Path) -> None:
    config = yaml.safe_load((run / "run.yaml").read_text())
    assert config["schedule"]["levels"] == 17
    state = json.loads((max((run / "checkpoints").glob("step-*")) / "state.json").read_text())
    assert state["network"]["fourier"] == [3, 4]
    parts = records(run)[-1]["parts"]
    assert sum(parts.values()) == pytest.approx(records(run)[-1]["loss"], rel=1e-5)
    assert parts.keys() == {"prior", "reconstruction", "diffusion"}
    assert (run / "previews" / "step-00000005.png").is_file()


def test_gamma_moves_and_is_averaged(run: Path) -> None:
    newest = max((run / "checkpoints").glob("step-*"))
    raw, average = (load_file(newest / f"{group}.safetensors") for group in ("model", "ema"))
    names = [name for name in raw if name.startswith("path.schedule.")]
    assert len(names) == 5
    fresh = load(run, weights="raw").model.path.schedule
    start = type(fresh)(None, levels=17)
    assert float(fresh(torch.zeros(()).double())) != float(start(torch.zeros(()).double()).detach())
    assert all(not np.array_equal(raw[name], average[name]) for name in names)


def test_two_halves_are_the_whole(logsnr: Verb, tmp_path: Path, run: Path) -> None:
    assert logsnr(*command(tmp_path / "run", 3))[0] == 0
    assert logsnr(*command(tmp_path / "run", 8))[0] == 0
    assert weights(tmp_path / "run") == weights(run)
    assert records(tmp_path / "run") == records(run)


@pytest.mark.parametrize("sampler", [("--sampler", "ddim"), ("--sampler", "ancestral"), ("--spacing", "uniform")])
def test_the_chain_ends_at_the_lowest_level_and_is_decoded_in_units_of_the_data(
    logsnr: Verb, tmp_path: Path, run: Path, sampler: tuple[str, str]
) -> None:
    words = ["sample", run, "--n", 3, "--steps", 6, "--out", tmp_path, "--float", "--threads", 1, *sampler, "--quiet"]
    assert logsnr(*words)[0] == 0
    trained = load(run, threads=1)
    recipe = trained.recipe(steps=6, **{sampler[0][2:]: sampler[1]})
    assert len(recipe.grid) == 7
    noise = seeded(0, torch.arange(recipe.width), torch.empty(recipe.width, 1, 8, 8))
    with torch.inference_mode():
        start = prior(recipe.path, noise)
        *_, end = simulate(recipe.sampler, trained.clipped, start, recipe.grid, noise=noise)
    x = end.x[:3] / end.level.alpha.float()
    assert float(end.level.gamma) == float(trained.model.path.lowest.gamma)
    with np.load(tmp_path / "samples.npz") as samples:
        assert np.allclose(samples["x"], x.numpy(), atol=1e-6)
        assert np.array_equal(samples["images"], trained.transform.decode(x))


def test_the_bound_of_a_run_is_its_loss(run: Path) -> None:
    data = load_data("digits", split="test")
    found = load(run, threads=1).bound_nats(data)
    assert found.keys() == {"prior", "reconstruction", "diffusion", "total"}
    assert torch.allclose(found["total"], found["prior"] + found["reconstruction"] + found["diffusion"])
    bits = float(found["total"].mean()) / (64 * np.log(2))
    assert bits == pytest.approx(records(run)[-1]["holdout_loss"], rel=0.2)


def test_explain_and_other_choices(logsnr: Verb, tmp_path: Path) -> None:
    status, out, _ = logsnr("explain", "vdm", "--json", "--out", tmp_path / "vdm.png")
    assert status == 0
    assert json.loads(out)["log_snr_first"] == pytest.approx(13.3)
    assert (tmp_path / "vdm.png").is_file()
    choices = ["objective.loss={name: vdm, steps: 10}", "schedule={name: learned_linear, gamma_min: -6}", "target=v"]
    words = [word for choice in choices for word in ("--set", choice)]
    assert main(command(tmp_path / "run", 2, *words)) == 0
    status, _, error = logsnr(*command(tmp_path / "no", 2, "--set", "schedule=beta_table", "--set", "label=index"))
    assert status == 2
    assert "on a table of 1000 levels; allowed: continuous time" in error
