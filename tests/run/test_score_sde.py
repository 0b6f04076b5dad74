"""The three SDEs through the verbs: trained, sampled by every sampler of the paper, alone and in company."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import logsnr as library
from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]
SAMPLERS = {
    "euler_maruyama": {},
    "reverse_diffusion": {"eta": 0.0},
    "predictor_corrector": {"predictor": "ancestral", "corrector": {"name": "langevin", "snr": 0.1}},
    "adaptive": {"rtol": 1e-2, "atol": 1e-2},
}


@pytest.mark.parametrize("recipe", ["vp-sde", "ve-sde", "subvp-sde"])
def test_a_recipe_is_trained_and_sampled_by_every_sampler(logsnr: Verb, tmp_path: Path, recipe: str) -> None:
    out, weighting = tmp_path / recipe, ("objective.weight=likelihood", "objective.times=log_snr")
    words = ["train", recipe, "--out", out, "--steps", "2", "--set", weighting[0], "--set", weighting[1], *TINY]
    status, _, err = logsnr(*words, "--set", "sample.temperature=0.9")
    assert status == 0, err
    status, _, err = logsnr("sample", out, "--n", "3", "--steps", "3", "--quiet")
    assert status == 0, err
    assert json.loads((out / "samples" / "manifest.json").read_text())["temperature"] == 0.9
    trained = library.load(out)
    for name, options in SAMPLERS.items():
        chosen = trained.recipe(sampler=name, steps=3, **options)
        whole = trained.sample_x0(torch.arange(5), recipe=chosen)
        assert whole.isfinite().all(), name
        assert torch.equal(trained.sample_x0(torch.tensor([3]), recipe=chosen)[0], whole[3]), name
    warm, cold = (trained.sample(3, sampler="adaptive", steps=2, temperature=value) for value in (1.0, 0.2))
    assert not np.array_equal(warm, cold)


def test_what_a_recipe_refuses(logsnr: Verb, tmp_path: Path) -> None:
    for setting, message in {
        "sample.temperature=0": "sample.temperature = 0.0; allowed: above 0",
        "sample.sampler={name: predictor_corrector, corrector: newton}": "unknown corrector 'newton'",
        "sample.sampler={name: adaptive, rtol: -1}": "rtol=-1",
        "inputs=unit_energy": "unknown inputs 'unit_energy'",
    }.items():
        status, _, err = logsnr("train", "ve-sde", "--out", tmp_path / "run", "--set", setting, *TINY)
        assert status == 2, setting
        assert message in err
        assert err.count("\n") == 1
