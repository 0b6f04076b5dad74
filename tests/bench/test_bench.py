from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from logsnr.bench.contest import Outcome, contest, ratio, spread
from logsnr.bench.ours import probe_loss, training
from logsnr.bench.sections import SECTIONS, Bench, rows
from logsnr.bench.vehicle import VEHICLES, forward_flops, read, write
from logsnr.cli import main
from logsnr.interop.diffusers import network_record
from logsnr.nets import construct
from logsnr.nets.blocks import Attention


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


def test_operations_are_two_a_product_of_every_layer_and_thrice_that_a_step(tmp_path: Path) -> None:
    vehicle, found = write(tmp_path, "toy", 2), []

    def count(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        if type(layer) is Attention:  # q kᵀ and p v of all tokens
            found.append(2 * 2 * len(y) * y[0, 0].numel() ** 2 * y.shape[1])
        elif hasattr(layer, "weight") and layer.weight.ndim > 1:
            rows = y.numel() if layer.weight.ndim == 2 else len(y) * y[0, 0].numel() * y.shape[1]
            found.append(2 * rows * layer.weight[0].numel())

    network = vehicle.network()
    for layer in network.modules():
        layer.register_forward_hook(count)
    x, times = vehicle.probe["x"], vehicle.probe["times"].float()
    network(x, times)
    assert forward_flops(vehicle) == sum(found)
    with FlopCounterMode(display=False) as step:
        vehicle.network()(x, times).square().mean().backward()
    facts = training(tmp_path, "fp32").facts
    assert facts["flops"] == 3 * sum(found)
    assert 2.9 < step.get_total_flops() / sum(found) <= 3  # the stem has no gradient of its input


def test_the_interval_of_checkpoints_is_the_best_one() -> None:
    scaling = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "scaling.py"))
    write_seconds, between = 5.0, 1e5
    best = math.sqrt(2 * write_seconds * between)
    losses = [scaling["lost"](best * factor, write_seconds, between) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] < min(losses[0], losses[2])
    assert scaling["lost"](1.0, 1.0, math.inf) == 1.0
    one, eight = (scaling["row"](scaling["MODELS"][0], ranks) for ranks in (1, 8))
    assert float(one["exchange, ms"]) == 0
    assert float(one["compute, ms"]) / float(eight["compute, ms"]) == pytest.approx(8, rel=5e-3)
    # 2 · 7/8 · 4 bytes of 35.7 million parameters over 450 GB/s
    assert float(eight["exchange, ms"]) == pytest.approx(2 * 7 / 8 * 4 * 35.7e6 / 450e9 * 1e3, rel=5e-3)
    hours = float(eight["a failure every"].removesuffix(" h").replace(",", ""))
    assert float(eight["save every"].removesuffix(" min")) == pytest.approx(
        math.sqrt(2 * 16 * 35.7e6 / 2e9 * hours * 3600) / 60, rel=5e-3
    )


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
