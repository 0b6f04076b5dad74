"""The bound in continuous time for any model on any path: vlb(inf) (V6, V7; VDM, eq. 15 and 18).

    −log p(x) <= KL(q(z_1|x) ‖ p(z_1)) + E[−log p(x|z_0)] + ½ E ∫ |ε − ε̂(z_γ)|² dγ

The integral runs over γ from the path's lowest finite level to its highest; the schedule that visits them is a means of
estimating it, and any will do: at uniform t the estimate is ½ γ′(t)|ε − ε̂|², whose mean is the same for all and whose
variance is least where γ spends its time in proportion to √E[h²|γ], h = ½|ε − ε̂|² (VDM, section 5.3). So importance
sampling of times is another schedule (`fitted_schedule`), with stratified t.

A path that reaches pure noise (γ = ∞) is entered at γ = `HIGHEST`, where the prior's divergence is below e^−20 |x|².
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.likelihood.bound import VDMBound
from logsnr.objectives import VDM, Setting, Uniform
from logsnr.objectives.weights import simple
from logsnr.path import Path
from logsnr.schedules import Fitted, Linear, NoiseSchedule, of_density

HIGHEST = 20.0
BINS = 64
UNIFORM_SHARE = 0.1  # of the fitted density: no weight is above ten times that of the linear schedule


def ends(path: Path) -> tuple[float, float]:
    """(lowest, highest) γ of the integral."""
    return float(path.lowest.gamma.detach()), min(float(path.highest.gamma.detach()), HIGHEST)


def vlb_inf(
    path: Path,
    variance: str,
    lattice: Lattice | None,
    *,
    times: str = "linear",
    knots: Sequence[Sequence[float]] | None = None,
) -> VDMBound:
    """vlb(inf) of a path; times: the schedule that draws t, "own", "linear" in γ, or "fitted" with its (t, γ) knots.

    variance: of the reverse kernel, which continuous time does not have. ValueError for times unknown, and for "own" of
    a table or of a path that reaches pure noise.
    """
    low, high = ends(path)
    schedules: dict[str, NoiseSchedule] = {"own": path.schedule, "linear": Linear(low, high)}
    if knots is not None:
        schedules["fitted"] = Fitted(*zip(*knots, strict=True))
    if times not in schedules or (times == "own" and (path.schedule.steps or high < float(path.highest.gamma))):
        raise ValueError(
            f"times {times!r} of vlb_inf; allowed: linear, fitted with its knots, own of a schedule in continuous time "
            "with finite ends"
        )
    drawn = Path(schedules[times], path.scale)
    return VDMBound(VDM(Setting(drawn, simple, Uniform(drawn.schedule), variance, lattice), unit="nats"))


def fitted_schedule(gamma: Tensor, nats: Tensor, low: float, high: float, bins: int = BINS) -> Fitted:
    """The variance-minimising schedule of draws of vlb_inf with "linear" times: density ∝ √E[h²|γ] (V9b, post hoc).

    gamma, nats: (n,) levels and what was found there. E[h²|γ] is the mean of squares over `bins` equal bins of γ, then
    over each bin and its neighbours, on the log scale; an empty bin takes the values beside it. ValueError for fewer
    draws than bins.
    """
    if len(gamma) < bins:
        raise ValueError(f"{len(gamma)} draws for {bins} bins of γ; allowed: at least one a bin, better thirty")
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    place = (torch.searchsorted(edges, gamma.double(), right=True) - 1).clamp(0, bins - 1)
    count = torch.zeros(bins, dtype=torch.float64).index_add(0, place, torch.ones(len(place), dtype=torch.float64))
    square = torch.zeros(bins, dtype=torch.float64).index_add(0, place, nats.double() ** 2)
    moment = 0.5 * torch.log((square / count.clamp(min=1)).clamp(min=1e-300))
    known = count > 0
    moment = torch.from_numpy(np.interp(torch.arange(bins), known.nonzero().squeeze(1), moment[known]))
    around = torch.cat([moment[:1], moment, moment[-1:]])
    density = torch.exp((around[:-2] + around[1:-1] + around[2:]) / 3)
    density = density / density.mean()
    return of_density(edges, (1 - UNIFORM_SHARE) * density + UNIFORM_SHARE)
