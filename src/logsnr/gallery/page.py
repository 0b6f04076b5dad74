"""All findings on one page: HTML with its pictures in it."""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import Any

from logsnr.files import whole
from logsnr.gallery.catalogue import NAMES, exhibit
from logsnr.gallery.prose import prose
from logsnr.gallery.show import HOLDS, PAPERS

PAGE = "index.html"
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --faint: #666; --line: #ddd; --good: #00734f;
        --bad: #b34700 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e8e8e8; --faint: #a8a8a8; --line: #3a3f44; --good: #2fc79a; --bad: #ff8c42 }
}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
       max-width: 62rem; padding: 0 1rem }
section { border-top: 1px solid var(--line); margin-top: 2.5rem }
img { display: block; height: auto; max-width: 100% }
table { border-collapse: collapse; font-size: .9rem } td, th { padding: .15rem .8rem .15rem 0; text-align: left;
       vertical-align: top } td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
.source, footer { color: var(--faint); font-size: .9rem } .holds { color: var(--good) } .missed { color: var(--bad) }
pre { background: color-mix(in srgb, var(--ink) 7%, var(--paper)); overflow-x: auto; padding: .8rem; font-size: .82rem }
"""


def findings(out: Path) -> list[dict[str, Any]]:
    """Those of a directory, in the order of their names."""
    files = [out / f"{name}.json" for name in NAMES]
    return [json.loads(file.read_text()) for file in files if file.is_file()]


def write_page(out: Path) -> Path:
    """`index.html` of a directory's findings; it needs no other file."""
    shown = findings(out)
    rows = "".join(
        f'<tr><td><a href="#{f["name"]}">{f["name"]}</a></td><td>{prose(f["title"])}</td>'
        f"<td>{_verdict(f['verdict'] == HOLDS, f['verdict'])}</td></tr>"
        for f in shown
    )
    sections = "".join(_section(finding, out) for finding in shown)
    held = sum(finding["verdict"] == HOLDS for finding in shown)
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>logsnr gallery</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>The gallery</h1><p>{held} of {len(shown)} claims hold.</p><table>{rows}</table>{sections}"
        f"<footer>{html.escape(provenance(shown))}</footer></html>\n"
    )
    with whole(out / PAGE) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return out / PAGE


def provenance(shown: list[dict[str, Any]]) -> str:
    """Seeds, versions and time of findings, in a sentence."""
    seeds = sorted({finding["seed"] for finding in shown})
    versions = sorted({f"logsnr {f['versions']['logsnr']}, torch {f['versions']['torch']}" for f in shown})
    minutes = sum(finding["seconds"] for finding in shown) / 60
    return f"Seed {', '.join(map(str, seeds))}; {'; '.join(versions)}; {minutes:.0f} minutes in all."


def figure(check: dict[str, Any]) -> str:
    """A check's figure with its standard error."""
    error = check["standard_error"]
    value = "none" if check["figure"] is None else f"{check['figure']:.4g}"
    return value + (f" ± {error:.2g}" if error is not None else "")


def _verdict(good: bool, text: str) -> str:
    return f'<b class="{"holds" if good else "missed"}">{"✓" if good else "✗"} {text}</b>'


def _section(finding: dict[str, Any], out: Path) -> str:
    each, name = exhibit(finding["name"]), finding["name"]
    light, dark = (
        "data:image/png;base64," + base64.b64encode((out / PAPERS[paper].format(name)).read_bytes()).decode()
        for paper in ("light", "dark")
    )
    claim = "".join(f"<p>{prose(paragraph)}</p>" for paragraph in each.claim.split("\n\n"))
    checks = "".join(
        f'<tr><td>{prose(check["what"])}</td><td class="number">{figure(check)}</td><td>{check["bar"]}</td>'
        f"<td>{_verdict(check['holds'], '')}</td></tr>"
        for check in finding["checks"]
    )
    return (
        f'<section id="{name}"><h2>{name} {prose(each.title)}</h2>'
        f'<p class="source">{prose(each.source)} · {", ".join(each.equations)}</p>{claim}'
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{html.escape(each.title)}"></picture>'
        f"<table><tr><th>figure</th><th></th><th>bar</th><th></th></tr>{checks}</table>"
        f"<pre>{html.escape(each.source_code)}</pre></section>"
    )
