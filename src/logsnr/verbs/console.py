"""What a verb says: a bar on a terminal, quiet lines elsewhere, and nothing but JSON on standard output with --json."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


class Console:
    """Lines to standard output, or to standard error when that is kept for JSON. silent: says nothing at all."""

    def __init__(self, args: Namespace, *, silent: bool = False) -> None:
        self.silent = silent
        self.stream = sys.stderr if args.json else sys.stdout
        self.bars = sys.stderr.isatty() and not args.quiet and not silent
        self.lines = not self.bars and not args.quiet and not silent

    def say(self, text: str) -> None:
        """One line."""
        if self.silent:
            return
        with tqdm.external_write_mode(file=self.stream):
            print(text, file=self.stream, flush=True)

    @contextmanager
    def progress(self, total: int, what: str, *, start: int = 0, every_seconds: float = 15.0) -> Iterator[Progress]:
        """A bar of `total` units; where there is no terminal, a line every so often."""
        bar = tqdm(total=total, initial=start, desc=what, disable=not self.bars, file=sys.stderr, dynamic_ncols=True)
        try:
            yield Progress(self, bar, f"{what} {{}}/{total}", start, every_seconds)
        finally:
            bar.close()


class Progress:
    """Moves a bar, or prints a line when one is due. line: a format for the number done."""

    def __init__(self, console: Console, bar: Any, line: str, start: int, every_seconds: float) -> None:
        self.console, self.bar, self.line, self.every = console, bar, line, every_seconds
        self.done, self.last = start, time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count units done; `note` stands beside the bar."""
        self.done += count
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(count)
        if self.console.lines and time.monotonic() - self.last > self.every:
            self.last = time.monotonic()
            self.console.say(f"{self.line.format(self.done)} {note}".rstrip())
