"""Deterministic samplers against the exact probability flow: how far off is each after 5, 8, 10, 20, 50 evaluations?

    python benchmarks/samplers.py --seed 0              one mixture; half a minute
    python benchmarks/samplers.py --seed 0 --seeds 10   ten mixtures: medians, and the worst of `auto`

The data is a mixture of 12 Gaussians in 64 dimensions, drawn anew from the seed and scaled to a standard deviation of
0.69; its exact denoiser stands for the network, so whatever error remains is the solver's and its grid's. The process
is DDPM's linear schedule of 1000 levels. The truth is the probability flow from the same noise, x at the highest level,
down to σ = 1e-4, by an adaptive Runge–Kutta method of order 8 in VE units; its own error is measured against another
method, of order 5, in the units and the time of the straight path. The error is the root mean square over examples and
dimensions. An evaluation is a call of the denoiser, counted there. Peers are measured beside us when they are installed
(`diffusers`, `k_diffusion`). The exit status is 1 when `auto` is above a bar.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path as File
from statistics import median

import numpy as np
import torch
from peers import Solver, peers
from scipy.integrate import solve_ivp
from torch import Tensor

from logsnr import Path, simulate, vp
from logsnr.data.toys import Mixture, mixture
from logsnr.denoiser import Model
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.prediction import Prediction
from logsnr.records import Part
from logsnr.run import build
from logsnr.schedules import SCHEDULES

BARS = {5: 0.16, 8: 0.085, 10: 0.045, 20: 0.004, 50: 0.0004}
COMPONENTS, DIMS = 12, 64
CLEAN = 1e-4  # σ̃ where the truth ends: x there is x0 to 1e-6
CHECKED = 32  # examples in the second integration
PATH = Path(SCHEDULES["beta_table"](), vp)
OURS = {
    "auto": (Part("auto"), None),
    "multistep 4, log_snr": (Part("multistep", {"order": 4}), "log_snr"),
    "multistep 3, log_snr": (Part("multistep", {"order": 3}), "log_snr"),
    "multistep 2, log_snr": (Part("multistep", {"order": 2}), "log_snr"),
    "multistep 2, uniform": (Part("multistep", {"order": 2}), "uniform"),
    "dpmpp_2m, rho": (Part("dpmpp_2m"), "rho"),
    "dpmpp_2m, log_snr": (Part("dpmpp_2m"), "log_snr"),
    "singlestep 3, log_snr": (Part("singlestep", {"order": 3}), "log_snr"),
    "heun, rho": (Part("heun"), "rho"),
    "heun, log_snr": (Part("heun"), "log_snr"),
    "ddim, log_snr": (Part("ddim"), "log_snr"),
    "ddim, uniform": (Part("ddim"), "uniform"),
}
CALLS = {"heun": 2, "singlestep": 3}  # of a step, where it is not one; the step into the clean level is one


@dataclass
class Counted:
    """A model that counts its calls."""

    model: Model
    calls: int = 0

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        self.calls += 1
        return self.model(x, level, **condition)


@dataclass(frozen=True)
class Problem:
    """Data, a start for each example at the highest level in VP units, and where the exact flow takes it.

    doubt: RMS between `truth` and the second integration.
    """

    law: Mixture
    start: Tensor
    truth: Tensor
    doubt: float

    def error(self, solver: Solver, budget: int) -> float:
        """Root mean square over examples and dimensions, of a solver that may call the model `budget` times."""
        model = Counted(Oracle(self.law))
        x = solver(model, self.start, budget)
        if model.calls > budget:
            raise ValueError(f"{model.calls} evaluations; allowed: {budget}")
        return float(((x - self.truth) ** 2).mean().sqrt())


def draw(seed: int, narrow: float, wide: float, std: float) -> Mixture:
    """Weights in proportion 0.5 to 1.5, normal means, standard deviations uniform in [narrow, wide] × std/0.69."""
    random = np.random.default_rng(seed)
    weights = random.uniform(0.5, 1.5, COMPONENTS)
    weights /= weights.sum()
    variances = (random.uniform(narrow, wide, (COMPONENTS, DIMS)) * std / 0.69) ** 2
    means = random.standard_normal((COMPONENTS, DIMS))
    within = float((weights @ variances).mean())
    between = float((weights @ means**2 - (weights @ means) ** 2).mean())
    means *= math.sqrt((std**2 - within) / between)
    return mixture(torch.from_numpy(weights), torch.from_numpy(means), torch.from_numpy(variances))


def recorded(file: File) -> Mixture:
    """The mixture of an archive with arrays mix_w (K,), mix_mu and mix_var (K, D)."""
    with np.load(file) as arrays:
        return mixture(*(torch.from_numpy(arrays[name]) for name in ("mix_w", "mix_mu", "mix_var")))


def problem(law: Mixture, seed: int, examples: int) -> Problem:
    """Starts σ_max z, keyed by the seed, and the flow of each to the data."""
    shape = (examples, *law.shape)
    noise = torch.from_numpy(np.random.default_rng([seed, 1]).standard_normal(shape))
    sigma_max = math.exp(0.5 * float(PATH.highest.gamma))
    truth, again = flow(law, sigma_max * noise), straight_flow(law, sigma_max * noise[:CHECKED])
    doubt = float(((truth[:CHECKED] - again) ** 2).mean().sqrt())
    return Problem(law, PATH.highest.sigma * noise, truth, doubt)


def flow(law: Mixture, begin: Tensor) -> Tensor:
    """dx/d log σ = x − x̂0 in VE units, from σ_max to CLEAN."""

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(flat).reshape(begin.shape)
        sigma = torch.tensor(math.exp(log_sigma), dtype=torch.float64)
        return (x - law.x0_mean(x, torch.ones(()), sigma)).flatten().numpy()

    span = (0.5 * float(PATH.highest.gamma), math.log(CLEAN))
    solution = solve_ivp(slope, span, begin.flatten().numpy(), "DOP853", rtol=1e-9, atol=1e-9)
    return torch.from_numpy(solution.y[:, -1]).reshape(begin.shape)


def straight_flow(law: Mixture, begin: Tensor) -> Tensor:
    """dz/dr = ε̂ − x̂0 of z = (1 − r) x at r = σ/(1 + σ), both by the score, from σ_max to CLEAN; x there."""
    first, last = (sigma / (1 + sigma) for sigma in (math.exp(0.5 * float(PATH.highest.gamma)), CLEAN))

    def slope(r: float, flat: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(flat).reshape(begin.shape)
        score = law.score(z, torch.tensor(1 - r), torch.tensor(r))
        return (-(z + r * score) / (1 - r)).flatten().numpy()  # ε̂ = −r s, x̂0 = (z + r² s)/(1 − r)

    z = ((1 - first) * begin).flatten().numpy()
    solution = solve_ivp(slope, (first, last), z, "RK45", rtol=1e-8, atol=1e-8)
    return torch.from_numpy(solution.y[:, -1]).reshape(begin.shape) / (1 - last)


def ours(part: Part, spacing: str | None) -> Solver:
    """One of this library's samplers on one of its grids, with at most so many evaluations."""

    def solve(model: Model, start: Tensor, budget: int) -> Tensor:
        sampler = build.sampler(build.sampler_part(part, "small", budget), PATH)
        steps = 1 + (budget - 1) // CALLS.get(part.name, 1)
        grid = build.grid(PATH, Part(spacing or sampler.spacing or "uniform"), steps, "clean")
        *_, last = simulate(sampler, model, start, grid, noise=silence)
        return last.x

    return solve


