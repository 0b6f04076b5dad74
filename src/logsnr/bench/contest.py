"""Contenders in processes of their own, let go in turn."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from types import TracebackType
from typing import Any

READY_SECONDS = 900


@dataclass(frozen=True)
class Turn:
    """One piece of work: its seconds, whatever it has to show, and the most memory its process had until then."""

    seconds: float
    shown: Any = None
    peak_bytes: int = 0


class Contender:
    """The process of `name` (`contenders.CONTENDERS`), ready to work; a context manager that ends it.

    facts: what it says of itself: versions, precision, threads, units of work a turn. RuntimeError with its last words
    if it dies.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._errors = (folder / f"{name.replace('/', '-')}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "logsnr.bench.contenders", name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.facts: dict[str, Any] = self._answer()

    def turn(self) -> Turn:
        """Let it work once."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return Turn(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no word"])[-1]
            raise RuntimeError(f"contender {self.name} ended with status {self._process.returncode}: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()


@dataclass
class Outcome:
    """The turns of one contender, and what it said of itself."""

    facts: dict[str, Any]
    seconds: list[float] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    peak_bytes: int = 0

    def record(self) -> dict[str, Any]:
        """Of JSON values."""
        units = self.facts.get("units", 1)
        speed = {"units_per_second": units / median(self.seconds), "peak_bytes": self.peak_bytes}
        return {**self.facts, **spread(self.seconds, "seconds"), **speed}


def contest(
    names: Sequence[str], folder: Path, *, turns: int, warm_up: int = 2, say: Callable[[str], None] = lambda text: None
) -> dict[str, Outcome]:
    """`turns` turns of each of the contenders, one after the other, after `warm_up` that are not counted."""
    running: list[Contender] = []
    try:
        for name in names:
            try:
                running.append(Contender(name, folder))
                say(f"{name} is ready")
            except RuntimeError as error:  # a peer that does not run here is no reason to measure nothing
                say(f"left out: {error}")
        outcomes = {contender.name: Outcome(contender.facts) for contender in running}
        for count in range(warm_up + turns):
            for contender in running:
                turn = contender.turn()
                if count >= warm_up:
                    outcomes[contender.name].seconds.append(turn.seconds)
                    outcomes[contender.name].shown.append(turn.shown)
                outcomes[contender.name].peak_bytes = turn.peak_bytes
        return outcomes
    finally:
        for contender in running:
            contender.__exit__(None, None, None)


def ratio(ours: Outcome, theirs: Outcome) -> dict[str, Any]:
    """How many times as fast the first is: of every pair of neighbouring turns, per unit of work."""
    units = ours.facts.get("units", 1) / theirs.facts.get("units", 1)
    pairs = [units * b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    return spread(pairs, "ratio")


def spread(values: Sequence[float], name: str) -> dict[str, Any]:
    """Median, quartiles and number of some values, under names that begin with `name`."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {f"{name}_median": median(values), f"{name}_quartiles": [low, high], "turns": len(values)}


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines of a Markdown table whose columns are the keys of the first row."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]
