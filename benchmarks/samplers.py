"""Deterministic samplers against the exact probability flow: how far off is each after 5, 8, 10, 20, 50 evaluations?

    python benchmarks/samplers.py --seed 0

The data is a mixture of 12 Gaussians in 64 dimensions, drawn anew from the seed and scaled to a standard deviation of
0.69; its exact denoiser stands for the network, so whatever error remains is the solver's and its grid's. The process is
DDPM's linear schedule of 1000 levels. The truth is the probability flow from the same noise, x at the highest level, down
to σ = 1e-4, by an adaptive Runge–Kutta method of order 8 in VE units. The error is the root mean square over examples
and dimensions. Peers are measured beside us when they are installed (`diffusers`, `k_diffusion`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path as File

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from logsnr import Path, simulate, vp
from logsnr.data.toys import Mixture, mixture
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.records import Part
from logsnr.run import build
from logsnr.schedules import SCHEDULES

BUDGETS = (5, 8, 10, 20, 50)
BARS = (0.16, 0.085, 0.045, 0.004, 0.0004)
COMPONENTS, DIMS, STD = 12, 64, 0.69
PATH = Path(SCHEDULES["beta_table"](), vp)
OURS = {
    "auto": (Part("auto"), None),
    "multistep 4, log_snr": (Part("multistep", {"order": 4}), "log_snr"),
    "multistep 3, log_snr": (Part("multistep", {"order": 3}), "log_snr"),
    "multistep 2, log_snr": (Part("multistep", {"order": 2}), "log_snr"),
    "multistep 2, uniform": (Part("multistep", {"order": 2}), "uniform"),
    "dpmpp_2m, rho": (Part("dpmpp_2m"), "rho"),
    "dpmpp_2m, log_snr": (Part("dpmpp_2m"), "log_snr"),
    "heun, rho": (Part("heun"), "rho"),
    "ddim, log_snr": (Part("ddim"), "log_snr"),
    "ddim, uniform": (Part("ddim"), "uniform"),
}
Solver = Callable[["Problem", int], tuple[Tensor, int]]


@dataclass(frozen=True)
class Problem:
    """Data, a start for each example at the highest level (n, 64) and where the exact flow takes it."""

    law: Mixture
    start: Tensor
    truth: Tensor

    def eps(self, x: Tensor, level: Level) -> Tensor:
        """The exact ε̂ at a level, in its units."""
        return Oracle(self.law)(x, level).eps

    def error(self, x: Tensor) -> float:
        """Root mean square over examples and dimensions."""
        return float(((x - self.truth) ** 2).mean().sqrt())


def draw(seed: int, narrow: float, wide: float) -> Mixture:
    """Weights in proportion 0.5 to 1.5, normal means, standard deviations uniform in [narrow, wide]; data std 0.69."""
    random = np.random.default_rng(seed)
    weights = random.uniform(0.5, 1.5, COMPONENTS)
    weights /= weights.sum()
    variances = random.uniform(narrow, wide, (COMPONENTS, DIMS)) ** 2
    means = random.standard_normal((COMPONENTS, DIMS))
    within = float((weights @ variances).mean())
    between = float((weights @ means**2 - (weights @ means) ** 2).mean())
    means *= math.sqrt((STD**2 - within) / between)
    return mixture(torch.from_numpy(weights), torch.from_numpy(means), torch.from_numpy(variances))


def problem(seed: int, examples: int, narrow: float, wide: float) -> Problem:
    """A new mixture, starts σ_max z in the path's units, and the flow of each to the data."""
    law, top = draw(seed, narrow, wide), PATH.highest
    noise = torch.from_numpy(np.random.default_rng([seed, 1]).standard_normal((examples, DIMS)))

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat).reshape(examples, DIMS)
        sigma = torch.tensor(math.exp(log_sigma), dtype=torch.float64)
        return (x - law.x0_mean(x, torch.ones(()), sigma)).flatten().numpy()

    highest = float(0.5 * top.gamma)
    begin = (math.exp(highest) * noise).flatten().numpy()
    solution = solve_ivp(slope, (highest, math.log(1e-4)), begin, "DOP853", rtol=1e-9, atol=1e-9)
    return Problem(law, top.sigma * noise, torch.from_numpy(solution.y[:, -1]).reshape(examples, DIMS))


def ours(part: Part, spacing: str | None) -> Solver:
    """One of this library's samplers on one of its grids, with at most so many evaluations."""

    def solve(given: Problem, budget: int) -> tuple[Tensor, int]:
        sampler = build.sampler(build.sampler_part(part, "small", budget), PATH)
        steps = 1 + (budget - 1) // sampler.cost
        grid = build.grid(PATH, Part(spacing or sampler.spacing or "uniform"), steps, "clean")
        spent = 0
        for step in simulate(sampler, Oracle(given.law), given.start, grid, noise=silence):
            spent += int(step.evaluations[0])
        return step.x, spent

    return solve


def silence(step: int, name: str) -> Tensor:
    raise AssertionError(f"a deterministic sampler drew {name!r} at step {step}")


