"""Score SDE's program: its three SDEs with their tables of N, its stand-in networks, functions, losses, averages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from logsnr import betas
from logsnr.data.toys import Mixture
from logsnr.denoiser import LABELS, Denoiser, Model
from logsnr.dynamics import dynamics, euler_maruyama, flow_drift, reverse_drift
from logsnr.kernels import Normal, transition
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, Target, eps, score
from logsnr.samplers import EulerMaruyama, ReverseDiffusion, Sampler, Step, evaluations
from logsnr.scales import sub_vp, ve, vp
from logsnr.schedules import SCHEDULES, BetaLinear, geometric
from logsnr.train.ema import lerp
from logsnr.train.optim import adamw, learning_rate

from .parts import DTYPES, dims, knots, law, matching, table
from .parts import model as at_knots
from .reference import Reference

FIRST_TIME = 1e-5  # of training


@dataclass(frozen=True)
class Program:
    """path: the SDE. chain: its table of N levels, None for sub-VP, which the program discretises by Euler's method.

    target, label: what its networks answer, and what they are told.
    """

    path: Path
    chain: Path | None
    count: int
    target: Target
    label: str

    def model(self, law: Mixture) -> Denoiser:
        """The stand-in for a network of continuous time."""
        read: Callable[[Tensor], Level]
        if self.label == "time":
            read = lambda label: self.path.at(label.double() / 999)  # noqa: E731
        else:
            read = lambda label: self.path.at_gamma(2 * label.double().log())  # noqa: E731
        return Denoiser(_Told(law, self.target, read), self.path, self.target, label=LABELS[self.label])

    def step_levels(self, t: Tensor) -> tuple[Level, Level]:
        """(t, s) of the chain's step at a time: index trunc(t (N − 1)), truncated as the program does.

        Without a chain, the level at t and a time 1/N below it; no level is there, Euler's method reads the time.
        """
        if self.chain is None:
            level = self.path.at(t)
            return level, replace(level, t=t - 1 / self.count)
        return knots(self.chain, (t * (self.count - 1)).long())

    def reverse_diffusion(self, eta: float) -> Sampler:
        """The program's predictor of that name, which for sub-VP is Euler's method."""
        return ReverseDiffusion(eta) if self.chain is not None else Euler(self, eta)


class _Told(nn.Module):
    """Exact answers at the level that the label tells, made in float64 and then cast."""

    def __init__(self, law: Mixture, target: Target, level: Callable[[Tensor], Level]) -> None:
        super().__init__()
        self.law, self.target, self.level = law, target, level

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        level = self.level(label)
        return Oracle(self.law)(x.double(), level).along(self.target(level)).to(x.dtype)


@dataclass(frozen=True)
class Shown:
    """A network of continuous time under a table's step: its score at `level`, read at whatever level is asked."""

    model: Model
    level: Level

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        return Prediction(x, level, score(level), self.model(x, self.level, **condition).score)


class Euler(Sampler):
    """The program's Euler–Maruyama: steps of 1/N whatever the grid, the score from the time it is made for."""

    order, scale_free = 1, False

    def __init__(self, program: Program, eta: float, t: Tensor | None = None) -> None:
        self.program, self.eta, self.t, self.stochastic = program, eta, t, eta > 0

    def step(
        self, model: Model, x: Tensor, t: Level, s: Level, *, noise: Callable[[str], Tensor], memory: object = None
    ) -> Step:
        prediction, time = model(x, t), t.t if self.t is None else self.t
        after = time - 1 / self.program.count
        mean, std = euler_maruyama(dynamics(self.program.path), prediction.score, x, time, after, self.eta)
        return Step(mean + std * noise("step") if self.eta else mean, mean, prediction, s, evaluations(x, 1))


def program(reference: Reference, count: int, beta_max: float = 20.0) -> Program:
    """The SDE that the file's name says, with the program's constants."""
    kind = reference.name.split("_")[1]
    if kind == "ve":
        chain = Path(SCHEDULES["sigma_table"](sigma_min=0.01, sigma_max=50.0, num_diffusion_steps=count), ve)
        return Program(Path(geometric(0.01, 50.0), ve), chain, count, score, "sigma")
    if kind == "vp":
        chain = table(betas.linear(count, 0.1 / count, beta_max / count))
        return Program(Path(BetaLinear(0.1, beta_max), vp), chain, count, eps, "time")
    return Program(Path(BetaLinear(0.1, beta_max, sub_vp), sub_vp), None, count, eps, "time")


