"""Sentences with formulas in plain text, x_{t−1} and σ²_{t|s}: subscripts set low, in HTML and in pictures."""

from __future__ import annotations

import html
import re

_SUBSCRIPT = re.compile(r"(?<=\S)_(?:\{([^}]*)\}|([A-Za-z0-9α-ω∞]+))")


def prose(text: str, code: str = "<code>{}</code>") -> str:
    """Escaped, with <sub>; `code` is what becomes of a name in backticks."""
    parts = html.escape(text, quote=False).split("`")
    parts[::2] = [_SUBSCRIPT.sub(lambda found: f"<sub>{found[1] or found[2]}</sub>", part) for part in parts[::2]]
    parts[1::2] = [code.format(part) for part in parts[1::2]]
    return "".join(parts)


def cell(text: str) -> str:
    """`prose` within a cell of a Markdown table."""
    return prose(text, "`{}`").replace("|", "&#124;")


def mathtext(text: str) -> str:
    """The same in a picture; a text that has mathematics of its own, between $, is left as it is."""
    return text if "$" in text else _SUBSCRIPT.sub(lambda found: f"$_{{{found[1] or found[2]}}}$", text)
