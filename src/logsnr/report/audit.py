"""What an audit's records say beyond their mean: classes, extremes, and what is unlike the data.

A low likelihood is a poor sign of foreign data: models of photographs give plain pictures more than their own kind
(Nalisnick et al. 2019). What foreign data has is an *untypical* likelihood, too low or too high. The score here is the
distance from the median of held-out data, and its p-value a rank among those (conformal: exact for exchangeable data).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from logsnr.files import whole


def per_class(values: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Mean of values (N,) over each class with its standard error; labels (N,) index `classes`."""
    rows = []
    for number, name in enumerate(classes):
        own = values[labels == number]
        if len(own):
            error = float(own.std(ddof=1)) / math.sqrt(len(own)) if len(own) > 1 else None
            rows.append({"class": name, "examples": len(own), "mean": float(own.mean()), "standard_error": error})
    return rows


def extremes(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the hardest (largest) and the easiest values (N,), in that order, at most N/2 of each."""
    order, count = np.argsort(values, kind="stable"), min(count, len(values) // 2)
    return order[::-1][:count], order[:count]


def typicality(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """p-values (M,) of values among reference (N,): (1 + #{as far from the median})/(N + 1), small where untypical."""
    middle = np.median(reference)
    off = np.sort(np.abs(reference - middle))
    as_far = len(off) - np.searchsorted(off, np.abs(values - middle), side="left")
    return np.asarray((1 + as_far) / (len(off) + 1))


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The chance that a score of `outside` is above one of `inside`, ties counted half (Mann and Whitney 1947)."""
    ordered = np.sort(inside)
    below = np.searchsorted(ordered, outside, side="left")
    ties = np.searchsorted(ordered, outside, side="right") - below
    return float((below + 0.5 * ties).mean() / len(inside))


def foreign(inside: np.ndarray, outside: np.ndarray, seed: int) -> dict[str, Any]:
    """How well values of held-out data and of other data are told apart, in the unit of both.

    Half of the held-out values, drawn by the seed, calibrate; the other half and the other data are judged.
    """
    shuffled = np.random.default_rng(seed).permutation(inside)
    reference, judged = shuffled[: len(inside) // 2], shuffled[len(inside) // 2 :]
    p_inside, p_outside = typicality(reference, judged), typicality(reference, outside)
    return {
        "calibrated_on": len(reference),
        "judged_inside": len(judged),
        "judged_outside": len(outside),
        "auroc_likelihood": auroc(judged, outside),
        "auroc_typicality": auroc(-p_inside, -p_outside),
        "flagged_at_5_percent_inside": float((p_inside <= 0.05).mean()),
        "flagged_at_5_percent_outside": float((p_outside <= 0.05).mean()),
    }


def draw_curves(path: Path, summaries: Mapping[str, Mapping[str, Any]], unit: str) -> Path:
    """Each estimator's curve by log-SNR, per unit of log-SNR, with two standard errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for summary in summaries.values():
        curve = summary["curve"]
        edges, height = np.array(curve["log_snr_edges"]), np.array(curve[unit])
        width, middle = np.abs(np.diff(edges)), 0.5 * (edges[1:] + edges[:-1])
        (line,) = axes.plot(middle, height / width, label=f"{summary['estimator']}: {curve['part']}")
        if curve[f"standard_error_{unit}"] is not None:
            error = 2 * np.array(curve[f"standard_error_{unit}"])
            axes.fill_between(
                middle, (height - error) / width, (height + error) / width, alpha=0.2, color=line.get_color()
            )
    axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(xlabel="log SNR (noise left, data right)", ylabel=f"{unit.replace('_', ' ')} per unit of log SNR")
    axes.legend()
    with whole(path) as fresh:
        figure.savefig(fresh, format="png")
    return path
