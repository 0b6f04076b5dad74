"""The rules that hold for every verb."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from logsnr.cli import VERBS
from logsnr.config import FREE_ON_RESUME, assignment, from_dict, resolve
from logsnr.records import leaves, to_dict
from logsnr.run import load, training
from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("words", [["--help"], *[[verb, "--help"] for verb in VERBS]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "logsnr", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"torch", "numpy", "matplotlib", "PIL", "yaml", "safetensors", "tqdm"}
    assert "usage: logsnr" in done.stdout


def test_json_is_all_there_is_on_standard_output(logsnr: Verb, tmp_path: Path) -> None:
    status, out, _ = logsnr("train", "ddpm", "--out", tmp_path / "run", "--steps", "2", "--json", *TINY)
    assert status == 0
    assert Path(json.loads(out)["checkpoint"]).is_dir()
    for words in (["explain", "ddpm"], ["inspect", "digits"], ["inspect", tmp_path / "run"]):
        status, out, _ = logsnr(*words, "--json")
        assert status == 0
        assert json.loads(out)


def test_flag_beats_set_beats_yaml_beats_recipe(logsnr: Verb, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("train: {lr: 0.001, warmup_steps: 7, batch_size: 4}\n")
    words = ["train", "ddpm", "--out", tmp_path / "run", "--dry-run", "--json", "--network", "tiny"]
    layers = ["--config", tmp_path / "c.yaml", "--set", "train.warmup_steps=8", "--set", "train.batch_size=5"]
    status, out, _ = logsnr(*words, *layers, "--batch-size", "6")
    train = json.loads(out)["config"]["train"]
    assert status == 0
    assert (train["lr"], train["warmup_steps"], train["batch_size"]) == (0.001, 8, 6)
    assert not (tmp_path / "run").exists(), "a dry run writes nothing"
    assert json.loads(out)["estimate"]["parameters"] > 0


def test_run_yaml_rebuilds_the_run(logsnr: Verb, digits_run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((digits_run / "run.yaml").read_text())
    words = ["train", "ddpm", "--config", digits_run / "run.yaml", "--out", tmp_path / "again", "--quiet"]
    assert logsnr(*words)[0] == 0
    assert yaml.safe_load((tmp_path / "again" / "run.yaml").read_text()) == config
    newest = "checkpoints/step-00000010/model.safetensors"
    assert (tmp_path / "again" / newest).read_bytes() == (digits_run / newest).read_bytes()


def test_every_leaf_survives_the_round_trip_and_free_ones_exist() -> None:
    config = resolve("ddpm", [assignment("train.ema_half_lives_images=[100,2000]"), assignment("data.size=[3,4]")])
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config
    assert set(FREE_ON_RESUME) <= leaves(to_dict(config)).keys()


def test_a_part_of_another_name_starts_from_its_own_defaults() -> None:
    config = resolve("ddpm", [assignment("schedule={name: cosine}")])
    assert config.schedule.options == {}
    assert resolve("ddpm", [assignment("schedule.beta_end=0.03")]).schedule.options["betas"] == "linear"


def test_options_may_come_before_the_name_they_belong_to() -> None:
    before = resolve("ddpm", [assignment("network.channels=8"), {"network": {"name": "tiny"}}])
    after = resolve("ddpm", [{"network": {"name": "tiny"}}, assignment("network.channels=8")])
    assert before.network == after.network
    assert before.network.options == {"channels": 8}
    cosine = resolve("ddpm", [assignment("schedule.max_log_snr=9"), assignment("schedule.name=cosine")])
    assert cosine.schedule.options == {"max_log_snr": 9.0}
    assert resolve("ddpm", [assignment("data.size=32")]).data.size == (32,)


def test_loading_leaves_the_caller_s_randomness_alone(digits_run: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load(digits_run)
    assert torch.equal(torch.rand(3), expected)


def test_one_machine_flag_keeps_the_others(digits_run: Path) -> None:
    assert load(digits_run, precision="bf16").machine.threads == load(digits_run).machine.threads == 1


def test_a_validation_split_is_what_is_held_out(logsnr: Verb, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x[:40], x_val=x[40:])
    words = ["train", "ddpm", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", "--steps", "1"]
    assert logsnr(*words, "--batch-size", "4", "--network", "tiny", "--quiet")[0] == 0
    state = json.loads(next((tmp_path / "run").glob("checkpoints/*/state.json")).read_text())
    assert (state["holdout"]["split"], state["holdout"]["count"]) == ("val", 20)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(logsnr: Verb, tmp_path: Path) -> None:
    """A learning rate that throws the weights to infinity: ten skipped steps, one line, a checkpoint."""
    words = ["train", "ddpm", "--data", "toy:ring", "--out", tmp_path / "run", "--lr", "1e30", "--network", "tiny"]
    more = ["--set", "train.clip_norm=null", "--set", "train.warmup_steps=0", "--batch-size", "4", "--quiet"]
    status, _, err = logsnr(*words, *more)
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert "not finite" in err
    assert list((tmp_path / "run").glob("checkpoints/step-*/model.safetensors"))


def test_inspect_says_what_things_are(logsnr: Verb, digits_run: Path) -> None:
    checkpoint = next(digits_run.glob("checkpoints/*"))
    kinds = {
        "digits": "data",
        digits_run: "run",
        checkpoint: "checkpoint",
        checkpoint / "ema.safetensors": "safetensors",
    }
    for path, kind in kinds.items():
        status, out, _ = logsnr("inspect", path, "--json")
        assert status == 0
        assert json.loads(out)["kind"] == kind
    assert json.loads(logsnr("inspect", "digits", "--json")[1])["levels"] == 17


def test_explain_knows_ddpms_end(logsnr: Verb, tmp_path: Path) -> None:
    figures = json.loads(logsnr("explain", "ddpm", "--json", "--out", tmp_path / "e.png")[1])
    assert figures["terminal_snr"] == pytest.approx(4.03599e-5, rel=1e-5)
    assert figures["share_of_levels_with_signal_below_one_percent"] == pytest.approx(0.327)
    assert (tmp_path / "e.png").stat().st_size > 10_000


def test_doctor(logsnr: Verb) -> None:
    status, out, _ = logsnr("doctor", "--json")
    report = json.loads(out)
    assert status == 0
    assert all(check["ok"] for check in report["checks"])
    assert len(report["checks"]) >= 10


def test_two_averages_are_kept_and_sampled(logsnr: Verb, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "ddpm", "--out", out, "--steps", "3", "--set", "train.ema_half_lives_images=[1000,50]", *TINY]
    assert logsnr(*words)[0] == 0
    assert {file.stem for file in out.glob("checkpoints/*/*.safetensors")} == {"model", "ema", "ema-50", "optimizer"}
    assert logsnr("sample", out, "--n", "1", "--steps", "2", "--weights", "ema-50", "--quiet")[0] == 0


def test_the_rate_falls_over_the_last_part_of_the_minutes_and_rises_again_where_they_are_more(
    logsnr: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that says one second a step; a step knows what was spent before the last one."""
    ticks = itertools.count()
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    words = ["train", "ddpm", "--out", tmp_path, "--lr", "0.5", *TINY, "--set", "train.warmup_steps=0"]
    for seconds in (10, 12, 24):
        assert logsnr(*words, "--minutes", seconds / 60)[0] == 0
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    spent = (
        [max(0, step - 1) / 10 for step in range(10)]
        + [10 / 12] * 2
        + [max(12, step - 1) / 24 for step in range(12, 24)]
    )
    expected = [0.5 * min(1, (1 - share) / 0.6) for share in spent]
    assert [record["lr"] for record in records if "lr" in record] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("limit", [("--steps", "5"), ("--images", "40")])
def test_the_rate_falls_by_whichever_limit_comes_first(logsnr: Verb, tmp_path: Path, limit: tuple[str, str]) -> None:
    """Steps of 8 images; where there are no minutes the rate stays."""
    rates = {}
    for name, time in (("timed", ("--minutes", "100", "--set", "train.cooldown=1")), ("not", ())):
        words = ["train", "ddpm", "--out", tmp_path / name, "--lr", "0.5", *TINY, "--set", "train.warmup_steps=0"]
        assert logsnr(*words, *limit, *time)[0] == 0
        records = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        rates[name] = [record["lr"] for record in records if "lr" in record]
    assert rates == {"timed": pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1], rel=1e-3), "not": [0.5] * 5}


def test_minutes_stop_a_run(logsnr: Verb, tmp_path: Path) -> None:
    status, out, _ = logsnr("train", "ddpm", "--out", tmp_path, "--minutes", "0.0001", "--json", *TINY)
    assert status == 0
    assert json.loads(out)["checkpoint"].endswith("step-00000001")
