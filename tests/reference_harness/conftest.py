"""Collects what became of each file and prints it as a table when the run ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from .reference import Reference

LEDGER = pytest.StashKey[list[Reference]]()


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> list[Reference]:
    """The files seen so far in this run."""
    return request.config.stash.setdefault(LEDGER, [])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledger = config.stash.get(LEDGER, [])
    if not ledger:
        return
    line = terminalreporter.write_line
    terminalreporter.section("recorded numbers")
    line(f"{'file':30} {'checked':>8} {'facts':>6} {'inputs':>7} {'not covered':>12}   worst error / tolerance")
    for file in ledger:
        ratio, key = file.worst
        worst = f"{ratio:.2g} ({key})" if file.checked else "-"
        counts = f"{len(file.checked):8} {len(file.facts):6} {len(file.inputs):7} {len(file.not_covered):12}"
        line(f"{file.name:30} {counts}   {worst}")
    without = [file for file in ledger if not file.has_adapter]
    checked, open_ = sum(len(f.checked) for f in ledger), sum(len(f.not_covered) for f in ledger)
    line(f"{len(ledger)} files, {checked} arrays checked, {open_} not covered, of these in files without adapter:")
    line(", ".join(f"{file.name} ({len(file.arrays)})" for file in without) or "none")
    for file in ledger:
        if not file.has_adapter:
            continue
        reasons: dict[str, list[str]] = {}
        for key, reason in file.not_covered.items():
            reasons.setdefault(reason, []).append(key)
        for reason, keys in reasons.items():
            line(f"not covered in {file.name}: {len(keys)}, {reason}: {', '.join(keys)}")
