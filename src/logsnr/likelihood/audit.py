"""The accounting of an audit: from what was found for each example to figures that say what they are.

Two standard errors, of two questions. `standard_error`: how far the mean over these examples is from the mean over the
population they were drawn from; the scatter of examples over √N. `monte_carlo_standard_error`: how far it is from the
mean over these very examples with no noise left; the scatter of R independent repeats over √R. Times are stratified
over the examples, so that no formula within one repeat gives the second; with R = 1 it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BINS = 24  # of log-SNR


@dataclass(frozen=True)
class Records:
    """What one estimator found: parts (R, N) nats by name, evaluations (R, N), and levels gamma with nats (R, N, J).

    The last sum over J to the part named `curved`. errors: (R, N) nats by name. All float64 but the evaluations.
    """

    name: str
    parts: Mapping[str, Tensor]
    evaluations: Tensor
    gamma: Tensor
    nats: Tensor
    errors: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """(R, N) nats."""
        return torch.stack(list(self.parts.values())).sum(0)

    @property
    def examples(self) -> Tensor:
        """Mean over repeats, (N,) nats."""
        return self.total.mean(0)

    @property
    def curved(self) -> str:
        """The part whose levels are known."""
        return "flow" if "flow" in self.parts else "diffusion"


@dataclass(frozen=True)
class Units:
    """dims: D. discrete: whether nats are of probabilities, so that bits/dim are meant.

    offset_nats_per_dim: what a density in model units lacks to one in the data's own units, 0 for probabilities.
    """

    dims: int
    discrete: bool
    offset_nats_per_dim: float = 0.0

    @property
    def name(self) -> str:
        """Of `per_dim`."""
        return "bits_per_dim" if self.discrete else "nats_per_dim"

    def per_dim(self, nats: float) -> float:
        """Bits/dim of discrete data, nats/dim in the data's own units of continuous data."""
        return nats / (self.dims * math.log(2)) if self.discrete else nats / self.dims


def figure(values: Tensor, units: Units) -> dict[str, Any]:
    """The mean of (R, N) nats with its two standard errors, in nats and per dimension."""
    repeats, count = values.shape
    error = float(values.mean(0).std()) / math.sqrt(count) if count > 1 else None
    noise = float(values.mean(1).std()) / math.sqrt(repeats) if repeats > 1 else None
    mean = float(values.mean())
    return {
        "nats": mean,
        units.name: units.per_dim(mean),
        f"standard_error_{units.name}": None if error is None else units.per_dim(error),
        f"monte_carlo_standard_error_{units.name}": None if noise is None else units.per_dim(noise),
    }


def summary(records: Records, units: Units) -> dict[str, Any]:
    """Every figure of one estimator, as plain values."""
    parts = dict(records.parts)
    if units.offset_nats_per_dim:
        parts["units"] = torch.full_like(records.total, units.dims * units.offset_nats_per_dim)
    total = figure(torch.stack(list(parts.values())).sum(0), units)
    return {
        "estimator": records.name,
        "repeats": len(records.evaluations),
        "total": total,
        "parts": {name: figure(values, units) for name, values in parts.items()},
        "evaluations_per_example": {
            "mean": float(records.evaluations.double().mean()),
            "largest": int(records.evaluations.max()),
        },
        "curve": curve(records, units),
        "errors": budget(records, units, total),
    }


def curve(records: Records, units: Units, bins: int = BINS) -> dict[str, Any]:
    """The curved part by equal bins of log-SNR, from clean to noisy; bins sum to the part.

    Each has its standard error over the examples. What was read at pure noise, γ = ∞, stands in the last bin.
    """
    gamma, nats = records.gamma, records.nats
    seen = gamma[(nats != 0) & gamma.isfinite()]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 0.0)
    if low == high:  # one level, or pure noise alone
        low, high = low - 0.5, high + 0.5
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    place = (torch.searchsorted(edges, gamma.contiguous(), right=True) - 1).clamp(0, bins - 1)
    found = torch.zeros(*gamma.shape[:2], bins, dtype=torch.float64).scatter_add(2, place, nats).mean(0)
    errors = found.std(0) / math.sqrt(len(found)) if len(found) > 1 else None
    return {
        "part": records.curved,
        "log_snr_edges": (-edges).tolist(),
        units.name: [units.per_dim(float(value)) for value in found.mean(0)],
        f"standard_error_{units.name}": None if errors is None else [units.per_dim(float(e)) for e in errors],
    }


