"""The closing table of the recorded numbers, printed by the process that the reports come to."""

from __future__ import annotations

import pytest

from .reference_harness.ledger import KEY, ROWS


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
