"""The PyTorch port of DDPM: whole chains, down and up."""

from __future__ import annotations

import math

import torch

from logsnr import betas
from logsnr.kernels import VARIANCES, floored, posterior_log_var, transition
from logsnr.level import clean
from logsnr.path import Path
from logsnr.prediction import Prediction, eps
from logsnr.samplers import Ancestral

from .parts import DTYPES, every_knot, law, model, states, table, tape, walk, whole
from .reference import Reference

NAMES = {"fixedsmall": "small", "fixedlarge": "large"}


def pesser(reference: Reference) -> None:
    """Diffusion.denoise, with x̂0 clipped, and Diffusion.diffuse."""
    ends = (float(reference.read(f"beta_{end}")) for end in ("start", "end"))
    path = table(betas.linear(reference.number("T"), *ends))
    grid = whole(path)
    stand_in = model(law(reference), path, eps, clip=True)
    for name, variance in NAMES.items():
        for precision, dtype in DTYPES.items():
            x, noise = reference.read("x_T", dtype), reference.read("denoise_noise", dtype)
            steps = walk(Ancestral(variance), stand_in, x, grid, tape(noise))
            if precision == "f64":
                reference.check(f"f64_{name}_traj", states(steps), 1e-9)
                reference.check(f"f64_{name}_x0", torch.stack([step.prediction.x0 for step in steps]), 1e-9)
            else:
                reference.check(f"f32_{name}_final", steps[-1].x, 1e-4)
    log_variances(reference, path)
    diffuse(reference, path)


def log_variances(reference: Reference, path: Path) -> None:
    """The port has log max(β̃, 1e-20) at t = 0 of the small variance, a floor that is no variance of any step.

    No sample sees it. A decoder would: the library's floor is β̃ of the step above, as in Improved DDPM.
    """
    t, s = every_knot(path)
    row = torch.zeros(len(t), 1, dtype=torch.float64)
    prediction, grid = Prediction(row, t, eps(t), row), path.grid(len(t))
    small, large = (floored(name, grid)(prediction, t, s).squeeze(1) for name in ("small", "large"))
    unfloored = VARIANCES["small"](prediction, t, s).squeeze(1).clamp(min=math.log(1e-20))
    reference.check("fixedsmall_logvar", unfloored, 1e-9)
    reference.check("fixedlarge_logvar", large, 1e-9)
    reference.fact("the floor is β̃ of the step above", small[:1], posterior_log_var(t[1:2], s[1:2]), 1e-12)


def diffuse(reference: Reference, path: Path) -> None:
    """The chain of q(x_t | x_{t−1}), one noising kernel after another from the clean level."""
    x, noise = reference.read("x_0"), reference.read("diffuse_noise")
    below, chain = clean(), []
    for level, draw in zip(every_knot(path)[0], noise, strict=True):
        x, below = transition(x, below, level).sample(draw), level
        chain.append(x)
    reference.check("f64_diffuse_traj", torch.stack(chain), 1e-9)
