"""`logsnr train`."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.config import write
from logsnr.records import to_dict
from logsnr.run.estimate import estimate
from logsnr.run.ranks import Ranks, ranks
from logsnr.run.session import datasets, resolved
from logsnr.run.training import train
from logsnr.train.report import Report
from logsnr.verbs.console import Console
from logsnr.verbs.layers import configuration

PATIENCE_HOURS = 0.5  # more than the first rank needs for a preview or a checkpoint


def run(args: Namespace) -> dict[str, Any]:
    """Train, or say what would be done."""
    with ranks(hours=PATIENCE_HOURS) as group:
        return _run(args, group)


def _run(args: Namespace, group: Ranks) -> dict[str, Any]:
    args.json = args.json and group.first  # several processes, one result
    config, console, out = configuration(args), Console(args, silent=not group.first), Path(args.out)
    if args.dry_run:
        return _dry_run(config, console) if group.first else {}
    console.say(f"run directory: {out}")
    started = time.monotonic()
    losses: list[float] = []
    with console.progress(config.train.steps, "step") as progress:

        def watch(report: Report) -> None:
            losses.append(report.loss)
            recent = losses[-100:]
            progress.advance(report.step - progress.done, f"loss {sum(recent) / len(recent):.4f} lr {report.lr:.1e}")

        saved = train(config, out, resume=args.resume, ranks=group, say=console.say, watch=watch)
    console.say(f"checkpoint: {saved}")
    console.say(f"run directory: {out}")
    seconds = time.monotonic() - started
    return {"run": str(out), "checkpoint": str(saved), "loss": losses[-1] if losses else None, "seconds": seconds}


def _dry_run(config: Any, console: Console) -> dict[str, Any]:
    data, _ = datasets(config)
    config = resolved(config, data)
    figures = estimate(config, data)
    console.say(write(config).rstrip())
    for key, value in figures.items():
        console.say(f"# {key}: {value}")
    return {"config": to_dict(config), "estimate": figures}
