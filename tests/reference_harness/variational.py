"""The forward process, Gaussian divergences, the decoder, and the bound of Improved DDPM's program."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor

from logsnr.data.transform import Lattice
from logsnr.decoders import discretised_gaussian, gaussian_density, log_mass, tanh_log_mass
from logsnr.denoiser import Model
from logsnr.kernels import Normal, floored, posterior, transition
from logsnr.level import clean
from logsnr.likelihood import Bound, bound
from logsnr.loss import bits_per_dim
from logsnr.path import Path
from logsnr.prediction import Prediction, eps, x0

from .parts import DTYPES, IDDPM_BETAS, dims, knots, law, length, model, rule_on, table, whole
from .reference import Reference
from .reverse import TARGETS, previous_x

PIXELS = Lattice(-1.0, 2 / 255, 256)
CDF_SLACK = 1.8e-4  # of the tanh approximation, at |x| = 2.59


def rounding(dtype: torch.dtype) -> float:
    """What the originals' KL loses: it adds 1 and −1 to a number that may be far below them; in bits/dim."""
    return 2 * torch.finfo(dtype).eps / math.log(2)


def forward_process(reference: Reference) -> None:
    """iddpm_q_<table><T>: q_sample, q_mean_variance, the posterior and the inversions, in both precisions."""
    name = reference.name.removeprefix("iddpm_q_").rstrip("0123456789")
    path = table(IDDPM_BETAS[name](reference.number("T")))
    index = reference.read("t")
    t, s = knots(path, index)
    for precision, dtype in DTYPES.items():
        data, noise = reference.read("x_start", dtype), reference.read("noise", dtype)
        x = t.perturb(data, noise)
        q, q_s = transition(data, clean(), t), posterior(x, data, t, s)
        # the originals take the logarithm's first entry from the second: `floored`, here on the whole table
        clipped = floored("small", whole(path))(Prediction(x, t, x0(t), data), t, s)
        previous = Prediction(x, t, previous_x(path)(t), q_s.mean)
        values = {
            "q_sample": x,
            "q_mean": q.mean,
            "q_variance": q.log_var.exp(),
            "q_log_variance": q.log_var,
            "posterior_mean": q_s.mean,
            "posterior_variance": q_s.log_var.exp(),
            "posterior_log_variance_clipped": clipped,
            "xstart_from_eps": Prediction(x, t, eps(t), noise).x0,
            "eps_from_xstart": Prediction(x, t, x0(t), data).eps,
            "xstart_from_xprev": previous.x0,
        }
        for key, value in values.items():
            # divisions by a small σ or α: the float32 originals lose up to 7e-3 there
            loose = 7e-3 if "xprev" in key else 1e-3 if "from" in key else 1e-5
            reference.check(f"{precision}_{key}", value.expand_as(data), 1e-10 if precision == "f64" else loose)
        check_prior(reference, path, data, precision)


def check_prior(reference: Reference, path: Path, data: Tensor, precision: str) -> None:
    """The prior term in bits/dim; the recorded one is a difference of numbers near 1, so its right value is a fact."""
    terms = bound(whole(path), path.prior_std, "small", gaussian_density)
    value = bits_per_dim(terms.prior(data), dims(data))
    tolerance = 1e-10 if precision == "f64" else 1e-5
    reference.check(f"{precision}_prior_bpd", value, tolerance, floor=rounding(data.dtype))
    with mpmath.workdps(50):
        alpha_bar = mpmath.exp(2 * mpmath.mpf(float(path.highest.log_alpha)))
        rest = -alpha_bar - mpmath.log(1 - alpha_bar)  # σ² − 1 − log σ²
        exact = [float(sum(alpha_bar * mpmath.mpf(v) ** 2 + rest for v in row) / 2) for row in data.flatten(1).tolist()]
    truth = bits_per_dim(torch.tensor(exact, dtype=torch.float64), dims(data))
    reference.fact(f"{precision}_prior_bpd exactly", value, truth, tolerance)


def losses(reference: Reference) -> None:
    """losses.py: the decoder, normal_kl and the tanh approximation of Φ."""
    pairs = [
        Normal(reference.read(f"kl_mean{i}").unsqueeze(1), reference.read(f"kl_logvar{i}").unsqueeze(1)) for i in (1, 2)
    ]
    reference.check("normal_kl", pairs[0].kl(pairs[1]), 1e-9)

    at = reference.read("cdf_x")
    below = torch.full_like(at, -torch.inf)
    approximate = tanh_log_mass(below, at).exp()
    reference.check("approx_standard_normal_cdf", approximate, 1e-9)
    exact = torch.tensor([float(mpmath.ncdf(v)) for v in at.tolist()], dtype=torch.float64)
    reference.fact("exact Φ", log_mass(below, at).exp(), exact, 1e-14)
    recorded = reference.recorded("approx_standard_normal_cdf")
    reference.fact("exact Φ beside tanh", log_mass(below, at).exp(), recorded, 0.0, floor=CDF_SLACK)
    decoder(reference)


