"""EDM's program: preconditioners, losses, the stochastic sampler and the ablation's rows that have EDM's own choices."""

from __future__ import annotations

import json
from functools import partial

import torch
from torch import Tensor, nn

from logsnr.denoiser import INPUTS, LABELS, Denoiser, Inputs, Label, Model, unit_inputs
from logsnr.level import Level
from logsnr.objectives import Matching
from logsnr.objectives.weights import WEIGHTS
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS, Prediction, Target, x0
from logsnr.samplers import Euler, Heun, Noise, prior
from logsnr.scales import ve, vp
from logsnr.schedules import BetaLinear, geometric

from .parts import DTYPES, Recorded, Tape, law, tape, walk
from .reference import Reference

DEFAULTS = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
CHURN = {"S_churn": "s_churn", "S_min": "s_min", "S_max": "s_max", "S_noise": "s_noise"}


class Watched:
    """A model that keeps the σ of every call."""

    def __init__(self, model: Model) -> None:
        self.model, self.sigmas = model, list[Tensor]()

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        self.sigmas.append(torch.exp(0.5 * level.gamma))
        return self.model(x, level, **condition)


def churned(sampler: Heun | Euler, model: Model, x: Tensor, levels: Level, noise: Noise) -> Tensor:
    """A chain whose last step, into the clean level, is churned too, as the programs do; the library's loop is not."""
    steps = walk(sampler, model, x, levels[:-1], noise)
    last, level = sampler.churn(steps[-1].x, levels[-2], partial(noise, len(steps)))
    return model(last, level).x0


def sampled(reference: Reference, run: str, tolerance: float) -> None:
    """One run of N steps on the grid of equation 5. The program draws in every step, churned or not."""
    args = json.loads(reference.text(f"{run}_args"))
    low, high, rho = (float(args.get(name, value)) for name, value in DEFAULTS.items())
    steps = args["num_steps"]
    path = Path(geometric(low, high), ve)
    options = {ours: float(args[name]) for name, ours in CHURN.items() if name in args}
    sampler = (Euler if args.get("solver") == "euler" else Heun)(steps=steps, **options)
    watched, latents = Watched(Oracle(law(reference))), reference.read("latents")
    x = prior(path, lambda step, draw: latents)
    grid = path.grid(steps, "clean", "rho", rho=rho)
    reference.check(f"{run}_x", churned(sampler, watched, x, grid, tape(reference.read("noise"))), tolerance)
    reference.check(f"{run}_net_sigmas", torch.stack(watched.sigmas), tolerance)
    reference.check(f"{run}_nfe", torch.tensor(len(watched.sigmas)), 0.0)


def sampler(reference: Reference) -> None:
    """edm_sampler: 1e-9."""
    for match in reference.keys(r"(edm\d+)_args"):
        sampled(reference, match[1], 1e-9)


def ablation(reference: Reference) -> None:
    """ablation_sampler where schedule, steps and scaling are EDM's: 1e-7."""
    own = {"discretization": "edm", "schedule": "linear", "scaling": "none", "alpha": 1}
    for match in reference.keys(r"(abl\d+)_args"):
        args = json.loads(str(reference.arrays[match[0]]))
        if all(args.get(name, value) == value for name, value in own.items()):
            sampled(reference, match[1], 1e-7)
        else:
            reference.leave(f"{match[1]}_.*", "out of scope: EDM's re-discretisations of other papers, α other than 1")


class Probe(nn.Module):
    """F(x, c) = tanh x + 0.1 c, which keeps what it was shown."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.shown = x, label
        return torch.tanh(x) + 0.1 * label.reshape(-1, 1, 1, 1)


def ve_label(path: Path, level: Level) -> Tensor:
    """log(σ/2), what the program tells its network of Score SDE's VE."""
    return 0.5 * level.gamma - torch.log(torch.tensor(2.0, dtype=torch.float64))


