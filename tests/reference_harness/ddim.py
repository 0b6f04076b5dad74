"""DDIM's own program."""

from __future__ import annotations

import torch

from logsnr.prediction import eps
from logsnr.samplers import DDIM, Ancestral

from .parts import DTYPES, descending, dims, knots, law, length, matching, model, states, table, tape, walk
from .reference import Reference
from .schedules import sequence


def sampling(reference: Reference) -> None:
    """generalized_steps (η in the key, no clip) and ddpm_steps (clip, the large variance of the coarse grid).

    A repeated entry of `seq` is a step from a level to itself, which changes nothing: the library is walked over it.
    The float32 runs have ᾱ as a float32 product, so that 1 − ᾱ is off by up to 1.7e-4 at the first knot.
    """
    path, density = table(reference.read("betas")), law(reference)
    names = r"(f\d\d)_(generalized|ddpm)_([a-z]+)(?:_eta([\d.]+))?"
    for match in reference.keys(rf"({names})_xs"):
        run, precision, kind, skip, eta = match.groups()
        index = reference.read(f"seq_{skip}")
        if "timesteps" in reference and skip in ("uniform", "quad"):
            assert torch.equal(index, sequence(length(path), reference.number("timesteps"), skip))
        noise, x = (reference.read(key, DTYPES[precision]) for key in (f"noise_{kind}_{skip}", "x_T"))
        sampler = DDIM(eta=float(eta)) if kind == "generalized" else Ancestral("large")
        stand_in = model(density, path, eps, clip=kind == "ddpm")
        steps = walk(sampler, stand_in, x, descending(path, index), tape(noise))
        xs = torch.cat([x.unsqueeze(0), states(steps)])
        recorded = reference.recorded(match[0])
        tolerance = 1e-10 if precision == "f64" else 1e-4
        reference.check(match[0], xs if recorded.ndim == xs.ndim else xs[-1], tolerance)
        reference.check(f"{run}_x0preds", torch.stack([step.prediction.x0 for step in steps]), tolerance)


def loss(reference: Reference) -> None:
    """noise_estimation_loss: a sum over dimensions where the library has a mean."""
    path = table(reference.read("betas"))
    data, noise = reference.read("x0"), reference.read("noise")
    t = knots(path, reference.read("t"))[0].t
    total = dims(data) * matching(path, model(law(reference), path, eps), data, noise, t).total
    reference.check("f64_keepdim", total, 1e-10)
    reference.check("f64_mean", total.mean(), 1e-10)
