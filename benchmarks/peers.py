"""Public solvers for `samplers.py`, in the settings their projects offer: whatever is installed is measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from torch import Tensor

from logsnr import Path
from logsnr.denoiser import Model
from logsnr.scales import SCALES

Solver = Callable[[Model, Tensor, int], Tensor]  # the exact denoiser, x at the highest level in VP units, budget → x0


def diffusers_solvers(path: Path) -> dict[str, Solver]:
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
        def solve(model: Model, start: Tensor, budget: int) -> Tensor:
            scheduler = getattr(diffusers, name)(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", **options)
            scheduler.set_timesteps(budget)
            x = start * float(scheduler.init_noise_sigma)
            for t in scheduler.timesteps:
                scaled = scheduler.scale_model_input(x, t)
                level = path.at(((t.double() + 1) / 1000).clamp(1 / 1000, 1))
                x = scheduler.step(model(scaled, level).eps, t, x).prev_sample
            return x

        return solve

    return {f"diffusers {key}": solver(*setting) for key, setting in settings.items()}


def k_diffusion_solvers(path: Path) -> dict[str, Solver]:
    """Public samplers of `k_diffusion`, in VE units on its Karras and exponential grids."""
    from k_diffusion import sampling

    ve_path = Path(path.schedule, SCALES["ve"])
    low, high = (float((0.5 * level.gamma).exp()) for level in (path.lowest, path.highest))
    grids = {"karras": sampling.get_sigmas_karras, "exponential": sampling.get_sigmas_exponential}

    def solver(sample: Callable[..., Tensor], grid: Callable[..., Tensor], cost: int) -> Solver:
        def solve(model: Model, start: Tensor, budget: int) -> Tensor:
            def denoise(x: Tensor, sigma: Tensor) -> Tensor:
                return model(x, ve_path.at_gamma(2 * sigma.double()[0].log())).x0

            sigmas = grid(1 + (budget - 1) // cost, low, high).double()
            return sample(denoise, start / path.highest.alpha, sigmas, disable=True)

        return solve

    samplers = {"dpmpp_2m": (sampling.sample_dpmpp_2m, 1), "lms": (sampling.sample_lms, 1)}
    samplers |= {"heun": (sampling.sample_heun, 2), "dpm_2": (sampling.sample_dpm_2, 2)}
    return {
        f"k_diffusion {name} {key}": solver(sample, grid, cost)
        for name, (sample, cost) in samplers.items()
        for key, grid in grids.items()
    }


def peers(path: Path) -> dict[str, Solver]:
    """Whatever is installed."""
    known = {"diffusers": diffusers_solvers, "k_diffusion": k_diffusion_solvers}
    found: dict[str, Solver] = {}
    for package, solvers in known.items():
        if importlib.util.find_spec(package):
            try:
                found |= solvers(path)
            except ImportError as error:
                print(f"{package} is installed and left out: {error}")
    return found