def decoder(reference: Reference) -> None:
    """The discretised Gaussian: recorded with tanh, and the exact mass beside it."""
    x, p = reference.read("x"), Normal(reference.read("means"), reference.read("log_scales") * 2)
    recorded = reference.recorded("discretized_gaussian_log_likelihood").flatten()
    on = ((x - PIXELS.low) / PIXELS.width - PIXELS.nearest(x)).abs().flatten() < 1e-3
    # the original takes any number, and opens the last bins at |x| > 0.999; off the lattice the library refuses
    half, std = PIXELS.width / 2, torch.exp(0.5 * p.log_var)
    low, high = (x - half - p.mean) / std, (x + half - p.mean) / std
    if not on.all():
        with pytest.raises(ValueError, match="off Lattice"):
            discretised_gaussian(PIXELS)(x, p)
    for what, mass in (("tanh", tanh_log_mass), ("exact", log_mass)):
        value = mass(low, high).flatten()
        value[on] = discretised_gaussian(PIXELS, mass)(x[on], Normal(p.mean[on], p.log_var[on]))
        if what == "tanh":
            reference.check("discretized_gaussian_log_likelihood", value.reshape(x.shape), 1e-9)
            continue
        truth = exact_masses(x, p, on)
        reference.fact("exact mass", value, truth, 1e-12)
        # two ends, each off by at most the slack
        reference.fact("exact mass beside tanh", value.exp(), recorded.exp(), 0.0, floor=2 * CDF_SLACK)


def exact_masses(x: Tensor, p: Normal, on: Tensor) -> Tensor:
    """log of each bin's mass in 60 digits, both ends taken in the lower tail; (N,)."""
    result = []
    with mpmath.workdps(60):
        columns = (x.flatten(), p.mean.flatten(), p.log_var.flatten(), on)
        for value, mean, log_var, inside in zip(*(column.tolist() for column in columns), strict=True):
            std, half = mpmath.exp(mpmath.mpf(log_var) / 2), mpmath.mpf(1) / 255
            level = round((value + 1) * 127.5) if inside else -1
            ends = [(value - half - mean) / std, (value + half - mean) / std]
            ends = [-mpmath.inf if level == 0 else ends[0], mpmath.inf if level == 255 else ends[1]]
            if ends[0] + ends[1] > 0:
                ends = [-ends[1], -ends[0]]
            lower = mpmath.mpf(0) if ends[0] == -mpmath.inf else mpmath.erfc(-ends[0] / mpmath.sqrt(2)) / 2
            result.append(float(mpmath.log(mpmath.erfc(-ends[1] / mpmath.sqrt(2)) / 2 - lower)))
    return torch.tensor(result, dtype=torch.float64)


def calc_bpd(reference: Reference) -> None:
    """calc_bpd_loop: every term of the bound at recorded noise, columns in descending t, with the tanh decoder."""
    path = table(reference.read("betas"))
    assert reference.number("T") == length(path)
    pattern = r"((f\d\d)_(EPSILON|START_X|PREVIOUS_X)_(FIXED_SMALL|FIXED_LARGE|LEARNED|LEARNED_RANGE)_clip(\d))_vb"
    for match in reference.keys(pattern):
        data, noise = (reference.read(key, DTYPES[match[2]]) for key in ("x_start", "noise"))
        stand_in = model(law(reference), path, TARGETS[match[3]](path), clip=match[5] == "1", variance=match[4])
        grid = whole(path)
        decoder = discretised_gaussian(PIXELS, tanh_log_mass)
        terms = Bound(grid, path.prior_std, rule_on(grid, match[4]), decoder)
        check_terms(reference, match[1], terms, stand_in, data, noise)


def check_terms(reference: Reference, key: str, terms: Bound, model: Model, data: Tensor, noise: Tensor) -> None:
    """All columns at once: step-major batches of S · B examples."""
    tolerance = 1e-10 if key.startswith("f64") else 1e-5
    floor, shape = rounding(data.dtype), noise.shape[:2]
    step = torch.arange(terms.steps).repeat_interleave(len(data))
    every, eps = data.repeat(terms.steps, *(1,) * (data.ndim - 1)), noise.flatten(0, 1)
    vb = bits_per_dim(terms.term(model, every, eps, step), dims(data)).reshape(shape).T
    prior = bits_per_dim(terms.prior(data), dims(data))
    reference.check(f"{key}_prior_bpd", prior, tolerance, floor=floor)
    reference.check(f"{key}_vb", vb, tolerance, floor=floor)
    reference.check(f"{key}_total_bpd", prior + vb.sum(1), tolerance, floor=terms.steps * floor)
    t = terms.grid[step]
    prediction = model(t.perturb(every, eps), t)
    # "mse" is of an ε re-derived from the clipped x̂0, which is what a clipped prediction's ε̂ is
    for name, value, truth in (("xstart_mse", prediction.x0, every), ("mse", prediction.eps, eps)):
        columns = ((value - truth) ** 2).flatten(1).mean(1).reshape(shape).T
        reference.check(f"{key}_{name}", columns, tolerance)
