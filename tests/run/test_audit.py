"""`logsnr audit` end to end: every example once, a JSON that says what it means, one process or several."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

import logsnr as library
from logsnr.cli import main
from logsnr.data import load as load_data
from logsnr.draws import Draws
from logsnr.records import Part
from tests.run.conftest import TINY

Verb = Callable[..., tuple[int, str, str]]
SCHEMA = json.loads((Path(library.__file__).parent / "report" / "audit.schema.json").read_text())
FAST = ("--estimators", "vlb,vlb_inf", "--steps", "20", "--repeats", "2", "--threads", "1", "--quiet")


def audit(run: Path, out: Path, *more: str) -> dict[str, Any]:
    assert main(["audit", str(run), "--out", str(out), *FAST, *more]) == 0
    record: dict[str, Any] = json.loads((out / "audit.json").read_text())
    Draft202012Validator(SCHEMA).validate(record)
    return record


def test_the_schema_is_one_and_refuses_what_it_should() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert not Draft202012Validator(SCHEMA).is_valid({"kind": "logsnr-audit-1"})


def test_every_example_once_with_everything_it_depends_on(digits_run: Path, tmp_path: Path) -> None:
    record = audit(
        digits_run, tmp_path, "--estimators", "vlb,vlb_inf,iwae,ode", "--set", "iwae.draws=2", "--index", "0:20"
    )
    assert record["examples"] == 20
    assert not record["one_exact_pass"]
    assert record["unit"] == "bits_per_dim"
    assert record["data"]["fingerprint"] == load_data("digits", split="test").fingerprint
    assert record["estimators"]["iwae"]["estimator"] == "iwae(2) of vlb(20)"
    assert record["estimators"]["ode"]["options"] == {
        "dequantisation": "truncated_normal", "draws": 1, "divergence": "probes", "probes": 1, "tolerance": 2e-4
    }  # fmt: skip
    with np.load(tmp_path / "audit.npz") as arrays:
        assert arrays["index"].tolist() == list(range(20))
        for name, found in record["estimators"].items():
            nats = arrays[f"{name}/nll_nats"]
            assert found["total"]["nats"] == pytest.approx(nats.mean(), rel=1e-9)
            assert found["total"]["bits_per_dim"] == pytest.approx(nats.mean() / (64 * np.log(2)), rel=1e-9)
            error = nats.std(ddof=1) / np.sqrt(20) / (64 * np.log(2))
            assert found["total"]["standard_error_bits_per_dim"] == pytest.approx(error, rel=1e-9)
            assert sum(part["nats"] for part in found["parts"].values()) == pytest.approx(nats.mean(), rel=1e-9)
            curve = found["curve"]
            assert sum(curve["bits_per_dim"]) == pytest.approx(found["parts"][curve["part"]]["bits_per_dim"], rel=1e-6)
    order = {(row["lower"], row["upper"]): row for row in record["triangulation"]}
    assert order["iwae(2) of vlb(20)", "vlb(20)"]["kind"] == "must"
    assert all((tmp_path / name).is_file() for name in ("curves.png", "hardest.png", "easiest.png"))


def test_the_whole_split_is_one_exact_pass(digits_run: Path, tmp_path: Path) -> None:
    record = audit(digits_run, tmp_path, "--estimators", "vlb")
    assert record["one_exact_pass"]
    assert record["examples"] == 497
    assert sum(row["examples"] for row in record["per_class"]) == 497
    part = audit(digits_run, tmp_path / "part", "--estimators", "vlb", "--index", "64:70")
    assert part["examples"] == 6
    with np.load(tmp_path / "audit.npz") as whole, np.load(tmp_path / "part" / "audit.npz") as some:
        assert np.allclose(whole["vlb/nll_nats"][64:70], some["vlb/nll_nats"], rtol=1e-6)


def test_repeats_are_independent_and_example_i_is_of_the_seed(digits_run: Path, tmp_path: Path) -> None:
    trained = library.load(digits_run)
    data, estimators = load_data("digits", split="test"), {"bound": trained.bound()}
    found = trained.records(data, estimators, repeats=3, index=range(40))["bound"]
    alone = trained.records(data, estimators, repeats=1, index=[7, 3])["bound"]
    assert found.total[0, [7, 3]].tolist() == pytest.approx(alone.total[0].tolist(), rel=1e-6)
    assert len({float(value) for value in found.total[:, 5]}) == 3
    means = [trained.bound_nats(data, seed=seed)["total"].mean() for seed in (0, 0, 1)]
    assert means[0] == means[1] != means[2]


def test_continuous_data_has_nats_in_its_own_units(tmp_path: Path) -> None:
    run = tmp_path / "ring"
    assert main(["train", "ddpm", "--data", "toy:ring", "--out", str(run), "--steps", "5", *TINY[2:7]]) == 0
    record = audit(run, tmp_path / "audit", "--index", "0:30", "--estimators", "vlb,vlb_inf,ode")
    assert record["unit"] == "nats_per_dim"
    assert record["data"]["levels"] is None
    for found in record["estimators"].values():
        assert found["parts"]["units"]["nats_per_dim"] == pytest.approx(record["offset"])
        assert "bits_per_dim" not in found["total"]


def test_foreign_data_is_judged_beside_half_of_the_held_out(digits_run: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 17, (60, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    other = ("--ood", str(tmp_path / "noise.npy"))
    record = audit(digits_run, tmp_path, *other, "--index", "0:80", "--estimators", "vlb_inf")
    judged = record["foreign"]
    assert (judged["calibrated_on"], judged["judged_inside"]) == (40, 40)
    assert judged["judged_outside"] == judged["data"]["examples"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--estimators", "nll"), "unknown estimator 'nll'; known: vlb, vlb_inf, iwae, ode"),
        (("--index", "0:9999"), "--index 0:9999 of 497 examples"),
        (("--repeats", "0"), "--repeats 0"),
        (("--set", "ode.probes=1"), "--set ode.probes=1; allowed: NAME.OPTION=VALUE with NAME of vlb, vlb_inf"),
        (("--set", "vlb.stepps=3"), "stepps"),
        (("--data", "toy:ring"), "are continuous"),
        (("--split", "nowhere"), "nowhere"),
    ],
)
def test_what_is_refused_is_one_line(
    logsnr: Verb, digits_run: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    status, _, error = logsnr("audit", digits_run, "--out", tmp_path / "no", *FAST, *flags)
    assert status == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_integers_given_as_numbers_are_refused(digits_run: Path) -> None:
    trained = library.load(digits_run)
    x0 = load_data("digits", split="test").batch([0, 1])[0]
    for name in ("vlb", "ode"):
        with pytest.raises(ValueError, match="off Lattice"):
            trained.estimator(Part(name)).estimate(trained.model, x0 + 0.01, Draws(0, 0, torch.arange(2), 2))


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(("count", "last"), [(2, 150), pytest.param(3, 100, marks=pytest.mark.slow)])
def test_several_processes_find_what_one_does(digits_run: Path, tmp_path: Path, count: int, last: int) -> None:
    """Chunks of 64 do not divide the examples; of three processes one has no example at all."""
    words = [
        "audit", str(digits_run), *FAST, "--estimators", "vlb,vlb_inf,ode", "--index", f"0:{last}",
        "--set", "ode.tolerance=0.01",
    ]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port()), "WORLD_SIZE": str(count)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "logsnr", *words, "--out", str(tmp_path / "several")],
            env={**os.environ, **address, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    assert all(out == "" for out, _ in said[1:])
    with np.load(tmp_path / "one" / "audit.npz") as one, np.load(tmp_path / "several" / "audit.npz") as several:
        assert set(one.files) == set(several.files)
        for name in one.files:
            assert np.allclose(one[name], several[name], rtol=1e-5, atol=1e-5), name
