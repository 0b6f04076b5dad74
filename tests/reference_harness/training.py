"""Improved DDPM's training losses, and single terms of its bound, at recorded times and noise."""

from __future__ import annotations

import re
from functools import cache, partial

from torch import Tensor

from logsnr.decoders import discretised_gaussian, tanh_log_mass
from logsnr.likelihood import Bound
from logsnr.loss import bits_per_dim
from logsnr.objectives import VLB, Hybrid
from logsnr.objectives.variational import Chain
from logsnr.path import Path
from logsnr.prediction import determinant

from .parts import (
    DTYPES,
    IDDPM_BETAS,
    RULES,
    Recorded,
    Tape,
    dims,
    knots,
    law,
    length,
    matching,
    model,
    rule_on,
    table,
    whole,
)
from .reference import Reference
from .reverse import TARGETS
from .variational import PIXELS

NAMES = r"(PREVIOUS_X|START_X|EPSILON)_(LEARNED_RANGE|LEARNED|FIXED_SMALL|FIXED_LARGE)"


def training_losses(reference: Reference) -> None:
    """`<precision>_<LOSS>_<MEAN>_<VAR>_<loss|mse|vb>`, and `<precision>_vbterms_<MEAN>_<VAR>_clip<0|1>_<what>`."""
    path = table(IDDPM_BETAS["linear"](reference.number("T")))
    index = reference.read("t")
    mse, vb = cache(partial(squared_error, reference, path, index)), cache(partial(vb_term, reference, path, index))
    for match in reference.keys(rf"((f\d\d)_(RESCALED_)?MSE_{NAMES})_loss"):
        key, precision, rescaled, mean, variance = match.groups()
        reference.check(f"{key}_mse", mse(precision, mean), tolerance(precision))
        if RULES[variance].spread:
            hybrid(reference, path, index, key, bool(rescaled))
        else:  # with a fixed variance nothing is added or rescaled
            reference.check(match[0], mse(precision, mean), tolerance(precision))
    for match in reference.keys(rf"(f\d\d)_(RESCALED_)?KL_{NAMES}_loss"):
        precision, rescaled, mean, variance = match.groups()
        data, noise = (reference.read(key, DTYPES[precision]) for key in ("x_start", "noise"))
        stand_in = model(law(reference), path, TARGETS[mean](path), variance=variance)
        loss = VLB(chain_of(path, variance), Recorded(knots(path, index)[0].t))(stand_in, data, Tape(noise))
        # the original leaves the prior's constant out; "rescaled" is the factor T that makes the mean over t a sum
        value = loss.parts["vlb"] if rescaled else loss.parts["vlb"] / length(path)
        reference.check(match[0], value, tolerance(precision))
    for match in reference.keys(rf"((f\d\d)_vbterms_{NAMES}_clip(\d))_(?:output|pred_xstart)"):
        run, precision, mean, variance, clip = match.groups()
        value, x0 = vb(precision, mean, variance, clip=clip == "1")
        reference.check(f"{run}_pred_xstart", x0, tolerance(precision))
        reference.check(f"{run}_output", value, tolerance(precision))


def chain_of(path: Path, variance: str) -> Chain:
    """The original's chain: all knots, its variance by name, the tanh decoder of 8-bit pixels."""
    grid = whole(path)
    return Chain(path, grid, rule_on(grid, variance), discretised_gaussian(PIXELS, tanh_log_mass))


def hybrid(reference: Reference, path: Path, index: Tensor, key: str, rescaled: bool) -> None:
    """L_hybrid: λ = 0.001 where "rescaled" (which writes λT as T/1000), 1/T where not; MSE in the network's own target.

    The library's weight is on the ε error, so an error in another target is a weight (Δ/α)².
    """
    precision, mean, variance = re.fullmatch(rf"(f\d\d)_(?:RESCALED_)?MSE_{NAMES}", key).groups()
    data, noise = (reference.read(name, DTYPES[precision]) for name in ("x_start", "noise"))
    target = TARGETS[mean](path)
    loss = Hybrid(
        chain_of(path, variance),
        lambda path, level: (determinant(level, target(level)) / level.alpha) ** 2,
        Recorded(knots(path, index)[0].t),
        vlb_weight=0.001 if rescaled else 1 / length(path),
    )(model(law(reference), path, target, variance=variance), data, Tape(noise))
    added = loss.parts["vlb"] * (0.001 if rescaled else 1 / length(path))
    reference.check(f"{key}_loss", loss.total, tolerance(precision))
    reference.check(f"{key}_vb", added, tolerance(precision))


def tolerance(precision: str) -> float:
    return 1e-10 if precision == "f64" else 1e-5


def squared_error(reference: Reference, path: Path, index: Tensor, precision: str, mean: str) -> Tensor:
    """Mean squared error in what the network predicts: (Δ/α)² times the library's, which is always in ε."""
    data, noise = (reference.read(key, DTYPES[precision]) for key in ("x_start", "noise"))
    target, level = TARGETS[mean](path), knots(path, index)[0]
    unweighted = matching(path, model(law(reference), path, target), data, noise, level.t).unweighted
    return unweighted * ((determinant(level, target(level)) / level.alpha) ** 2).to(unweighted)


def vb_term(
    reference: Reference, path: Path, index: Tensor, precision: str, mean: str, variance: str, *, clip: bool
) -> tuple[Tensor, Tensor]:
    """One term of the bound an example, in bits/dim, with the tanh decoder at index 0; and x̂0."""
    data, noise = (reference.read(key, DTYPES[precision]) for key in ("x_start", "noise"))
    stand_in = model(law(reference), path, TARGETS[mean](path), clip=clip, variance=variance)
    level, ours = knots(path, index)[0], chain_of(path, variance)
    terms = Bound(ours.grid, path.prior_std, ours.rule, ours.decoder)
    value = terms.term(stand_in, data, noise, terms.steps - 1 - index)
    return bits_per_dim(value, dims(data)), stand_in(level.perturb(data, noise), level).x0