def budget(records: Records, units: Units, total: Mapping[str, Any]) -> dict[str, Any]:
    """What may separate the figure from the one it stands for, cause by cause, per dimension; null where unknown.

    monte_carlo: one standard error over repeats. solver: mean and largest of the estimates of an example's numerical
    error. dequantisation: what K draws gained on one, a lower estimate of what one loses. end_point: the mean of
    KL(q(z_1|x) ‖ p(z_1)), which bounds what the prior's mismatch costs: a part of a bound, not of a flow.
    """
    solver = records.errors.get("solver")
    gained = records.parts.get("importance") if "dequantisation" in records.parts else None
    prior = records.errors.get("end_point", records.parts["prior"])
    return {
        "monte_carlo": total[f"monte_carlo_standard_error_{units.name}"],
        "solver_mean": None if solver is None else units.per_dim(float(solver.mean())),
        "solver_largest": None if solver is None else units.per_dim(float(solver.max())),
        "dequantisation": None if gained is None else units.per_dim(float(-gained.mean())),
        "end_point": units.per_dim(float(prior.mean())),
    }


@dataclass(frozen=True)
class Order:
    """lower <= upper in theory: always ("must"), or with an exact denoiser ("optimal": a violation is the model's).

    kind "same": two estimates of one quantity, which differ by noise alone.
    """

    lower: str
    upper: str
    kind: str
    reason: str


SIGMAS = 3.0


def triangulation(all_records: Mapping[str, Records], orders: list[Order], units: Units) -> list[dict[str, Any]]:
    """Each ordering with the difference of the two, paired example by example, and whether it holds within 3 s.e."""
    rows = []
    for order in orders:
        gap = all_records[order.upper].examples - all_records[order.lower].examples
        mean, error = float(gap.mean()), float(gap.std()) / math.sqrt(len(gap)) if len(gap) > 1 else math.inf
        numerics = sum(
            float(e.mean()) for name in (order.lower, order.upper) for e in all_records[name].errors.values()
        )
        holds = (abs(mean) if order.kind == "same" else -mean) <= SIGMAS * error + numerics
        names = all_records[order.lower].name, all_records[order.upper].name
        lower, upper = (order.lower, order.upper) if names[0] == names[1] else names
        rows.append(
            {
                "lower": lower,
                "upper": upper,
                "kind": order.kind,
                "reason": order.reason,
                f"difference_{units.name}": units.per_dim(mean),
                f"standard_error_{units.name}": units.per_dim(error),
                "holds": holds,
            }
        )
    return rows


def orders(names: Mapping[str, str]) -> list[Order]:
    """The orderings among estimators, asked for by key and named as they call themselves.

    names: key → name. An importance-weighted bound lies below the bound it tightens; with an exact denoiser, a chain of
    more steps lies below one of fewer, continuous time below all, and the flow's density below a bound on it.
    """
    found = list[Order]()
    for lower in names:
        for upper in names:
            a, b = names[lower], names[upper]
            if lower == upper:
                continue
            if a == b and lower < upper:
                found.append(Order(lower, upper, "same", "one quantity, other times and noise"))
            if a.startswith("iwae(") and a.endswith(f"of {b}"):
                found.append(Order(lower, upper, "must", "a mean of whole weights tightens the bound (Jensen)"))
            if a == "vlb(inf)" and b.startswith("vlb(") and a != b:
                found.append(
                    Order(
                        lower,
                        upper,
                        "optimal",
                        "steps are a Riemann sum from above (VDM, app. F), up to their decoders",
                    )
                )
            if a.startswith("ode") and b.startswith("vlb("):
                found.append(
                    Order(
                        lower, upper, "optimal", "a density lies below a bound on it, up to decoder and dequantisation"
                    )
                )
            if a.startswith("ode(") and a.endswith(" draws)") and b == a.split(",")[0] + ")":
                found.append(Order(lower, upper, "must", "more draws of the dequantisation tighten the bound"))
    return found
