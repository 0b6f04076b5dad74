"""The tables of docs/benchmarks.md, from the records in benchmarks/results/bench: python benchmarks/table.py

What stands between the two marks is written anew; the text around it is kept.
"""

from __future__ import annotations

import json
from pathlib import Path

from logsnr.bench.contest import table
from logsnr.bench.sections import SECTIONS, notes, rows

ROOT = Path(__file__).parents[1]
PAGE, RECORDS = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "results" / "bench"
MARKS = ("<!-- tables -->\n", "<!-- end of tables -->\n")


def tables() -> str:
    """Every section that there is a record of."""
    lines = []
    for name in SECTIONS:
        file = RECORDS / f"{name}.json"
        if not file.exists():
            continue
        record = json.loads(file.read_text())
        lines += [f"### {name}", "", f"`{record['command']}`", "", *table(rows(record)), ""]
        lines += [f"* {note}" for note in notes(record)]
        if record["left_out"]:
            lines.append(f"* left out: {', '.join(record['left_out'])}")
        if lines[-1]:
            lines.append("")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with the tables of the records."""
    before, rest = text.split(MARKS[0])
    return before + MARKS[0] + "\n" + tables() + "\n" + MARKS[1] + rest.split(MARKS[1])[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
