"""All findings as docs/gallery.md; `benchmarks/gallery.py` writes it and the pictures beside it."""

from __future__ import annotations

from typing import Any

from logsnr.gallery.catalogue import exhibit
from logsnr.gallery.page import figure, provenance
from logsnr.gallery.prose import cell, prose
from logsnr.gallery.show import HOLDS, PAPERS

INTRODUCTION = """# The gallery

Each claim of the papers as something that runs, can fail, and was run: a picture, its figures, and the lines that make
it. `logsnr gallery --list` names them, `logsnr gallery G7 --seed 3` runs one with other data, noise and weights, and
`logsnr gallery --all` makes this page on your machine. What is commonly written wrong is on
[a page of its own](errata.md).
"""


def markdown(shown: list[dict[str, Any]]) -> str:
    """The document. `again` of a finding holds those of other seeds; pictures are beside it in gallery/."""
    held = sum(finding["verdict"] == HOLDS for finding in shown)
    lines = [INTRODUCTION, f"{held} of {len(shown)} hold. {provenance(shown)}", ""]
    lines += ["| | claim | figure | bar | verdict | seconds |", "|---|---|---|---|---|---|"]
    for f in shown:
        anchor = f"[{f['name']}](#{f['name'].lower()})"
        lines.append(
            f"| {anchor} | {cell(f['title'])} | {figure(f)} | {f['bar']} | {f['verdict']} | {f['seconds']:.0f} |"
        )
    for finding in shown:
        lines += _chapter(finding)
    return "\n".join(lines) + "\n"


def _chapter(finding: dict[str, Any]) -> list[str]:
    each, name = exhibit(finding["name"]), finding["name"]
    light, dark = (f"gallery/{PAPERS[paper].format(name)}" for paper in ("light", "dark"))
    again = ", ".join(f"{other['seed']} ({_other(other)})" for other in finding["again"])
    return [
        "",
        f'<a id="{name.lower()}"></a>',
        "",
        f"## {name}: {prose(each.title, '`{}`')}",
        "",
        f"{each.source}; [equations](equations.md) {', '.join(each.equations)}.",
        "",
        prose(each.claim, "`{}`"),
        "",
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">',
        f'<img src="{light}" alt="{each.title}"></picture>',
        "",
        "| | figure | bar | |",
        "|---|---|---|---|",
        *(_row(check) for check in finding["checks"]),
        "",
        *([f"With other seeds: {again}.", ""] if again else []),
        f"`logsnr gallery {name}`, at its heart:",
        "",
        "```py",
        each.source_code.rstrip(),
        "```",
    ]


def _row(check: dict[str, Any]) -> str:
    return f"| {cell(check['what'])} | {figure(check)} | {check['bar']} | {'✓' if check['holds'] else '✗'} |"


def _other(finding: dict[str, Any]) -> str:
    verdict = "" if finding["verdict"] == HOLDS else f", {finding['verdict']}"
    return f"{figure(finding)}{verdict}"
