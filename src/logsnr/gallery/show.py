"""One demonstration run: a finding as plain values, and its picture on light and on dark paper."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from logsnr import __version__
from logsnr.files import whole
from logsnr.gallery import style
from logsnr.gallery.exhibit import Exhibit, Setting
from logsnr.gallery.prose import mathtext
from logsnr.records import json_text

HOLDS, NOT_CONFIRMED = "holds", "not confirmed"
PAPERS = {"light": "{}.png", "dark": "{}-dark.png"}


def show(exhibit: Exhibit[Any], setting: Setting, out: Path) -> dict[str, Any]:
    """Measure, check and draw; writes NAME.json, NAME.png and NAME-dark.png to `out`, returns the finding.

    The figure that stands for the finding is that of its first check, or of the first one that does not hold.
    """
    started = time.perf_counter()
    found = exhibit.measure(setting)
    checks = exhibit.checks(found)
    seconds = time.perf_counter() - started
    missed = [check for check in checks if not check.holds]
    first = (missed or checks)[0].record()
    finding = {
        "name": exhibit.name,
        "title": exhibit.title,
        **{key: first[key] for key in ("what", "figure", "standard_error", "bar")},
        "verdict": NOT_CONFIRMED if missed else HOLDS,
        "seconds": round(seconds, 1),
        "seed": setting.seed,
        "size": setting.of("full", "reduced"),
        "checks": [check.record() for check in checks],
        "versions": {"logsnr": __version__, "torch": torch.__version__},
        "threads": torch.get_num_threads(),
    }
    for paper, name in PAPERS.items():
        picture(exhibit, found, paper, out / name.format(exhibit.name))
    with whole(out / f"{exhibit.name}.json") as fresh:
        fresh.write_text(json_text(finding))
    return finding


def picture(exhibit: Exhibit[Any], found: Any, paper: str, file: Path) -> None:
    """Draw what was found on one kind of paper."""
    with style.on(paper):
        figure = Figure()
        FigureCanvasAgg(figure)
        exhibit.draw(found, figure)
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if (set_low := [mathtext(label) for label in labels]) != labels:  # written by hand, at fixed places
                axis.set_ticklabels(set_low)
        for text in figure.findobj(Text):
            text.set_text(mathtext(text.get_text()))
        with whole(file) as fresh:
            figure.savefig(fresh, format="png")


def line(finding: dict[str, Any]) -> str:
    """The finding in one line."""
    error = finding["standard_error"]
    figure = f"{finding['figure']:.4g}" + (f" ± {error:.2g}" if error is not None else "")
    verdict = f"{finding['name']:>4} {finding['verdict']:<13} {finding['seconds']:6.1f} s"
    return f"{verdict}  {finding['what']}: {figure} ({finding['bar']})"