def functions(reference: Reference) -> None:
    """Drift, diffusion, marginals, prior, one forward step, and their reversals with and without noise; 1e-8."""
    sde = program(reference, reference.number("N"))
    t, x = reference.read("t"), reference.read("x")
    process, level, model = dynamics(sde.path), sde.path.at(t), sde.model(law(reference))
    answer = model(x, level).score
    prior_log_var = torch.tensor(2 * math.log(sde.path.prior_std), dtype=torch.float64)
    values = {
        "drift": process.drift(x, t),
        "diffusion": process.diffusion(t),
        "marginal_mean": level.perturb(x, torch.zeros_like(x)),
        "marginal_std": level.sigma,
        "prior_logp": Normal(torch.zeros_like(x), prior_log_var).log_prob(x),
        "score": answer,
        "reverse_drift_pf0": reverse_drift(process, answer, x, t),
        "reverse_drift_pf1": flow_drift(process, answer, x, t),
        "reverse_diffusion_pf0": process.diffusion(t),
        "reverse_diffusion_pf1": torch.tensor(float(EulerMaruyama(sde.path, eta=0.0).stochastic), dtype=torch.float64),
    }
    high, low = sde.step_levels(t)
    if sde.chain is None:
        mean, std = euler_maruyama(process, torch.zeros_like(x), x, t, t + 1 / sde.count)
        values |= {"discretize_f": mean - x, "discretize_G": std.flatten()}
    else:
        forward = transition(x, low, high)
        values |= {"discretize_f": forward.mean - x, "discretize_G": torch.exp(0.5 * forward.log_var).flatten()}
    for flow in (0, 1):
        sampler = sde.reverse_diffusion(1.0 - flow)
        step = sampler.step(Shown(model, level), x, high, low, noise=lambda name: torch.ones_like(x))
        values[f"reverse_discretize_f_pf{flow}"] = x - step.mean
        values[f"reverse_discretize_G_pf{flow}"] = (step.x - step.mean).flatten(1)[:, 0]
    for key, value in values.items():
        reference.check(key, value, 1e-8)
    if sde.chain is not None:
        knots_ = sde.chain.at((torch.arange(sde.count) + 1).double() / sde.count)
        reference.check("discrete_sigmas", knots_.sigma, 1e-10)
        reference.check("alphas_cumprod", knots_.alpha**2, 1e-10)
        reference.check("discrete_betas", betas.linear(sde.count, 0.1 / sde.count, 20.0 / sde.count), 1e-10)


@dataclass(frozen=True)
class _Scaled:
    """A model whose network's answer is multiplied."""

    model: Model
    factor: float

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        prediction = self.model(x, level, **condition)
        return replace(prediction, value=self.factor * prediction.value)


def losses(reference: Reference) -> None:
    """get_sde_loss_fn, continuous and discrete: means over the batch of the library's weighted error in ε.

    reduce_mean 1 is a mean over dimensions and 0 half the sum. f64 1e-8, f32 1e-4.
    """
    sde, density = program(reference, reference.number("N")), law(reference)
    pattern = r"(f64|f32)_(opt|scaled07)_(?:mean([01])_lw([01])|discrete_mean([01]))"
    for match in reference.keys(pattern):
        precision, network, mean, weighted, discrete_mean = match.groups()
        dtype, discrete = DTYPES[precision], weighted is None
        data, noise = (reference.read(key, dtype) for key in ("batch", "discrete_noise" if discrete else "noise"))
        if discrete:
            assert sde.chain is not None
            label = reference.read("discrete_labels")
            # the program's labels of a σ table count from the largest
            index = sde.count - 1 - label if sde.label == "sigma" else label
            path, t = sde.chain, knots(sde.chain, index)[0].t
            model: Model = at_knots(density, path, sde.target)
        else:
            path, model = sde.path, sde.model(density)
            t = FIRST_TIME + (1 - FIRST_TIME) * reference.read("t_uniform")
        model = _Scaled(model, 0.7) if network == "scaled07" else model
        loss = matching(path, model, data, noise, t, "likelihood" if weighted == "1" else "simple").total.mean()
        of_dims = 1.0 if (mean or discrete_mean) == "1" else 0.5 * dims(data)
        reference.check(match[0], of_dims * loss, 1e-8 if precision == "f64" else 1e-4)


def averages(reference: Reference) -> None:
    """ExponentialMovingAverage, whose decay grows as (1 + n)/(10 + n), and Adam under a warm-up that starts at 0."""
    rows, most = reference.read("params"), float(reference.read("decay"))
    average, after = rows[0].clone(), []
    for n, row in enumerate(rows[1:], 1):
        lerp([average], [row], min(most, (1 + n) / (10 + n)))
        after.append(average.clone())
    reference.check("shadow_after", torch.stack(after), 1e-10)

    module = nn.Module()
    module.w = nn.Parameter(reference.read("opt_w0"))
    c, optimizer, lrs, weights = reference.read("opt_c"), adamw(module, lr=0.1), [], []
    for step in range(len(reference.recorded("opt_lr"))):
        # the program counts the update at hand, the library the finished ones
        lrs.append(learning_rate(step - 1, base=0.1, warmup_steps=4))
        for group in optimizer.param_groups:
            group["lr"] = lrs[-1]
        optimizer.zero_grad()
        (c * module.w**2).sum().backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        weights.append(module.w.detach().clone())
    reference.check("opt_lr", torch.tensor(lrs, dtype=torch.float64), 1e-10)
    reference.check("opt_w_after", torch.stack(weights), 1e-10)
