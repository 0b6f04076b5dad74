"""`logsnr bench`: side by side with the peers that are installed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.bench.contest import table
from logsnr.bench.sections import SECTIONS, Bench, notes, rows
from logsnr.bench.vehicle import VEHICLES
from logsnr.files import whole
from logsnr.records import json_text
from logsnr.verbs.console import Console


def run(args: Namespace) -> dict[str, Any]:
    """Measure the sections, write a file for each, and print a table."""
    console = Console(args)
    if args.vehicle not in VEHICLES:
        raise ValueError(f"--vehicle {args.vehicle!r}; allowed: {', '.join(VEHICLES)}")
    for flag, value in (("--turns", args.turns), ("--batch-size", args.batch_size)):
        if value < 1:
            raise ValueError(f"{flag} {value}; allowed: at least 1")
    sections = args.sections or list(SECTIONS)
    for name in sections:
        if name not in SECTIONS:
            raise ValueError(f"section {name!r}; allowed: {', '.join(SECTIONS)}")
    bench = Bench(args.vehicle, args.batch_size, args.turns, args.seed, Path(args.run) if args.run else None)
    records: dict[str, Any] = {}
    for name in sections:
        console.say(f"{name}: {args.turns} turns of each, network {args.vehicle}, batch {args.batch_size}")
        records[name] = record = bench.section(name, console.say)
        if args.out:
            Path(args.out).mkdir(parents=True, exist_ok=True)
            with whole(Path(args.out) / f"{name}.json") as fresh:
                fresh.write_text(json_text(record))
        for line in (*table(rows(record)), *notes(record)):
            console.say(line)
    return {"sections": records}
