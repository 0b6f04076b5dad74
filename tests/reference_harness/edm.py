"""EDM's own program: preconditioners, losses, and the sampler."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from logsnr import betas
from logsnr.denoiser import Denoiser, Label, Model, log_sigma_label, time_label, unit_inputs, unit_variance
from logsnr.level import Level, over
from logsnr.objectives import WEIGHTS, Matching
from logsnr.objectives.noise_laws import LogNormal
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Direction, Prediction, Target, determinant, x0
from logsnr.prediction import edm as edm_target
from logsnr.prediction import eps as eps_target
from logsnr.samplers import Euler, Heun, Noise, Sampler, simulate
from logsnr.samplers.churn import Churn
from logsnr.samplers.loop import finish
from logsnr.scales import ve, vp
from logsnr.schedules import BetaLinear, geometric, table_of_betas

from .parts import DTYPES, Recorded, Tape, law
from .reference import Reference

TOLERANCES = {"f64": 1e-10, "f32": 1e-5}
OTHERS = "out of scope: an ablation of other solvers, discretisations and schedules"


class Probe(nn.Module):
    """The recordings' network, tanh(x) + 0.1 label, which remembers what it was shown."""

    def __init__(self, strength: float = 0.1) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.x, self.label = x, label
        return torch.tanh(x) + over(self.strength * label, x)


def minus_eps(level: Level) -> Direction:
    """VEPrecond's D = x + σ F: the network predicts −ε."""
    return Direction(torch.zeros_like(level.gamma), -torch.ones_like(level.gamma))


def half_sigma_label(path: Path, level: Level) -> Tensor:
    """VEPrecond's c_noise = log(σ/2)."""
    return 0.5 * level.gamma - torch.log(torch.tensor(2.0, dtype=torch.float64))


def wide(sigma: Tensor) -> Path:
    """A VE path that holds these σ, and a little more."""
    return Path(geometric(0.5 * float(sigma.min()), 2 * float(sigma.max())), ve)


def precond(reference: Reference) -> None:
    """VPPrecond, VEPrecond, iDDPMPrecond and EDMPrecond are four choices of path, target, inputs and label."""
    sigma = reference.read("sigma")
    level = wide(sigma).at_gamma(2 * sigma.log())
    vp_path, table = Path(BetaLinear(), vp), Path(table_of_betas(betas.cosine(1000)), vp)
    nearest = partial(nearest_index, table)
    kinds: dict[str, tuple[Path, Target, Label, Callable[[Level], Tensor]]] = {
        "vp": (vp_path, eps_target, time_label, unit_inputs),
        "ve": (wide(sigma), minus_eps, half_sigma_label, unit_inputs),
        "iddpm": (table, eps_target, lambda path, level: nearest(level), unit_inputs),
    }
    for name, sigma_data in (("edm", 0.5), ("edm_sd0.7", 0.7)):
        target, inputs = partial(edm_target, sigma_data=sigma_data), partial(unit_variance, sigma_data=sigma_data)
        kinds[name] = (wide(sigma), target, log_sigma_label, inputs)
    for name, (path, target, label, inputs) in kinds.items():
        for precision, dtype in DTYPES.items():
            probe = Probe()
            prediction = Denoiser(probe, path, target, label=label, inputs=inputs)(reference.read("x", dtype), level)
            reference.check(f"{precision}_{name}_D", prediction.x0, TOLERANCES[precision])
            reference.check(f"{precision}_{name}_c_noise", probe.label, TOLERANCES[precision])
            reference.check(f"{precision}_{name}_model_input", probe.x, TOLERANCES[precision])
        own = path.at_gamma(level.gamma)
        reference.check(f"{name}_c_in", own.alpha * inputs(own), 1e-9)
        direction = target(level)
        delta = determinant(level, direction)
        reference.check(f"{name}_c_skip", direction.b / delta, 1e-9)
        reference.check(f"{name}_c_out", -level.sigma / delta, 1e-9)
        if name != "iddpm":
            reference.check(f"f64_{name}_round_sigma", level.sigma, 1e-10)
    ends = [(0.5 * end.gamma).exp() for end in (vp_path.lowest, vp_path.highest)]
    reference.check("vp_sigma_range", torch.stack(ends), 1e-10)
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    # recorded in single precision
    reference.check("f64_vp_sigma_of_t", (0.5 * vp_path.schedule(times)).exp(), 1e-6)
    reference.check("f64_vp_sigma_inv", vp_path.time_of(level.gamma), 1e-10)
    u = (0.5 * table.schedule(torch.arange(1000, -1, -1, dtype=torch.float64) / 1000)).exp()
    reference.check("f64_iddpm_u", u, 1e-10)
    rounded = table.schedule((nearest_index(table, level) + 1) / 1000)
    reference.check("f64_iddpm_round_sigma", (0.5 * rounded).exp(), 1e-10)
    reference.check("iddpm_sigma_range", u[[-2, 0]], 1e-10)
    reference.leave(r"ve_sigma_range", "out of scope: the program's default range is an argument here")


def nearest_index(table: Path, level: Level) -> Tensor:
    """M − 1 − (the index of the nearest σ in a table from the largest down to σ = 0): −1 there, else our index."""
    knots = (0.5 * table.schedule(torch.arange(1001, dtype=torch.float64) / 1000)).exp()
    return ((0.5 * level.gamma).exp().unsqueeze(-1) - knots).abs().argmin(-1).double() - 1


