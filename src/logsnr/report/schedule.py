"""A fitted schedule as a picture."""

from __future__ import annotations

from pathlib import Path as File

import torch

from logsnr.files import whole
from logsnr.likelihood.continuous import ends
from logsnr.path import Path
from logsnr.run.fit import Fit
from logsnr.schedules import Fitted

BINS = 32


@torch.no_grad()
def draw_fit(out: File, path: Path, fit: Fit) -> File:
    """Two panels: γ(t), fitted, linear and the run's own; and the integrand h by log-SNR, its mean and √E[h²]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    low, high = ends(path)
    t = torch.linspace(max(path.schedule.t_min, 0.0), 1, 257, dtype=torch.float64)
    own = path.schedule(t).clamp(low, high)
    left.plot(t, own, "--", label="the run's own")
    left.plot([0, 1], [low, high], ":", label="linear")
    left.plot(t, Fitted(*zip(*fit.knots, strict=True))(t), label="fitted")
    left.set(xlabel="t (0 data, 1 noise)", ylabel="γ = −log SNR")
    left.legend()
    gamma, h = fit.pilot.gamma.flatten(), fit.pilot.nats.flatten() / (high - low)
    edges = torch.linspace(low, high, BINS + 1, dtype=torch.float64)
    place = (torch.searchsorted(edges, gamma, right=True) - 1).clamp(0, BINS - 1)
    count = torch.bincount(place, minlength=BINS).clamp(min=1)
    mean = torch.zeros(BINS, dtype=torch.float64).index_add(0, place, h) / count
    square = torch.zeros(BINS, dtype=torch.float64).index_add(0, place, h**2) / count
    middle = -0.5 * (edges[1:] + edges[:-1])
    right.plot(middle, mean, label="mean")
    right.plot(middle, square.sqrt(), label="√E[h²], the fitted density")
    right.set(xlabel="log SNR (noise left, data right)", ylabel="h = ½|ε − ε̂|², nats per unit of log SNR")
    right.legend()
    with whole(out) as fresh:
        figure.savefig(fresh, format="png")
    return out
