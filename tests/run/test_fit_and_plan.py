"""`fit-schedule` and `plan-steps`: what they write, who reads it, and whose it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from logsnr.cli import main
from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("other") / "run"
    assert main(["train", "ddpm", "--out", str(out), "--steps", "2", "--seed", "5", *TINY]) == 0
    return out


def test_a_schedule_is_written_and_the_audit_reads_it(
    logsnr: Verb, digits_run: Path, other_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "schedule.json"
    assert logsnr("fit-schedule", digits_run, "--draws", "256", "--out", file, "--threads", "1", "--quiet")[0] == 0
    record = json.loads(file.read_text())
    assert record["data"]["split"] == "train"
    assert record["evaluations"] == 256
    variances = record["variance_nats2_of_one_draw"]
    assert variances["own"] is None  # a table has no time between its knots
    assert variances["fitted"] < variances["linear"]
    assert [record["knots"][0][0], record["knots"][-1][0]] == [0.0, 1.0]
    assert file.with_suffix(".png").is_file()
    words = ("--estimators", "vlb_inf", "--index", "0:4", "--threads", "1", "--quiet", "--out", tmp_path / "audit")
    (other_run / "schedule.json").write_text(file.read_text())
    status, _, error = logsnr("audit", other_run, *words)
    assert status == 2
    assert "was fitted to checkpoint_sha256" in error
    (other_run / "schedule.json").write_text("{}")
    assert "is no schedule" in logsnr("audit", other_run, *words)[2]
    (other_run / "schedule.json").unlink()


def test_a_plan_is_measured_beside_usual_grids_and_sampled_with(
    logsnr: Verb, digits_run: Path, other_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    words = ("--budget", "4", "--candidates", "12", "--examples", "16", "--threads", "1", "--quiet")
    assert logsnr("plan-steps", digits_run, *words, "--out", file)[0] == 0
    record = json.loads(file.read_text())
    assert len(record["times"]) == 5
    assert record["times"][-1] == 0
    assert all(a > b for a, b in zip(record["times"], record["times"][1:], strict=False))
    assert record["measured"].keys() == {"planned", "uniform", "log_snr"}
    out = tmp_path / "samples"
    status, _, error = logsnr("sample", digits_run, "--plan", file, "--n", "3", "--sampler", "ddim", "--out", out)
    assert status == 0, error
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["steps"] == 4
    assert manifest["plan"] == str(file)
    with np.load(out / "samples.npz") as arrays:
        assert len(arrays["images"]) == 3
    status, _, error = logsnr("sample", other_run, "--plan", file, "--n", "3", "--out", out)
    assert status == 2
    assert "another checkpoint" in error
    assert "allowed: >= 2, >= 2, >= --budget" in logsnr("plan-steps", digits_run, *words, "--candidates", "2")[2]
    assert "--budget 1" in logsnr("plan-steps", digits_run, *words, "--budget", "1")[2]