def losses(reference: Reference) -> None:
    """VPLoss, VELoss and EDMLoss, elementwise, for a network that is 0.9 times the exact denoiser."""
    density = law(reference)
    vp_path, ve_path = Path(BetaLinear(t_min=1e-5), vp), Path(geometric(0.02, 100), ve)
    uniform = {name: reference.read(f"{name}_draw1").flatten() for name in ("vp", "ve", "edm")}
    normal = LogNormal(ve_path.schedule).quantile(torch.special.ndtr(uniform["edm"]))
    sigmas = {
        "vp": (0.5 * vp_path.at(1 + uniform["vp"] * (1e-5 - 1)).gamma).exp(),
        "ve": (0.5 * ve_path.at(uniform["ve"]).gamma).exp(),
        "edm": normal.exp(),
    }
    weights = {"vp": WEIGHTS["simple"], "ve": WEIGHTS["simple"], "edm": partial(WEIGHTS["edm"], sigma_data=0.5)}
    for name, weight in weights.items():
        for precision, dtype in DTYPES.items():
            reference.check(f"{precision}_{name}_sigma", sigmas[name].to(dtype), 1e-9 if precision == "f64" else 1e-5)
            images, noise = reference.read("images", dtype), reference.read(f"{name}_noise", dtype)
            path = wide(sigmas[name])
            level = path.at_gamma(2 * sigmas[name].log())
            prediction = nine_tenths(density)(level.perturb(images, noise), level)
            value = over(weight(path, level), noise) * (prediction.eps - noise) ** 2
            reference.check(f"{precision}_{name}_loss", value, 1e-10 if precision == "f64" else 1e-4)
        path = wide(sigmas[name])
        objective = Matching(path, weight, Recorded(path.time_of(2 * sigmas[name].log())))
        mean = objective(nine_tenths(density), reference.read("images"), Tape(reference.read(f"{name}_noise"))).total
        truth = reference.recorded(f"f64_{name}_loss").flatten(1).mean(1)
        reference.fact(f"{name}: Matching is its mean", mean, truth, 1e-9)
    reference.leave(r"weight_sigma", "out of scope: an input whose output was not recorded apart")


def nine_tenths(density: object) -> Model:
    """A model whose x̂0 is 0.9 times the exact one."""

    def model(x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        exact = Oracle(density)(x.double(), level).x0  # type: ignore[arg-type]
        return Prediction(x, level, x0(level), (0.9 * exact).to(x.dtype))

    return model


def chain(
    sampler: Sampler, model: Model, x: Tensor, levels: Level, noise: Noise, churn: Churn
) -> tuple[Tensor, Tensor]:
    """(the end, every σ that the model was asked at), where the program churns before its step into σ = 0 as well."""
    seen: list[Tensor] = []

    def watched(x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        seen.append((0.5 * level.gamma).exp())
        return model(x, level, **condition)

    for step in simulate(sampler, watched, x, levels[: len(levels) - 1], noise=noise):
        x = step.x
    raised, level = churn(x, levels[-2], lambda name: noise(len(levels) - 2, name))
    return finish(watched, raised, level, levels[-1]).x, torch.stack(seen)


def sampler(reference: Reference) -> None:
    """edm_sampler: Heun on the ρ grid, with churn; noise j of the tape belongs to step j."""
    density = law(reference)
    for match in reference.keys(r"(edm\d+)_args"):
        own(reference, match[1], json.loads(reference.text(match[0])), Heun, density, 1e-9)
        reference.check(f"{match[1]}_nfe", torch.tensor(len(reference.recorded(f"{match[1]}_net_sigmas"))), 0.0)


def ablation(reference: Reference) -> None:
    """ablation_sampler: the rows whose discretisation, schedule and scaling are EDM's, by Euler and by Heun."""
    density = law(reference)
    for match in reference.keys(r"(abl\d+)_args"):
        options = json.loads(reference.text(match[0]))
        kind = {key: options.pop(key, default) for key, default in DEFAULTS.items()}
        if kind.pop("solver") == "heun":
            solver: type[Euler] | type[Heun] = Heun
        else:
            solver = Euler
        if kind == {key: value for key, value in DEFAULTS.items() if key != "solver"}:
            own(reference, match[1], options, solver, density, 1e-7)
        else:
            reference.leave(rf"{match[1]}_(x|net_sigmas)", OTHERS)


DEFAULTS = {"solver": "heun", "discretization": "edm", "schedule": "linear", "scaling": "none", "alpha": 1}


def own(
    reference: Reference,
    name: str,
    options: dict[str, float],
    solver: type[Euler] | type[Heun],
    density: object,
    tolerance: float,
) -> None:
    """One run on EDM's own grid."""
    steps = int(options["num_steps"])
    path = Path(geometric(options.get("sigma_min", 0.002), options.get("sigma_max", 80.0)), ve)
    grid = path.grid(steps, "clean", "rho", rho=options.get("rho", 7))
    churn = {
        "s_churn": options.get("S_churn", 0.0),
        "s_min": options.get("S_min", 0.0),
        "s_max": options.get("S_max", float("inf")),
        "s_noise": options.get("S_noise", 1.0),
    }
    tape = reference.read("noise")
    made = solver(**churn, steps=steps)
    start = reference.read("latents") * path.prior_std
    model = Oracle(density)  # type: ignore[arg-type]
    x, sigmas = chain(made, model, start, grid, lambda step, draw: tape[step], made.churn)
    reference.check(f"{name}_x", x, tolerance)
    reference.check(f"{name}_net_sigmas", sigmas, 1e-9)
