"""Score SDE's program: predictor–corrector chains and the probability flow by an adaptive solver."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor

from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.prediction import Prediction
from logsnr.samplers import CORRECTORS, Adaptive, Ancestral, PredictorCorrector, Sampler, Step, evaluations, prior
from logsnr.samplers.corrector import StepSize

from .flows import score_sde as likelihood
from .parts import DTYPES, law
from .parts import model as at_knots
from .reference import Reference
from .score_sde import Euler, Program, Shown, program

BETA_MAX = 8.0  # of the chains: with 20 a step of N = 20 would have β = 1
NAMES = (
    r"(euler_maruyama|reverse_diffusion|ancestral_sampling|none)__(none|langevin|ald)(?:__(noisy|probflow|discrete))?"
)


class _Stay(Sampler):
    """The program's predictor "none": x stays, the level is the next."""

    order, scale_free, stochastic = None, False, False

    def step(self, model: Model, x: Tensor, t: Level, s: Level, *, noise: object, memory: object = None) -> Step:
        return Step(x, x, Prediction(x, t, lambda level: level, x), s, evaluations(x, 0))


class _Watched:
    """A model that keeps what its network was shown."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.inputs: list[Tensor] = []
        self.labels: list[Tensor] = []
        self.model = model
        model.network.register_forward_pre_hook(self._keep)

    def _keep(self, network: torch.nn.Module, arguments: tuple[Tensor, Tensor]) -> None:
        x, label = arguments
        assert torch.equal(label, label[0].expand(len(x)))
        self.inputs.append(x.clone())
        self.labels.append(label[0].clone())


def predictor_corrector(reference: Reference) -> None:
    """get_pc_sampler: `<precision>_<predictor>__<corrector>[__variant]_x`, and what the network saw.

    The program's model is read at t_i = linspace(1, eps, N), its steps are those of a table of N: a level t of the
    library's step, with the score from t_i put in its place. f64 1e-8; f32 1e-3.
    """
    sde = program(reference, reference.number("N"), BETA_MAX)
    for match in reference.keys(rf"(f64|f32)_({NAMES})_x"):
        precision, run = match[1], match[2]
        x, watched = chain(reference, sde, match, DTYPES[precision])
        reference.check(match[0], x, 1e-8 if precision == "f64" else 1e-3)
        if precision == "f64":
            reference.check(f"f64_{run}_model_inputs", torch.stack(watched.inputs), 1e-8)
            told = torch.stack(watched.labels)
            seen(reference, sde, f"f64_{run}_labels", told, discrete=match[5] == "discrete")


def seen(reference: Reference, sde: Program, key: str, told: Tensor, *, discrete: bool) -> None:
    """Labels: 999 t, σ, and of discrete networks a place from the top (ve) or t (N − 1), which is then truncated."""
    if not discrete:
        reference.check(key, told, 1e-8)
    elif sde.label == "sigma":
        reference.check(key, sde.count - 1 - told, 0.0)
    elif key in reference:
        reference.fact(f"{key}, truncated", told, reference.recorded(key).floor(), 0.0)
        why = "out of scope: a network of N steps is told fractions of a step; here it is told the step"
        reference.leave(re.escape(key), why)


def chain(reference: Reference, sde: Program, match: re.Match[str], dtype: torch.dtype) -> tuple[Tensor, _Watched]:
    """What a run returned: x without the last noise unless it says `noisy`."""
    _, run, predictor, corrector, variant = match.groups()
    tape, density = reference.read("noise", dtype), law(reference)
    steps, snr = reference.number("n_steps"), float(reference.read("snr"))
    count = steps if corrector != "none" else 0
    draws = iter(tape[: reference.number(f"{run}_ndraws")])
    discrete = variant == "discrete"
    model = at_knots(density, sde.chain, sde.target) if discrete else sde.model(density)
    watched = _Watched(model)
    x = prior(sde.path, lambda step, name: next(draws))
    for t in torch.linspace(1, float(reference.read("eps")), sde.count, dtype=torch.float64):
        high, low = sde.step_levels(t)
        shown = model if discrete else Shown(model, sde.path.at(t))
        size = step_size(corrector, snr, sde.path.at(t))
        sampler = PredictorCorrector(made(sde, predictor, variant, t), size, count)
        step = sampler.step(shown, x, high, low, noise=lambda name: next(draws))
        x = step.x
        if variant == "probflow":
            next(draws)  # the program draws and multiplies by 0
    assert next(draws, None) is None, "every draw has its place"
    return x if variant == "noisy" else step.mean, watched


def step_size(corrector: str, snr: float, now: Level) -> StepSize:
    """The program's norms are means over the batch; the σ of its annealed steps is that of t_i, not of the table."""
    if corrector == "ald":
        annealed = CORRECTORS["annealed"](snr)
        return lambda score, noise, t, s: annealed(score, noise, replace(t, log_sigma=now.log_sigma), s)
    return CORRECTORS["langevin"](snr, norm="batch")


def made(sde: Program, predictor: str, variant: str | None, t: Tensor) -> Sampler:
    """The predictor; the ancestral one has the large variance on vp and the small one on ve."""
    eta = 0.0 if variant == "probflow" else 1.0
    if predictor == "none":
        return _Stay()
    if predictor == "euler_maruyama":
        return Euler(sde, eta, t)
    if predictor == "reverse_diffusion":
        return sde.reverse_diffusion(eta)
    return Ancestral("small" if sde.label == "sigma" else "large")


def flow(reference: Reference) -> None:
    """get_likelihood_fn (`flows`), and get_ode_sampler with and without denoising.

    Its rtol = atol is 1e-10 (to 1e-7) and 1e-5 (its own error: 3e-4).

    The program's solver has one step size for the batch; its numbers of evaluations are its own.
    """
    likelihood(reference)
    reference.leave(r"(f64|f32)_ode_denoise[01]_nfe", "out of scope: evaluations of the program's joint solver")
    sde, density = program(reference, 1000), law(reference)
    low = sde.path.at(reference.read("ode_eps"))
    for precision, tolerance in (("f64", 1e-10), ("f32", 1e-5)):
        model, z = sde.model(density), reference.read("ode_z", DTYPES[precision])
        solver = Adaptive(sde.path, rtol=tolerance, atol=tolerance)
        x = solver.step(model, z, sde.path.highest, low, noise=lambda name: torch.zeros(0)).x
        slack = 3e-4 if precision == "f64" else 1e-3
        reference.check(f"{precision}_ode_tight_x", x, 1e-7)
        reference.check(f"{precision}_ode_denoise0_x", x, slack)
        high, below = sde.step_levels(low.t)
        denoise, zero = sde.reverse_diffusion(1.0), torch.zeros_like(z)
        step = denoise.step(Shown(model, low), x, high, below, noise={"step": zero}.__getitem__)
        reference.check(f"{precision}_ode_denoise1_x", step.mean, slack)
