"""k-diffusion: denoisers, noise laws, grids and samplers."""

from __future__ import annotations

import json
import re
from functools import partial

import torch
from torch import Tensor, nn

from logsnr.denoiser import Denoiser, Label, Model, unit_variance
from logsnr.level import Level, over
from logsnr.objectives import TIMES, WEIGHTS, Matching
from logsnr.objectives.noise_laws import CutLaw
from logsnr.objectives.weights import Weight
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, edm, eps, v
from logsnr.samplers import DPMAdaptive, DPMSolver2M, Euler, EulerAncestral, Heun, Sampler, Singlestep, simulate
from logsnr.samplers.churn import Churn
from logsnr.scales import ve, vp
from logsnr.schedules import BetaLinear, Linear, geometric, table_of_betas

from .edm import chain, wide
from .parts import Recorded, Tape, law
from .reference import Reference

OTHERS = "out of scope: DPM-Solver-2, its SDE forms and linear multistep in σ"


class Probe(nn.Module):
    """tanh(x) + strength · label."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.tanh(x) + over(self.strength * label, x)


def denoisers(reference: Reference) -> None:
    """Discrete ε and v models read at any σ, the continuous v model and Karras' preconditioner; and the noise laws."""
    bars = reference.read("alphas_cumprod")
    table = Path(table_of_betas(1 - bars / torch.cat([bars.new_ones(1), bars[:-1]])), vp)
    log_sigmas = 0.5 * table.schedule(torch.arange(1, len(bars) + 1, dtype=torch.float64) / len(bars))
    reference.check("eps_sigmas", log_sigmas.exp(), 1e-10)
    reference.check("eps_t_to_sigma", between(log_sigmas, [0, 0.5, 3.25, 998.9, 999]).exp(), 1e-10)
    steps = torch.linspace(len(bars) - 1, 0, 10, dtype=torch.float64).tolist()
    reference.check("eps_get_sigmas_n10", torch.cat([between(log_sigmas, steps).exp(), bars.new_zeros(1)]), 1e-10)
    sigma = reference.read("sigma")
    for quantised in (0, 1):
        label = partial(place, log_sigmas, quantised=bool(quantised))
        t = label(table, wide(sigma).at_gamma(2 * sigma.log()))
        reference.check(f"eps_q{quantised}_t", t.long() if quantised else t, 1e-10)
        discrete = Denoiser(Probe(1e-3), table, eps, label=label)
        one(reference, f"eps_q{quantised}", discrete, WEIGHTS["simple"])
        one(reference, f"v_q{quantised}", Denoiser(Probe(1.0), table, v, label=label), WEIGHTS["v"])
    share = TIMES["cosine"](geometric(1e-4, 1e4), sigma_data=1.0).share
    reference.check("vden_t", share(sigma.log()), 1e-10)
    continuous = Path(geometric(1e-4, 1e4), vp)
    turned: Label = lambda path, level: share(0.5 * level.gamma)  # noqa: E731
    one(reference, "vden", Denoiser(Probe(1.0), continuous, v, label=turned), WEIGHTS["v"])
    preconditioned = Denoiser(
        Probe(0.1),
        Path(geometric(1e-4, 1e4), ve),
        partial(edm, sigma_data=0.6),
        label=lambda path, level: (0.5 * level.gamma).exp(),
        inputs=partial(unit_variance, sigma_data=0.6),
    )
    weights = {"karras": "edm", "soft-min-snr": "soft_min_snr"}
    for theirs, ours in weights.items():
        one(reference, "karras", preconditioned, partial(WEIGHTS[ours], sigma_data=0.6), f"karras_{theirs}_loss")
    one(reference, "karras", preconditioned, WEIGHTS["simple"], "karras_snr_loss")
    laws(reference)


def between(log_sigmas: Tensor, places: list[float]) -> Tensor:
    """log σ at fractional indices of the table, linear between the entries as the original has it."""
    t = torch.tensor(places, dtype=torch.float64)
    low, high, share = t.floor().long(), t.ceil().long(), t.frac()
    return (1 - share) * log_sigmas[low] + share * log_sigmas[high]


def place(log_sigmas: Tensor, path: Path, level: Level, *, quantised: bool) -> Tensor:
    """The original's t of σ: the nearest entry, or linear in log σ between two (ours is a monotone cubic)."""
    log_sigma = 0.5 * level.gamma
    if quantised:
        return (log_sigma.unsqueeze(-1) - log_sigmas).abs().argmin(-1).double()
    low = (torch.searchsorted(log_sigmas, log_sigma) - 1).clamp(0, len(log_sigmas) - 2)
    share = ((log_sigma - log_sigmas[low]) / (log_sigmas[low + 1] - log_sigmas[low])).clamp(0, 1)
    return low + share


