"""Kinds of values that flags take: text to value, or what is allowed. Nothing heavy is imported here."""

from __future__ import annotations

import argparse


def size(text: str) -> tuple[int, ...]:
    """`N` or `HxW`."""
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; allowed: N or HxW, e.g. 32 or 37x53")
    return sides * 2 if len(sides) == 1 else sides


def names(text: str) -> list[str]:
    """`A,B,…`."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: one or more names, A,B")
    return found


def steps(text: str) -> int | str:
    """A number of steps, or text for the grid: `10,15,20` in equal sections, `ddim25`."""
    try:
        return int(text)
    except ValueError:
        if not text.removeprefix("ddim").replace(",", "").isdigit():
            allowed = "a number, counts of equal sections as 10,15,20, or ddim25"
            raise argparse.ArgumentTypeError(f"{text!r} is no number of steps; allowed: {allowed}") from None
        return text


def index_range(text: str) -> tuple[int, int]:
    """`I:J`, the examples I … J − 1."""
    first, colon, last = text.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range; allowed: I:J with 0 <= I < J, e.g. 5:8")
    return int(first), int(last)
