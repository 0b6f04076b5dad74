"""Improved DDPM's training losses, and single terms of its bound, at recorded times and noise."""

from __future__ import annotations

from functools import cache, partial

from torch import Tensor

from logsnr.decoders import discretised_gaussian, tanh_log_mass
from logsnr.likelihood import bound
from logsnr.loss import bits_per_dim
from logsnr.path import Path
from logsnr.prediction import determinant

from .parts import DTYPES, IDDPM_BETAS, LEARNED, dims, knots, law, length, matching, model, table, whole
from .reference import Reference
from .reverse import TARGETS, VARIANCES
from .variational import PIXELS

NAMES = r"(PREVIOUS_X|START_X|EPSILON)_(LEARNED_RANGE|LEARNED|FIXED_SMALL|FIXED_LARGE)"


def training_losses(reference: Reference) -> None:
    """`<precision>_<LOSS>_<MEAN>_<VAR>_<loss|mse|vb>`, and `<precision>_vbterms_<MEAN>_<VAR>_clip<0|1>_<what>`."""
    path = table(IDDPM_BETAS["linear"](reference.number("T")))
    index = reference.read("t")
    reference.leave(r"f\d\d_(RESCALED_)?(MSE|KL)_[A-Z_]+_LEARNED(_RANGE)?_(loss|vb)", LEARNED)
    reference.leave(r"f\d\d_vbterms_[A-Z_]+_LEARNED(_RANGE)?_clip\d_output", LEARNED)
    mse, vb = cache(partial(squared_error, reference, path, index)), cache(partial(vb_term, reference, path, index))
    for match in reference.keys(rf"(f\d\d)_(?:RESCALED_)?MSE_{NAMES}_(mse|loss)"):
        precision, mean, variance, what = match.groups()
        if what == "mse" or variance in VARIANCES:  # with a fixed variance nothing is added or rescaled
            reference.check(match[0], mse(precision, mean), tolerance(precision))
    for match in reference.keys(rf"(f\d\d)_(RESCALED_)?KL_{NAMES}_loss"):
        precision, rescaled, mean, variance = match.groups()
        if variance in VARIANCES:
            value, _ = vb(precision, mean, variance, clip=False)
            # "rescaled" makes the mean over t a sum
            value = value * length(path) if rescaled else value
            reference.check(match[0], value, tolerance(precision))
    for match in reference.keys(rf"((f\d\d)_vbterms_{NAMES}_clip(\d))_(?:output|pred_xstart)"):
        run, precision, mean, variance, clip = match.groups()
        value, x0 = vb(precision, mean, variance, clip=clip == "1")
        reference.check(f"{run}_pred_xstart", x0, tolerance(precision))
        if variance in VARIANCES:
            reference.check(f"{run}_output", value, tolerance(precision))


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
    stand_in = model(law(reference), path, TARGETS[mean](path), clip=clip)
    grid, level = whole(path), knots(path, index)[0]
    decoder = discretised_gaussian(PIXELS, tanh_log_mass)
    terms = bound(grid, path.prior_std, VARIANCES.get(variance, "small"), decoder)
    value = terms.term(stand_in, data, noise, terms.steps - 1 - index)
    return bits_per_dim(value, dims(data)), stand_in(level.perturb(data, noise), level).x0