def diffusers_solvers() -> dict[str, Solver]:
    """Public schedulers of `diffusers`, on its own linear table."""
    import diffusers

    multistep = {"algorithm_type": "dpmsolver++", "timestep_spacing": "trailing"}
    settings: dict[str, tuple[str, dict[str, object]]] = {
        "DDIM trailing": ("DDIMScheduler", {"timestep_spacing": "trailing", "clip_sample": False}),
        "DDIM linspace": ("DDIMScheduler", {"timestep_spacing": "linspace", "clip_sample": False}),
        "DPM++ 2M": ("DPMSolverMultistepScheduler", {**multistep, "solver_order": 2}),
        "DPM++ 2M karras": ("DPMSolverMultistepScheduler", {**multistep, "solver_order": 2, "use_karras_sigmas": True}),
        "DPM++ 2M lambdas": ("DPMSolverMultistepScheduler", {**multistep, "solver_order": 2, "use_lu_lambdas": True}),
        "DPM++ 3M": ("DPMSolverMultistepScheduler", {**multistep, "solver_order": 3}),
        "DPM++ 3M lambdas": ("DPMSolverMultistepScheduler", {**multistep, "solver_order": 3, "use_lu_lambdas": True}),
        "UniPC 2": ("UniPCMultistepScheduler", {"solver_order": 2, "timestep_spacing": "linspace"}),
        "UniPC 3": ("UniPCMultistepScheduler", {"solver_order": 3, "timestep_spacing": "linspace"}),
        "DEIS 3": ("DEISMultistepScheduler", {"solver_order": 3, "timestep_spacing": "linspace"}),
    }

    def solver(name: str, options: dict[str, object]) -> Solver:
        def solve(given: Problem, budget: int) -> tuple[Tensor, int]:
            scheduler = getattr(diffusers, name)(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", **options)
            scheduler.set_timesteps(budget)
            x, spent = given.start * float(scheduler.init_noise_sigma), 0
            for t in scheduler.timesteps:
                scaled = scheduler.scale_model_input(x, t)
                level = PATH.at(((t.double() + 1) / 1000).clamp(1 / 1000, 1))
                x, spent = scheduler.step(given.eps(scaled, level), t, x).prev_sample, spent + 1
            return x, spent

        return solve

    return {f"diffusers {key}": solver(*setting) for key, setting in settings.items()}


def k_diffusion_solvers() -> dict[str, Solver]:
    """Public samplers of `k_diffusion`, in VE units on its Karras and exponential grids."""
    from k_diffusion import sampling

    low, high = (float((0.5 * level.gamma).exp()) for level in (PATH.lowest, PATH.highest))
    grids = {"karras": sampling.get_sigmas_karras, "exponential": sampling.get_sigmas_exponential}

    def solver(sample: Callable[..., Tensor], grid: Callable[..., Tensor], cost: int) -> Solver:
        def solve(given: Problem, budget: int) -> tuple[Tensor, int]:
            spent = 0

            def model(x: Tensor, sigma: Tensor) -> Tensor:
                nonlocal spent
                spent += 1
                return given.law.x0_mean(x, torch.ones(()), sigma)

            sigmas = grid(1 + (budget - 1) // cost, low, high).double()
            return sample(model, given.start / PATH.highest.alpha, sigmas, disable=True), spent

        return solve

    samplers = {"dpmpp_2m": (sampling.sample_dpmpp_2m, 1), "lms": (sampling.sample_lms, 1)}
    samplers |= {"heun": (sampling.sample_heun, 2), "dpm_2": (sampling.sample_dpm_2, 2)}
    return {
        f"k_diffusion {name} {key}": solver(sample, grid, cost)
        for name, (sample, cost) in samplers.items()
        for key, grid in grids.items()
    }


def peers() -> dict[str, Solver]:
    """Whatever is installed."""
    known = {"diffusers": diffusers_solvers, "k_diffusion": k_diffusion_solvers}
    return {
        name: solver
        for package, solvers in known.items()
        if importlib.util.find_spec(package)
        for name, solver in solvers().items()
    }


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seed", type=int, default=0, help="of the mixture and of the noise")
    flags.add_argument("--examples", type=int, default=256)
    flags.add_argument("--narrow", type=float, default=0.2, help="smallest standard deviation in a component")
    flags.add_argument("--wide", type=float, default=0.7, help="largest; below 0.4 the components do not touch")
    flags.add_argument("--only", help="solvers whose name contains this")
    flags.add_argument("--json", type=File, help="write the table here too")
    args = flags.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    given = problem(args.seed, args.examples, args.narrow, args.wide)
    print(f"seed {args.seed}, {args.examples} examples; the exact flow took {time.monotonic() - started:.1f} s\n")
    print(f"{'evaluations':<34}" + "".join(f"{n:>10}" for n in BUDGETS))
    print(f"{'bar for auto':<34}" + "".join(f"{bar:>10}" for bar in BARS))
    solvers = {**{name: ours(*setting) for name, setting in OURS.items()}, **peers()}
    table: dict[str, list[float]] = {}
    for name, solve in solvers.items():
        if args.only and args.only not in name:
            continue
        made = [solve(given, budget) for budget in BUDGETS]
        assert all(spent <= budget for (_, spent), budget in zip(made, BUDGETS, strict=True)), f"{name} spends more"
        table[name] = [given.error(x) for x, _ in made]
        print(f"{name:<34}" + "".join(f"{error:>10.5f}" for error in table[name]), flush=True)
    passed = "auto" in table and all(error <= bar for error, bar in zip(table["auto"], BARS, strict=True))
    print(f"\nauto {'is within' if passed else 'is NOT within'} every bar; {time.monotonic() - started:.1f} s in all")
    if args.json:
        record = {"seed": args.seed, "budgets": BUDGETS, "rms": table, "passed": passed}
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0 if passed or "auto" not in table else 1


if __name__ == "__main__":
    raise SystemExit(main())
