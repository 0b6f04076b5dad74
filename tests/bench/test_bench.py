from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel

from logsnr.bench.contest import Outcome, contest, ratio, spread
from logsnr.bench.ours import probe_loss
from logsnr.bench.sections import SECTIONS, Bench, rows
from logsnr.bench.vehicle import VEHICLES, forward_flops, read, write
from logsnr.cli import main
from logsnr.interop.diffusers import network_record
from logsnr.nets import construct


def test_a_ratio_is_the_median_over_neighbours_per_unit_of_work() -> None:
    ours, theirs = Outcome({"units": 4}, [1.0, 2.0, 4.0]), Outcome({"units": 2}, [3.0, 4.0, 4.0])
    assert ratio(ours, theirs)["ratio_median"] == 4.0  # of 6, 4, 2
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0], "x")["x_quartiles"] == [1.5, 4.5]


def test_the_vehicle_is_one_function_in_both_programs(tmp_path: Path) -> None:
    vehicle = write(tmp_path, "toy", 3)
    theirs = UNet2DModel(**vehicle.config)
    theirs.load_state_dict(vehicle.weights)
    x, times = vehicle.probe["x"], vehicle.probe["times"]
    with torch.no_grad():
        assert (theirs(x, times).sample - vehicle.network()(x, times.float())).abs().max() < 1e-5
    again = read(tmp_path)
    assert again.weights["conv_in.weight"].equal(vehicle.weights["conv_in.weight"])
    assert probe_loss(again) == probe_loss(vehicle)


def test_the_vehicles_have_the_parameters_that_they_should(tmp_path: Path) -> None:
    record = write(tmp_path, "small", 1).record
    with torch.device("meta"):
        network = construct(record)
    assert sum(p.numel() for p in network.parameters()) == 6_472_195
    with torch.device("meta"):
        network = construct(network_record(VEHICLES["cifar10"]))
    assert abs(sum(p.numel() for p in network.parameters()) / 35_746_307 - 1) < 1e-3


def test_operations_are_counted_as_the_network_is_written(tmp_path: Path) -> None:
    one, two = (forward_flops(write(tmp_path / str(n), "toy", n)) for n in (1, 2))
    assert two == 2 * one
    first = 2 * 64 * 9 * 3 * 32  # the first convolution alone, on 8 × 8 pixels
    assert one > 10 * first


def test_a_contender_that_cannot_run_is_left_out_and_the_others_take_turns(tmp_path: Path) -> None:
    write(tmp_path, "toy", 2)
    said: list[str] = []
    found = contest(["start/help", "no/such", "sampling/ours-fp32"], tmp_path, turns=2, warm_up=1, say=said.append)
    assert list(found) == ["start/help", "sampling/ours-fp32"]
    assert all(len(outcome.seconds) == 2 for outcome in found.values())
    assert any(line.startswith("left out: contender no/such ended with status 1") for line in said)


def test_training_and_sampling_are_the_same_computation_for_us_and_for_diffusers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECTIONS, "training", ("training/ours", "training/diffusers"))
    monkeypatch.setitem(SECTIONS, "sampling", ("sampling/ours-fp32", "sampling/diffusers"))
    flags = ["--vehicle", "toy", "--batch-size", "2", "--turns", "2", "--quiet", "--out", str(tmp_path)]
    status = main(["bench", "training", "sampling", *flags])
    assert status == 0
    training, sampling = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("training", "sampling"))
    assert training["relative_difference_of_loss"] < 1e-5
    assert sampling["greatest_difference_of_images"] < 1e-4
    for record in (training, sampling):
        assert {"processor", "command", "seed", "python", "logsnr"} <= record.keys()
        for outcome in record["contenders"].values():
            assert {"precision", "threads", "seconds_median", "units_per_second", "peak_bytes"} <= outcome.keys()
        assert len(rows(record)) == len(record["contenders"])


def test_what_is_unknown_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    for words, named in ((["speed"], "'speed'"), (["--vehicle", "car"], "'car'"), (["--turns", "0"], "--turns 0")):
        with pytest.raises(SystemExit) as left:
            main(["bench", *words])
        assert left.value.code == 2
        assert named in capsys.readouterr().err
    with pytest.raises(ValueError, match="'speed'"):
        Bench().section("speed", print)


def test_the_page_has_the_tables_of_the_records() -> None:
    """`python benchmarks/table.py` would change nothing."""
    root = Path(__file__).parents[2]
    script = runpy.run_path(str(root / "benchmarks" / "table.py"))
    text = (root / "docs" / "benchmarks.md").read_text()
    assert script["page"](text) == text
    for file in (root / "benchmarks" / "results" / "bench").glob("*.json"):
        record = json.loads(file.read_text())
        assert {"processor", "python", "logsnr", "command", "seed"} <= record.keys(), file.name
        for outcome in record.get("contenders", {}).values():
            assert {"precision", "threads"} <= outcome.keys(), file.name