def precond(reference: Reference) -> None:
    """D, the network's arguments and the three coefficients of each preconditioner: f64 1e-10, f32 1e-5; c_* 1e-9."""
    edm_path, vp_path = Path(geometric(1e-4, 1e4), ve), Path(BetaLinear(0.1, 20.0, t_min=1e-5), vp)

    def vp_label(path: Path, level: Level) -> Tensor:
        return LABELS["time"](vp_path, level)

    _preconditioner(reference, "vp", edm_path, TARGETS["eps"], INPUTS["unit_power"], vp_label)
    _preconditioner(reference, "ve", edm_path, TARGETS["scaled_score"], unit_inputs, ve_label)
    for name, sigma_data in (("edm", 0.5), ("edm_sd0.7", 0.7)):
        target = partial(TARGETS["edm"], sigma_data=sigma_data)
        inputs = partial(INPUTS["unit_variance"], sigma_data=sigma_data)
        _preconditioner(reference, name, edm_path, target, inputs, LABELS["log_sigma"])
    # these are recorded in float32
    ends = torch.stack([vp_path.lowest.gamma, vp_path.highest.gamma])
    reference.check("vp_sigma_range", torch.exp(0.5 * ends), 1e-5)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    reference.check("f64_vp_sigma_of_t", torch.exp(0.5 * vp_path.schedule(t)), 1e-5)
    reference.check("f64_vp_sigma_inv", vp_path.time_of(2 * reference.read("sigma").log()), 1e-10)
    reference.leave("ve_sigma_range", "out of scope: constants of the program")
    reference.leave("(f64_|f32_)?iddpm_.*", "out of scope: EDM's own σ table for networks of Improved DDPM")


def _preconditioner(
    reference: Reference, name: str, path: Path, target: Target, inputs: Inputs, label: Label
) -> None:
    level = path.at_gamma(2 * reference.read("sigma").log())
    for precision, dtype in DTYPES.items():
        x = reference.read("x", dtype)
        model = Denoiser(Probe(), path, target, label=label, inputs=inputs)
        tolerance = 1e-10 if precision == "f64" else 1e-5
        reference.check(f"{precision}_{name}_D", model(x, level).x0, tolerance)
        shown, told = model.network.shown
        reference.check(f"{precision}_{name}_model_input", shown, tolerance)
        reference.check(f"{precision}_{name}_c_noise", told, tolerance)
    one, none = torch.ones_like(level.gamma), torch.zeros_like(level.gamma)
    reference.check(f"{name}_c_in", inputs(level), 1e-9)
    reference.check(f"{name}_c_skip", Prediction(one, level, target(level), none).x0, 1e-9)
    reference.check(f"{name}_c_out", Prediction(none, level, target(level), one).x0, 1e-9)
    reference.check(f"f64_{name}_round_sigma", level.sigma, 1e-10)


class _Shrunk:
    """The recordings' network: 0.9 of the exact x̂0, made in float64 and then cast."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return Prediction(x, level, x0(level), (0.9 * self.oracle(x.double(), level).x0).to(x.dtype))


def losses(reference: Reference) -> None:
    """EDMLoss: the program keeps its loss elementwise, ours is a mean over dimensions. f64 1e-10, f32 1e-4."""
    path = Path(geometric(1e-4, 1e4), ve)
    sigma = torch.exp(-1.2 + 1.2 * reference.read("edm_draw1").flatten())
    reference.check("f64_edm_sigma", sigma, 1e-10)
    weight = partial(WEIGHTS["edm"], sigma_data=0.5)
    # the program's λ(σ) = (σ² + σ_d²)/(σ σ_d)² on the error of x0 is the weight `edm` on that of ε
    for precision, dtype in DTYPES.items():
        clean, noise = reference.read("images", dtype), reference.read("edm_noise", dtype)
        objective = Matching(path, weight, Recorded(path.time_of(2 * sigma.log())))
        ours = objective(_Shrunk(Oracle(law(reference))), clean, Tape(noise)).total
        truth = reference.recorded(f"{precision}_edm_loss").flatten(1).mean(1)
        tolerance = 1e-10 if precision == "f64" else 1e-4
        reference.fact(f"{precision}_edm_loss, mean over dimensions", ours, truth, tolerance)
        reference.leave(f"{precision}_edm_loss", "out of scope: elementwise; its mean over dimensions is compared")
    reference.leave("f32_edm_sigma", "out of scope: levels are computed in float64")
    reference.leave("((f64|f32)_)?(vp|ve)_.*", "out of scope: EDM's re-weightings of Score SDE's losses")
    reference.leave("weight_sigma|edm_weight.*", "out of scope: the weight is compared in the loss")
