"""The command line: no logic, and nothing heavy is imported before a verb runs. The flags are in `verbs.flags`.

Precedence is flag > --set > --config > recipe > default. Errors are one line on standard error: exit status 2 for what
was asked wrongly, 1 for what failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from logsnr import __version__
from logsnr.records import json_text
from logsnr.verbs.flags import VERBS


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and to which an abbreviation is an unknown flag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        if os.environ.get("RANK", "0") != "0":  # all ranks were asked the same
            raise SystemExit(2)
        fail(f"{' '.join(message.split())} (try {self.prog} --help)", 2)


def fail(message: str, status: int) -> NoReturn:
    """One line on standard error, and out."""
    who = f" rank {os.environ['RANK']}:" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    print(f"logsnr:{who} {message}", file=sys.stderr)
    raise SystemExit(status)


def parser() -> Parser:
    """The whole command line."""
    root = Parser(prog="logsnr", description="Every diffusion model is a denoiser and a log-SNR curve.")
    root.add_argument("--version", action="version", version=f"logsnr {__version__}")
    verbs = root.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (text, flags) in VERBS.items():
        flags(verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    args = parser().parse_args(argv)
    try:
        result: dict[str, Any] = import_module(f"logsnr.verbs.{args.verb.replace('-', '_')}").run(args)
    except (ValueError, OSError, ArithmeticError, RuntimeError, MemoryError) as error:
        if os.environ.get("LOGSNR_TRACEBACK"):
            raise
        wrong = isinstance(error, (ValueError, FileNotFoundError))
        fail(" ".join(str(error).split()), 2 if wrong else 1)
    except KeyboardInterrupt:
        return 130
    if args.json:
        print(json_text(result), end="")
    return int(result.get("status", 0))


if __name__ == "__main__":
    sys.exit(main())