def one(reference: Reference, name: str, model: Denoiser, weight: Weight, loss: str = "") -> None:
    """D(x, σ) and the loss of one denoiser, in VE units."""
    sigma = reference.read("sigma")
    path = wide(sigma)
    level = path.at_gamma(2 * sigma.log())
    reference.check(f"{name}_D", model(reference.read("x"), level).x0, 1e-10)
    matching = Matching(path, weight, Recorded(path.time_of(2 * sigma.log())))
    value = matching(model, reference.read("input"), Tape(reference.read("noise"))).total
    reference.check(loss or f"{name}_loss", value, 1e-10)


def laws(reference: Reference) -> None:
    """Densities of σ by their quantile functions; recorded in single precision."""
    bounded, free = Linear(*(2 * torch.tensor([0.01, 50.0]).double().log()).tolist()), geometric(1e-9, 1e9)
    settings = {
        "log_normal": ("log_normal", free, {"mean": -1.2, "std": 1.2}),
        "log_logistic": ("log_logistic", bounded, {"mean": -1.0, "scale": 0.7}),
        "log_uniform": ("log_uniform", bounded, {}),
        "v_diffusion": ("cosine", bounded, {"sigma_data": 0.6}),
    }
    for name, (ours, schedule, options) in settings.items():
        uniform = Uniforms(reference.read(f"rand_{name}_draw0_uniform"))
        t = TIMES[ours](schedule, stratified=False, **options).draw(uniform).t
        reference.check(f"rand_{name}", (0.5 * schedule(t)).exp(), 1e-6)
    split = TIMES["split_log_normal"](free, mode=-1.0, below=0.5, above=1.0)
    assert isinstance(split, CutLaw)
    tail = 2 * torch.special.ndtr(-reference.read("rand_split_log_normal_draw0_normal").abs())
    side = reference.read("rand_split_log_normal_draw1_uniform") < 0.5 / 1.5
    u = torch.where(side, tail * 0.5 / 1.5, 1 - tail * 1.0 / 1.5)
    reference.check("rand_split_log_normal", split.quantile(u).exp(), 1e-6)


class Uniforms:
    """Stands for `Draws` where uniform numbers were recorded."""

    def __init__(self, u: Tensor) -> None:
        self.u = u

    def uniform(self, name: str) -> Tensor:
        return self.u


def schedules(reference: Reference) -> None:
    """get_sigmas_* are spacings of a path, get_ancestral_step is what EulerAncestral does."""
    low, high = reference.read("sigma_min_max").tolist()
    ve_path, vp_path = Path(geometric(low, high), ve), Path(BetaLinear(t_min=1e-3), vp)
    names = {
        "karras": (ve_path, "rho", {}),
        "karras_rho5": (ve_path, "rho", {"rho": 5.0}),
        "exponential": (ve_path, "log_snr", {}),
        "polyexponential": (ve_path, "log_snr", {}),
        "polyexponential_rho2": (ve_path, "quadratic", {}),
        "vp": (vp_path, "uniform", {}),
    }
    for match in reference.keys(r"(f\d\d)_([a-z]+(?:_rho\d)?)_n(\d+)"):
        path, spacing, options = names[match[2]]
        value = (0.5 * path.grid(int(match[3]), "clean", spacing, **options).gamma).exp()
        double = match[1] == "f64"
        reference.check(match[0], value if double else value.float(), 1e-12 if double else 1e-5)
    rows = [ancestral(*row.tolist()) for row in reference.read("ancestral_in")]
    reference.check("ancestral_down_up", torch.stack(rows), 1e-12)
    reference.leave(r"lms_.*", "out of scope: linear multistep in σ")


