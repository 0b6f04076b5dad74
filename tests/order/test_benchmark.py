"""`auto` against the bars of the benchmark, on mixtures it was not chosen on: the script draws them from a seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "samplers.py"
BARS = {"5": 0.16, "8": 0.085, "10": 0.045, "20": 0.004, "50": 0.0004}


def benchmark(tmp_path: Path, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, BENCHMARK, *flags, "--json", tmp_path / "table.json"], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    assert not done.stderr
    record: dict[str, Any] = json.loads((tmp_path / "table.json").read_text())
    assert record["passed"] == (done.returncode == 0)
    return record


def test_auto_is_within_the_bars_at_8_and_20_evaluations(tmp_path: Path) -> None:
    record = benchmark(tmp_path, "--seed", "4711", "--examples", "32", "--budgets", "8", "20", "--only", "auto")
    assert record["truth"] < 1e-6, "two integrators agree on the exact flow"
    assert record["rms"]["auto"].keys() == {"8", "20"}
    for budget, (error,) in record["rms"]["auto"].items():
        assert record["truth"] < error <= BARS[budget], record
    assert record["passed"]


@pytest.mark.slow
def test_auto_is_within_every_bar_and_before_every_other_sampler(tmp_path: Path) -> None:
    record = benchmark(tmp_path, "--seed", "4711", "--seeds", "10")
    table = record["rms"]
    assert record["truth"] < 1e-6
    assert table["auto"].keys() == BARS.keys()
    for budget, bar in BARS.items():
        assert max(table["auto"][budget]) <= bar, table["auto"]
        for name, errors in table.items():
            assert name == "auto" or sorted(table["auto"][budget])[5] < 0.7 * sorted(errors[budget])[5], (name, budget)
    assert record["passed"]
