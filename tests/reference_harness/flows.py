"""Likelihoods by the probability flow: Score SDE's and k-diffusion's, with their probes and with exact divergences.

The programs integrate in their own time and units, jointly over the batch, at tolerances of their own; the integral is
the same. A probe sees |p|² where an exact divergence sees D: the program's estimate contains (|p|² − D) log √(α² + σ²)
of the change of units, which the library takes exactly.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from logsnr.data.toys import Mixture
from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.likelihood.flow import Density, Flow
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.scales import ve
from logsnr.schedules import geometric

from .parts import DTYPES, dims, law
from .reference import Reference
from .score_sde import program

TOLERANCE = 1e-8  # of the probed integrals; 1e-5 in single precision
EXACT = 1e-6


def probed(flow: Flow, model: Model, x: Tensor, probe: Tensor) -> tuple[Density, Tensor]:
    """The density, and the program's log p (B,), which counts the change of units by the probe."""
    density = flow.probed(model, x, probe.unsqueeze(0).to(x), {})
    excess = probe.flatten(1).double().pow(2).sum(1) - dims(x)
    change = torch.logaddexp(2 * flow.high.log_alpha, 2 * flow.high.log_sigma)
    change = 0.5 * (change - torch.logaddexp(2 * flow.low.log_alpha, 2 * flow.low.log_sigma))
    return density, density.log_prob + excess * change


def exact(path: Path, low: Level, density: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p by the exact divergence, and log p_1 − log prior at its latents, (B,): what the prior is wrong by."""
    found = Flow(path, low, path.highest, path.prior_std, EXACT).exact(Oracle(density), x, {})
    prior = torch.distributions.Normal(0, path.prior_std).log_prob(found.latent).flatten(1).sum(1)
    return found.log_prob, density.log_prob(found.latent, path.highest.alpha, path.highest.sigma) - prior


def score_sde(reference: Reference) -> None:
    """get_likelihood_fn at rtol = atol = 1e-5, in bits/dim of data in [−1, 1] with 256 levels: offset 7."""
    reference.leave(r"(f64|f32)_lik_.*_nfe", "out of scope: evaluations of the program's joint solver")
    sde, density, x = program(reference, 1000), law(reference), reference.read("lik_x")
    low, size = sde.path.at(1e-5), dims(x) * math.log(2)
    for match in reference.keys(r"(f64|f32)_lik_(Rademacher|Gaussian)_bpd"):
        noise = reference.read(f"lik_{match[2]}_noise")
        probe = 2 * noise - 1 if match[2] == "Rademacher" else noise
        single = match[1] == "f32"
        flow = Flow(sde.path, low, sde.path.highest, sde.path.prior_std, 1e-5 if single else TOLERANCE)
        found, log_prob = probed(flow, sde.model(density), x.to(DTYPES[match[1]]), probe)
        reference.check(match[0], (7 - log_prob / size).to(DTYPES[match[1]]), 1e-4 if single else 2e-5)
        reference.check(f"{match[1]}_lik_{match[2]}_z", found.latent, 1e-4)
    log_prob, mismatch = exact(sde.path, low, density, x[:1])
    reference.check("exact_trace_bpd_point0", (7 - log_prob / size)[0], 1e-5)
    reference.check("exact_bpd_point0", (7 - density.log_prob(x[:1], low.alpha, low.sigma) / size)[0], 1e-10)
    reference.check("prior_mismatch_bpd_point0", (mismatch / size)[0], 0.0, floor=2e-5)


def k_diffusion(reference: Reference) -> None:
    """log_likelihood between σ_min and σ_max, nats of x at σ_min; 1e-5, and beside its default tolerance 5e-3."""
    reference.leave(r"ll_.*_fevals", "out of scope: evaluations of the program's joint solver")
    density, x, probe = law(reference), reference.read("x"), 2 * reference.read("rademacher01") - 1
    for match in reference.keys(r"ll_([\d.]+)_([\d.]+)"):
        if not re.fullmatch(r"ll_[\d.]+_[\d.]+", match[0]):
            continue
        path = Path(geometric(float(match[1]), float(match[2])), ve)
        flow = Flow(path, path.lowest, path.highest, path.prior_std, TOLERANCE)
        _, log_prob = probed(flow, Oracle(density), x, probe)
        reference.check(match[0], log_prob, 1e-5)
        reference.check(f"{match[0]}_default_tol", log_prob, 5e-3)
        log_prob, mismatch = exact(path, path.lowest, density, x)
        reference.check(f"{match[0]}_exact_trace_point0", log_prob[0], 0.0, floor=2e-5)
        recorded = density.log_prob(x, path.lowest.alpha, path.lowest.sigma)
        reference.check(f"exact_logp_{match[1]}", recorded, 1e-10)
        reference.fact(f"{match[0]} less its prior's mismatch", log_prob + mismatch, recorded, 0.0, floor=2e-5)
