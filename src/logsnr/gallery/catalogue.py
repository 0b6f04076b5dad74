"""Which demonstrations there are: the files g01_….py to g25_….py of this room."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from logsnr.gallery.exhibit import Exhibit

FILES = sorted(file.stem for file in Path(__file__).parent.glob("g[0-9][0-9]_*.py"))
NAMES = {f"G{int(stem[1:3])}": stem for stem in FILES}


def exhibit(name: str) -> Exhibit[Any]:
    """The demonstration of that name, "G7", "g07" or "g07_invariance". ValueError lists the known ones."""
    number = re.match(r"[gG]0*(\d+)(_|$)", name)
    key = f"G{number[1]}" if number else name
    if key not in NAMES:
        raise ValueError(f"unknown demonstration {name!r}; known: {', '.join(NAMES)}")
    found: Exhibit[Any] = import_module(f"logsnr.gallery.{NAMES[key]}").EXHIBIT
    return found


def exhibits() -> list[Exhibit[Any]]:
    """All of them, in order."""
    return [exhibit(name) for name in NAMES]
