"""k-diffusion's program: its noise levels and its samplers in VE units."""

from __future__ import annotations

import json
import re

import torch
from torch import Tensor

from logsnr.level import Level, clean
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, eps
from logsnr.samplers import DPMSolver2M, Euler, EulerAncestral, Heun, Sampler
from logsnr.scales import ve, vp
from logsnr.schedules import BetaLinear, geometric

from .edm import Watched, churned
from .parts import law, states, tape, walk
from .reference import Reference

CHURN = {"s_churn": "s_churn", "s_tmin": "s_min", "s_tmax": "s_max", "s_noise": "s_noise"}
OTHERS = "out of scope: a solver that the library does not have"


def samplers(reference: Reference) -> None:
    """sample_<name>(model, x, sigmas): 1e-9. euler and heun draw in every step, churned or not."""
    sigmas, noise = reference.read("sigmas"), tape(reference.read("noise"))
    path = Path(geometric(float(sigmas[-2]), float(sigmas[0])), ve)
    levels = path.at_gamma(2 * sigmas[:-1].log()).then(clean())
    for match in reference.keys(r"((euler|heun|euler_ancestral|dpmpp_2m)(?:_churn|_eta|_eta0)?)_args"):
        run, name = match[1], match[2]
        args = json.loads(reference.text(match[0]))
        watched, x = Watched(Oracle(law(reference))), reference.read("x")
        if name in ("euler", "heun"):
            options = {CHURN[key]: float(value) for key, value in args.items()}
            solver = (Euler if name == "euler" else Heun)(steps=len(sigmas) - 1, **options)
            end = churned(solver, watched, x, levels, noise)
        else:
            ours: Sampler = EulerAncestral(**args) if name == "euler_ancestral" else DPMSolver2M()
            end = states(walk(ours, watched, x, levels, noise))[-1]
        reference.check(f"{run}_x", end, 1e-9)
        reference.check(f"{run}_model_sigmas", torch.stack(watched.sigmas), 1e-9)
        reference.leave(f"{run}_ndraws", "out of scope: how many draws the program takes, used or not")
    reference.leave(r"(dpm_2|dpmpp_2s|dpmpp_sde|dpmpp_2m_sde|dpmpp_3m_sde|lms).*", OTHERS)


SPACINGS: dict[str, tuple[str, dict[str, float]]] = {
    "karras": ("rho", {"rho": 7.0}),
    "karras_rho5": ("rho", {"rho": 5.0}),
    "exponential": ("log_snr", {}),
    "polyexponential": ("uniform", {}),
    "polyexponential_rho2": ("quadratic", {}),
    "vp": ("uniform", {}),
}


def schedules(reference: Reference) -> None:
    """get_sigmas_*, a zero at the end: f64 1e-12, f32 1e-5. get_ancestral_step: 1e-12."""
    low, high = reference.read("sigma_min_max").tolist()
    geometric_path, vp_path = Path(geometric(low, high), ve), Path(BetaLinear(0.1, 20.0, t_min=1e-3), vp)
    for match in reference.keys(rf"(f64|f32)_({'|'.join(map(re.escape, SPACINGS))})_n(\d+)"):
        spacing, options = SPACINGS[match[2]]
        path = vp_path if match[2] == "vp" else geometric_path
        ours = torch.exp(0.5 * path.grid(int(match[3]), "clean", spacing, **options).gamma)
        reference.check(match[0], ours if match[1] == "f64" else ours.float(), 1e-12 if match[1] == "f64" else 1e-5)
    rows = reference.read("ancestral_in")
    reference.check("ancestral_down_up", torch.stack([_down_up(*row.tolist()) for row in rows]), 1e-12)
    reference.leave("lms_.*", "out of scope: linear multistep in σ")


def _down_up(before: float, after: float, eta: float) -> Tensor:
    """(σ_down, σ_up) read from a step with x̂0 = 0, ε̂ = 1 and a draw of 1."""
    one, path = torch.ones(1, 1, dtype=torch.float64), Path(geometric(1e-4, 1e4), ve)
    t, s = (path.at_gamma(2 * torch.tensor(sigma, dtype=torch.float64).log()) for sigma in (before, after))

    def model(x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return Prediction(x, level, eps(level), one)

    step = EulerAncestral(eta).step(model, before * one, t, s, noise=lambda name: one)
    return torch.cat([step.mean, step.x - step.mean]).flatten()
