"""A recipe trained from Python is the run that the command line would have made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import logsnr
from logsnr.cli import main
from logsnr.train.names import named_tensors


def test_it_is_the_run_of_the_command_line_whatever_the_caller_is_doing(tmp_path: Path) -> None:
    with torch.no_grad():  # of the caller's own
        run = logsnr.train_recipe(
            "ddpm", tmp_path / "a", settings={"train.steps": 3, "network": "tiny", "train.batch_size": 8, "seed": 5}
        )
        assert not torch.is_grad_enabled()
    words = ["--steps", "3", "--network", "tiny", "--batch-size", "8", "--seed", "5", "--quiet"]
    assert main(["train", "ddpm", "--out", str(tmp_path / "b"), *words]) == 0
    other = logsnr.load(tmp_path / "b")
    mine, theirs = (dict(named_tensors(each.model)) for each in (run, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert run.config == other.config


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    for recipe, settings, told in (
        ("ddqm", {}, "unknown recipe 'ddqm'; known: ddpm"),
        ("ddpm", {"train.stepz": 1}, "unknown key train.stepz"),
    ):
        with pytest.raises(ValueError, match=told):
            logsnr.train_recipe(recipe, tmp_path / "run", settings=settings)
    assert not list(tmp_path.iterdir())
