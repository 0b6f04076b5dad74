"""β tables and the buffers that the programs derive from them."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch import Tensor

from logsnr import betas
from logsnr.denoiser import index_label
from logsnr.kernels import floored, posterior_coefficients, posterior_log_var, transition_log_var
from logsnr.path import Path
from logsnr.prediction import Prediction, x0
from logsnr.schedules import table_of_betas

from .parts import IDDPM_BETAS, every_knot, knots, table
from .reference import Reference


def iddpm(reference: Reference) -> None:
    """Improved DDPM: get_named_beta_schedule and every buffer of GaussianDiffusion."""
    for match in reference.keys(r"(([a-z]+)(\d+))_betas"):
        prefix, name, steps = match[1], match[2], int(match[3])
        tolerance = 1e-10 if name == "cosine" else 1e-12
        beta = IDDPM_BETAS[name](steps)
        reference.check(match[0], beta, tolerance)
        if beta.max() >= 1:
            # "linear" with T = 20 ends at β = 1: √(1/ᾱ) is inf in the original, a refusal here
            refused(beta)
            reference.leave(rf"{prefix}_\w+", "the table ends in pure noise, which the library refuses")
            continue
        values = buffers(table(beta))
        for buffer, value in values.items():
            # the original subtracts ᾱ ≈ 1 from 1: what is divided by it is off by an ulp of 1 over β₁ (2e-12 at
            # T = 4000); the library's, held to the tolerance against 50 digits below, is not
            floor = 2**-53 / float(beta[0]) if "posterior_mean_coef" in buffer else 0.0
            reference.check(f"{prefix}_{buffer}", value, tolerance, floor=floor)
        for buffer, exact in exact_coefficients(beta).items():
            reference.fact(f"{prefix}_{buffer} exactly", values[buffer], exact, 1e-12)


def buffers(path: Path) -> dict[str, Tensor]:
    """The original's buffers, index 0 the first noising step, all from levels and kernels."""
    t, s = every_knot(path)
    pure_noise = path.scale.log_alpha(torch.full((1,), torch.inf, dtype=torch.float64)).exp()
    of_x, of_x0 = posterior_coefficients(t, s)
    row = torch.zeros(len(t), 1, dtype=torch.float64)
    # the posterior variance is 0 at index 0; the original's clipped logarithm has the entry of index 1 there
    clipped = floored("small", path.grid(len(t)))(Prediction(row, t, x0(t), row), t, s)
    return {
        "alphas_cumprod": t.alpha**2,
        "alphas_cumprod_prev": s.alpha**2,
        "alphas_cumprod_next": torch.cat([t.alpha[1:], pure_noise]) ** 2,
        "sqrt_alphas_cumprod": t.alpha,
        "sqrt_one_minus_alphas_cumprod": t.sigma,
        "log_one_minus_alphas_cumprod": 2 * t.log_sigma,
        "sqrt_recip_alphas_cumprod": torch.exp(-t.log_alpha),
        "sqrt_recipm1_alphas_cumprod": torch.exp(0.5 * t.gamma),
        "posterior_variance": posterior_log_var(t, s).exp(),
        "posterior_log_variance_clipped": clipped.squeeze(1),
        "posterior_mean_coef1": of_x0,
        "posterior_mean_coef2": of_x,
    }


def exact_coefficients(beta: Tensor) -> dict[str, Tensor]:
    """√ᾱ_{t−1} β_t / (1 − ᾱ_t) and √(1 − β_t) (1 − ᾱ_{t−1}) / (1 − ᾱ_t) of the β in hand, by 50 digits."""
    rows = []
    with mpmath.workdps(50):
        below = mpmath.mpf(1)
        for value in map(mpmath.mpf, beta.tolist()):
            above = below * (1 - value)
            of_x0, of_x = mpmath.sqrt(below) * value, mpmath.sqrt(1 - value) * (1 - below)
            rows.append([float(of_x0 / (1 - above)), float(of_x / (1 - above))])
            below = above
    of_x0, of_x = torch.tensor(rows, dtype=torch.float64).unbind(1)
    return {"posterior_mean_coef1": of_x0, "posterior_mean_coef2": of_x}


def refused(beta: Tensor) -> None:
    """A table with a level of pure noise is an error in one line."""
    with pytest.raises(ValueError, match=r"beta_\d+ = .*allowed: 0 < beta < 1"):
        table_of_betas(beta)


def again(reference: Reference, what: str, beta: Tensor) -> None:
    """β → γ → β: the transition kernel of the table has the β that it was made of, to the last digits of a γ."""
    if beta.max() >= 1:
        refused(beta)
    else:
        t, s = every_knot(table(beta))
        digits = 4 * torch.finfo(torch.float64).eps * float(t.gamma.abs().max())
        reference.fact(f"{what} through γ", transition_log_var(t, s).exp(), beta, 1e-12, floor=digits)


def ddpm(reference: Reference) -> None:
    """DDPM's TensorFlow program: `<kind>_<T>`, with its fixed ends 1e-4 and 0.02."""
    known = {
        "quad": betas.quadratic,
        "linear": betas.linear,
        "warmup10": lambda steps: betas.warmup(steps, fraction=0.1),
        "warmup50": lambda steps: betas.warmup(steps, fraction=0.5),
        "const": betas.constant,
        "jsd": betas.harmonic,
    }
    for match in reference.keys(rf"({'|'.join(known)})_(\d+)"):
        beta = known[match[1]](int(match[2]))
        reference.check(match[0], beta, 1e-12)
        again(reference, match[0], beta)


def ddim(reference: Reference) -> None:
    """DDIM's program: `<kind>_<β_start>_<β_end>_<T>` and its index sets `seq_T<T>_n<n>_<spacing>`."""
    known = {
        "quad": betas.quadratic,
        "linear": betas.linear,
        "sigmoid": betas.sigmoid,
        "const": lambda steps, start, end: betas.constant(steps, end),
        "jsd": lambda steps, start, end: betas.harmonic(steps),
    }
    for match in reference.keys(rf"({'|'.join(known)})_([\d.e-]+)_([\d.e-]+)_(\d+)"):
        beta = known[match[1]](int(match[4]), float(match[2]), float(match[3]))
        reference.check(match[0], beta, 1e-12)
        again(reference, match[0], beta)
    for match in reference.keys(r"seq_T(\d+)_n(\d+)_(uniform|quad)"):
        steps, count = int(match[1]), int(match[2])
        path = table(betas.linear(steps))
        index = sequence(steps, count, match[3])
        # the labels that a network of this table is shown along that index set
        reference.check(match[0], index_label(path, knots(path, index)[0]).long(), 0.0)
        # "uniform" can have more than n entries and never begins at T − 1, "quad" repeats and ends at 0.8 T: both are
        # kept for parity only. The library's own spacings have n distinct knots and begin where the prior is.
        for spacing in ("uniform", "quadratic"):
            grid = index_label(path, path.grid(count, spacing=spacing)[:-1])
            assert len(grid.unique()) == count
            assert grid[0] == steps - 1
            assert count == 1 or grid[-1] == 0


def sequence(steps: int, count: int, spacing: str) -> Tensor:
    """The ascending 0-based index set of DDIM's program."""
    if spacing == "uniform":
        return torch.arange(0, steps, steps // count)
    return (torch.linspace(0, (0.8 * steps) ** 0.5, count, dtype=torch.float64) ** 2).long()