def silence(step: int, name: str) -> Tensor:
    raise AssertionError(f"a deterministic sampler drew {name!r} at step {step}")


def line(name: str, values: list[float]) -> str:
    return f"{name:<34}" + "".join(f"{value:>10.3g}" for value in values)


def verdict(errors: dict[int, list[float]]) -> bool:
    """Print `auto` against the bars: its worst seed decides."""
    print(f"\n{'auto':<12}{'bar':>10}{'least':>10}{'median':>10}{'most':>10}")
    for budget, values in errors.items():
        passed = "pass" if max(values) <= BARS[budget] else "MISS"
        print(
            f"{budget:<12}{BARS[budget]:>10}{min(values):>10.3g}{median(values):>10.3g}{max(values):>10.3g}  {passed}"
        )
    return all(max(values) <= BARS[budget] for budget, values in errors.items())


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the mixture and of the noise")
    parser.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--budgets", type=int, nargs="+", choices=BARS, default=list(BARS))
    parser.add_argument("--narrow", type=float, default=0.2, help="smallest standard deviation in a component")
    parser.add_argument("--wide", type=float, default=0.7, help="largest; below 0.4 the components do not touch")
    parser.add_argument("--std", type=float, default=0.69, help="standard deviation of the data")
    parser.add_argument(
        "--mixture", type=File, help="an .npz with mix_w, mix_mu, mix_var instead; the seed draws the noise"
    )
    parser.add_argument("--only", help="solvers whose name contains this")
    parser.add_argument("--json", type=File, help="write the tables here too")
    return parser


def main() -> int:
    args = flags().parse_args()
    torch.set_num_threads(1)
    started, problems = time.monotonic(), []
    for seed in range(args.seed, args.seed + args.seeds):
        law = recorded(args.mixture) if args.mixture else draw(seed, args.narrow, args.wide, args.std)
        problems.append(problem(law, seed, args.examples))
    doubt = max(given.doubt for given in problems)
    print(f"seeds {args.seed} to {args.seed + args.seeds - 1}, {args.examples} examples each")
    print(f"two integrators agree to {doubt:.1e} on the truth; that took {time.monotonic() - started:.1f} s\n")
    print(line("evaluations (median RMS)", args.budgets))
    solvers = {**{name: ours(*setting) for name, setting in OURS.items()}, **peers(PATH)}
    table: dict[str, dict[int, list[float]]] = {}
    for name, solver in solvers.items():
        if not args.only or args.only in name:
            table[name] = {n: [given.error(solver, n) for given in problems] for n in args.budgets}
            print(line(name, [median(values) for values in table[name].values()]), flush=True)
    passed = verdict(table["auto"]) if "auto" in table else True
    print(f"{time.monotonic() - started:.1f} s in all")
    if args.json:
        record = {"seed": args.seed, "seeds": args.seeds, "truth": doubt, "rms": table, "passed": passed}
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
