"""`logsnr explain`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from logsnr.report.choices import choices
from logsnr.report.explain import draw, figures
from logsnr.run import checks
from logsnr.verbs.console import Console
from logsnr.verbs.layers import configuration


def run(args: Namespace) -> dict[str, Any]:
    """Print the figures of a recipe; draw its curves if told where."""
    config, console = configuration(args), Console(args)
    checks.check(config, None)
    result = figures(config)
    if vars(args)["data.source"]:
        result |= choices(config)
    for key, value in result.items():
        console.say(f"{key:>46}  {value:.6g}" if isinstance(value, float) else f"{key:>46}  {value}")
    if args.out:
        console.say(f"drew {draw(config, Path(args.out))}")
    return result