def ancestral(before: float, after: float, eta: float) -> Tensor:
    """(σ_down, σ_up): what the step keeps of ε̂ = 1 and adds of ε = 1 when x̂0 = 0."""
    path = Path(geometric(1e-6, 1e6), ve)
    t, s = (path.at_gamma(2 * torch.tensor(sigma, dtype=torch.float64).log()) for sigma in (before, after))
    ones = torch.ones(1, 1, dtype=torch.float64)

    def model(x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return Prediction(x, level, eps(level), ones)

    step = EulerAncestral(eta).step(model, before * ones, t, s, noise=lambda name: ones)
    return torch.cat([step.mean[0], (step.x - step.mean)[0]])


def samplers(reference: Reference) -> None:
    """sample_euler, heun (with churn), euler_ancestral and dpmpp_2m with the exact denoiser."""
    density, tape, sigmas = law(reference), reference.read("noise"), reference.read("sigmas")
    path = Path(geometric(float(sigmas[-2]), float(sigmas[0])), ve)
    levels = path.at_gamma(2 * sigmas[:-1].log()).then(path.at(0.0))
    for match in reference.keys(r"(.+)_args"):
        options = json.loads(reference.text(match[0]))
        kind = re.fullmatch(r"(euler|heun|euler_ancestral|dpmpp_2m)(_churn|_eta0?)?", match[1])
        if kind is None:
            reference.leave(rf"{match[1]}_(x|model_sigmas)", OTHERS)
            continue
        sampler, churn = of(kind[1], options, len(sigmas) - 1)
        x, asked = chain(sampler, Oracle(density), reference.read("x"), levels, lambda i, _: tape[i], churn)
        reference.check(f"{match[1]}_x", x, 1e-9)
        reference.check(f"{match[1]}_model_sigmas", asked, 1e-9)
    reference.leave(r".+_ndraws", "out of scope: how many draws the program took, used or not")


def of(name: str, options: dict[str, float], steps: int) -> tuple[Sampler, Churn]:
    """The library's sampler of that name, and the churn that the program applies before its last step too."""
    none = Churn()
    if name == "dpmpp_2m":
        return DPMSolver2M(), none
    if name == "euler_ancestral":
        return EulerAncestral(**options), none
    names = {"s_churn": "s_churn", "s_tmin": "s_min", "s_tmax": "s_max", "s_noise": "s_noise"}
    solver = {"euler": Euler, "heun": Heun}[name](**{names[k]: value for k, value in options.items()}, steps=steps)
    return solver, solver.churn


def fast_adaptive(reference: Reference) -> None:
    """sample_dpm_fast is steps of order 3 and a rest, equal in log σ; sample_dpm_adaptive shares its steps in a batch.

    Both end at σ_min. x, and the σ that the model was asked at; info is [steps, evaluations, taken, refused].
    """
    density, start, ends = law(reference), reference.read("x"), reference.read("sigma_min_max")
    path = Path(geometric(*ends.tolist()), ve)
    for match in reference.keys(r"(fast_n(\d+)(?:_eta(\d))?)_x"):
        model, orders = Watched(Oracle(density)), fast_orders(int(match[2]))
        levels, x, tape = path.grid(len(orders), "lowest", "log_snr"), start, Taken(reference, "fast_noise")
        for i, order in enumerate(orders):
            solver = Singlestep(path, order, float(match[3] or 0))
            (step,) = simulate(solver, model, x, levels[i : i + 2], noise=tape)
            x = step.x
        reference.check(match[0], x, 1e-8)
        reference.check(f"{match[1]}_model_sigmas", torch.stack(model.sigmas), 1e-8)
    for match in reference.keys(r"(adaptive_(?:o(\d)_rtol([\d.]+)|eta))_x"):
        model, rtol = Watched(Oracle(density)), float(match[3] or 0.05)
        order, eta = int(match[2] or 2), 0.0 if match[2] else 0.5
        solver = DPMAdaptive(path, order, rtol, 0.0078 if rtol == 0.05 else 1e-4, eta=eta, norm="batch")
        tape = Taken(reference, "adaptive_eta_noise")
        (step,) = simulate(solver, model, start, path.grid(1, "lowest"), noise=tape)
        steps, taken = len(model.sigmas) // order, len(set(torch.stack(model.sigmas[::order]).tolist()))
        info = torch.tensor([steps, int(step.evaluations[0]), taken, steps - taken])
        reference.check(match[0], step.x, 1e-8)
        reference.check(f"{match[1]}_info", info, 0.0)
        reference.check(f"{match[1]}_model_sigmas", torch.stack(model.sigmas), 1e-8)


class Watched:
    """A model that notes the σ of each question, in VE units; examples ask together."""

    def __init__(self, model: Model) -> None:
        self.model, self.sigmas = model, list[Tensor]()

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        self.sigmas.append((0.5 * level.gamma.flatten()[0]).exp())
        return self.model(x, level)


class Taken:
    """A tape of noise whose next row is whatever is asked for next."""

    def __init__(self, reference: Reference, key: str) -> None:
        self.rows = iter(reference.read(key))

    def __call__(self, step: int, name: str) -> Tensor:
        return next(self.rows)


def fast_orders(calls: int) -> list[int]:
    """The orders of DPM-Solver-fast's steps, which together make so many calls (DPM-Solver, section 3.4)."""
    whole = calls // 3
    return [3] * (whole - 1) + [2, 1] if calls % 3 == 0 else [3] * whole + [calls % 3]
