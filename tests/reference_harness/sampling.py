"""Improved DDPM's chains: ancestral, DDIM and its inverse, on the whole table and on respaced ones."""

from __future__ import annotations

import re

from logsnr.prediction import eps
from logsnr.samplers import DDIM, Ancestral

from .parts import (
    DTYPES,
    RULES,
    descending,
    every_knot,
    law,
    length,
    model,
    silence,
    states,
    table,
    tape,
    walk,
    whole,
)
from .reference import Reference
from .respace import index_set
from .reverse import TARGETS


def ancestral_by(variance: str) -> Ancestral:
    """The ancestral sampler with a rule by its name in Improved DDPM."""
    sampler = Ancestral()
    sampler.rule = RULES[variance]
    return sampler


def iddpm(reference: Reference) -> None:
    """p_sample_loop and ddim_sample_loop: `_traj[j]` is the state after step j; one of length 1 is the last alone."""
    path = table(reference.read("betas"))
    assert reference.number("T") == length(path)
    grid, density = whole(path), law(reference)
    ancestral = (
        r"(f\d\d)_p_sample_(EPSILON|START_X|PREVIOUS_X)_(FIXED_SMALL|FIXED_LARGE|LEARNED_RANGE|LEARNED)_clip(\d)_traj"
    )
    implicit = r"(f\d\d)_ddim(_)eta([\d.]+)_clip(\d)_traj"
    for match in [*reference.keys(ancestral), *reference.keys(implicit)]:
        precision, target, option, clip = match.groups()
        noise, x = (reference.read(key, DTYPES[precision]) for key in ("noise", "x_T"))
        sampler = DDIM(eta=float(option)) if target == "_" else ancestral_by(option)
        target_of = TARGETS.get(target, TARGETS["EPSILON"])
        stand_in = model(density, path, target_of(path), clip=clip == "1", variance=option)
        trajectory = states(walk(sampler, stand_in, x, grid, tape(noise)))
        kept = len(reference.recorded(match[0]))
        reference.check(match[0], trajectory[-kept:], 1e-10 if precision == "f64" else 1e-5)
    encode(reference)


def encode(reference: Reference) -> None:
    """ddim_reverse_sample from the first knot up: the same sampler on the grid reversed."""
    path = table(reference.read("betas"))
    stand_in = model(law(reference), path, eps)
    for match in reference.keys(r"(f64|f32)_ddim_reverse_traj"):
        start = reference.read("reverse_x0", DTYPES[match[1]])
        steps = walk(DDIM(), stand_in, start, every_knot(path)[0], silence)
        reference.check(match[0], states(steps), 1e-10 if match[1] == "f64" else 1e-5)
        # one step more is into ᾱ = 0 in the original: there only ε̂ of the last knot is left
        last = stand_in(steps[-1].x, path.highest).eps
        reference.check(f"{match[1]}_ddim_reverse_last_t", last, 1e-10 if match[1] == "f64" else 1e-5)


def iddpm_respaced(reference: Reference) -> None:
    """SpacedDiffusion: final samples, `f64_<spec>_<VAR>_p_sample` and `f64_<spec>_ddim_eta<η>`, x̂0 clipped."""
    path, density = table(reference.read("base_betas")), law(reference)
    for noise_key in reference.keys(r"noise_(.+)"):
        spec = noise_key[1]
        levels = descending(path, index_set(length(path), spec))
        kinds = r"(?:(FIXED_SMALL|FIXED_LARGE|LEARNED_RANGE|LEARNED)_p_sample|ddim_eta([\d.]+))"
        for match in reference.keys(rf"(f\d\d)_{re.escape(spec)}_{kinds}"):
            precision, variance, eta = match.groups()
            noise, x = (reference.read(key, DTYPES[precision]) for key in (noise_key[0], "x_T"))
            sampler = ancestral_by(variance) if variance else DDIM(eta=float(eta))
            stand_in = model(density, path, eps, clip=True, variance=variance or "")
            value = walk(sampler, stand_in, x, levels, tape(noise))[-1].x
            reference.check(match[0], value, 1e-10 if precision == "f64" else 1e-5)
