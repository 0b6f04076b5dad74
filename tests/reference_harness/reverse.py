"""p(x_{t−1} | x_t): what a network of each kind says of the mean, the variance and x̂0."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from logsnr.denoiser import Clipped
from logsnr.kernels import posterior_coefficients, reverse, small
from logsnr.level import Level
from logsnr.path import Path
from logsnr.prediction import Direction, Target, eps, x0

from .parts import DTYPES, IDDPM_BETAS, knots, law, length, model, rule_on, table, whole
from .reference import Reference


def previous_x(path: Path) -> Target:
    """PREVIOUS_X, the posterior mean at the knot below, as a direction: c_x (α x0 + σ ε) + c_x0 x0. Parity only."""

    def target(level: Level) -> Direction:
        index = (level.t * length(path)).round() - 1
        of_x, of_x0 = posterior_coefficients(*knots(path, index))
        return Direction(of_x * level.alpha + of_x0, of_x * level.sigma)

    return target


TARGETS: dict[str, Callable[[Path], Target]] = {
    "EPSILON": lambda path: eps,
    "START_X": lambda path: x0,
    "PREVIOUS_X": previous_x,
}


def p_mean_variance(reference: Reference) -> None:
    """Improved DDPM's p_mean_variance: `<precision>_<MEAN>_<VAR>_clip<0|1>_<what>`."""
    path = table(IDDPM_BETAS["linear"](reference.number("T")))
    index = reference.read("t")
    pattern = r"((f\d\d)_(EPSILON|START_X|PREVIOUS_X)_(FIXED_SMALL|FIXED_LARGE|LEARNED_RANGE|LEARNED)_clip(\d))_mean"
    for match in reference.keys(pattern):
        values = kernel(reference, path, index, DTYPES[match[2]], match[3], match[4], clip=match[5] == "1")
        for what, value in values.items():
            reference.check(f"{match[1]}_{what}", value, tolerance(match[2], match[3], what))


def tolerance(precision: str, mean: str, what: str) -> float:
    """The float32 originals lose most where x̂0 is divided by a small number."""
    if precision == "f64":
        return 1e-10
    if what == "pred_xstart":
        return 7e-3 if mean == "PREVIOUS_X" else 1e-3
    return 1e-5


def kernel(
    reference: Reference, path: Path, index: Tensor, dtype: torch.dtype, mean: str, variance: str, *, clip: bool
) -> dict[str, Tensor]:
    """Mean, x̂0 and both recorded forms of the variance."""
    t, s = knots(path, index)
    x = reference.read("x_t", dtype)
    raw = model(law(reference), path, TARGETS[mean](path), variance=variance)
    prediction = (Clipped(raw, -1.0, 1.0) if clip else raw)(x, t)
    rule = rule_on(whole(path), variance)
    # the original takes a network's x_{t−1} as the mean even where it clips the x̂0 that the mean implies
    p = reverse(raw(x, t) if mean == "PREVIOUS_X" else prediction, s, rule)
    # at t = 0 the original's small pair is inconsistent: variance 0, but the logarithm of the floor
    exact = small(prediction, t, s) if variance == "FIXED_SMALL" else p.log_var
    return {
        "mean": p.mean,
        "pred_xstart": prediction.x0,
        "log_variance": p.log_var.expand_as(x),
        "variance": exact.exp().expand_as(x),
    }
