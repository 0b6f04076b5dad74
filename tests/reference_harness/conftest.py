"""Collects what became of each file and prints it as a table when the run ends, whichever process the test ran in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from .reference import Reference

KEY = "recorded numbers"
OUT_OF_SCOPE = "out of scope"
ROWS = pytest.StashKey[list[dict[str, Any]]]()


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Callable[[Reference], None]]:
    """Takes the file of this test; what became of it travels with the test's report."""
    taken: list[Reference] = []
    yield taken.append
    request.node.user_properties.extend((KEY, _row(file)) for file in taken)


def _row(file: Reference) -> dict[str, Any]:
    reasons: dict[str, list[str]] = {}
    for key, reason in file.not_covered.items():
        reasons.setdefault(reason, []).append(key)
    return {
        "name": file.name,
        "has_adapter": file.has_adapter,
        "checked": len(file.checked),
        "facts": len(file.facts),
        "inputs": len(file.inputs),
        "open": sum(len(keys) for reason, keys in reasons.items() if not reason.startswith(OUT_OF_SCOPE)),
        "out_of_scope": sum(len(keys) for reason, keys in reasons.items() if reason.startswith(OUT_OF_SCOPE)),
        "reasons": reasons,
        "worst": list(file.worst),
        "failed": len(file.failures),
    }


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    properties = [pair for report in reports for pair in getattr(report, "user_properties", [])]
    rows = list({row["name"]: row for key, row in properties if key == KEY}.values())
    rows.sort(key=lambda row: row["name"])
    config.stash[ROWS] = rows
    if not rows:
        return
    line = terminalreporter.write_line
    terminalreporter.section(KEY)
    heads = ("checked", "facts", "inputs", "not covered", "out of scope")
    line(f"{'file':30} " + " ".join(f"{head:>12}" for head in heads) + "   worst error / tolerance")
    for row in rows:
        ratio, key = row["worst"]
        counts = " ".join(f"{row[name]:12}" for name in ("checked", "facts", "inputs", "open", "out_of_scope"))
        line(f"{row['name']:30} {counts}   {f'{ratio:.2g} ({key})' if row['checked'] else '-'}")
    line("without adapter: " + (", ".join(row["name"] for row in rows if not row["has_adapter"]) or "none"))
    for row in rows:
        for reason, keys in row["reasons"].items() if row["has_adapter"] else ():
            line(f"{row['name']}: {len(keys)} not checked, {reason}: {', '.join(keys)}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    rows = config.stash.get(ROWS, [])
    if rows:
        covered = [row for row in rows if row["has_adapter"]]
        total = {key: sum(row[key] for row in rows) for key in ("checked", "open", "out_of_scope", "failed")}
        print(
            f"covered {len(covered)} of {len(rows)} files ({total['checked']} arrays), not covered {total['open']} "
            f"arrays, out of scope {total['out_of_scope']} arrays, failed {total['failed']}"
        )
