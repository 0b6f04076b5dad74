"""What a recipe's schedule does: its curves, its loss weights, and where a sampler spends its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logsnr.config import RunConfig
from logsnr.files import whole
from logsnr.kernels import transition_log_var
from logsnr.level import Level
from logsnr.objectives import WEIGHTS
from logsnr.path import Path as NoisePath
from logsnr.run import build


def levels(path: NoisePath) -> Level:
    """Every knot of a table, or 1000 levels of a continuous schedule, from noise to data."""
    return path.grid((path.schedule.steps or 1000) - 1, end="lowest")


@torch.no_grad()
def curves(config: RunConfig) -> dict[str, Tensor]:
    """By name, (T,) float64, from t = 1 down: t, gamma, log_snr, alpha, sigma, beta, loss_weight, bound_weight.

    beta: the variance σ²_{t|s} of the transition from the next lower level. loss_weight: of |ε − ε̂|² in training.
    bound_weight: in the continuous bound, ½ γ′.
    """
    path = build.path(config)
    grid = levels(path)
    with_clean = path.grid(path.schedule.steps or 1000)
    return {
        "t": grid.t,
        "gamma": grid.gamma,
        "log_snr": grid.log_snr,
        "alpha": grid.alpha,
        "sigma": grid.sigma,
        "beta": transition_log_var(with_clean[:-1], with_clean[1:]).exp(),
        "loss_weight": build.bind(WEIGHTS, config.objective.weight, "weight", 2)(path, grid).expand_as(grid.t),
        "bound_weight": 0.5 * path.slope(grid.t).gamma,
    }


@torch.no_grad()
def figures(config: RunConfig) -> dict[str, Any]:
    """The numbers worth knowing before training."""
    path = build.path(config)
    top, low = path.highest, path.lowest
    alpha2, sigma2 = float(top.alpha) ** 2, float(top.sigma) ** 2
    grid = levels(path)
    # prior KL of unit-variance data, nats a dimension: what the chain's end still knows of x0
    prior = path.prior_std**2
    ratio = sigma2 / prior
    below_one_percent = float((grid.alpha**2 / (grid.alpha**2 + grid.sigma**2) < 1e-2).double().mean())
    return {
        "recipe": config.recipe,
        "schedule": config.schedule.name,
        "scale": config.scale,
        "diffusion_steps": path.schedule.steps,
        "log_snr_first": float(low.log_snr),
        "log_snr_last": float(top.log_snr),
        "terminal_snr": float(top.log_snr.exp()),
        "alpha_last": float(top.alpha),
        "sigma_first": float(low.sigma),
        "sigma_last": float(top.sigma),
        "prior_std": path.prior_std,
        "prior_kl_nats_per_dim": 0.5 * (alpha2 / prior + ratio - 1 - float(torch.tensor(ratio).log())),
        "x0_amplification": float(torch.exp(-top.log_alpha)),
        "share_of_levels_with_signal_below_one_percent": below_one_percent,
        "sampler": config.sample.sampler.name,
        "sampler_steps": config.sample.steps,
    }


@torch.no_grad()
def draw(config: RunConfig, out: Path) -> Path:
    """Six panels: γ, SNR, α and σ, β, the weights, and the log-SNR at which the sampler evaluates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = {name: values.numpy() for name, values in curves(config).items()}
    path = build.path(config)
    grid = build.own_grid(config, path)
    visited = grid.log_snr[grid.gamma.isfinite()].numpy()
    figure = Figure(figsize=(12, 6.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    t = lines["t"]
    for panel, names, label in (
        (axes[0, 0], ["gamma"], "γ = −log SNR"),
        (axes[0, 2], ["alpha", "sigma"], "signal and noise scale"),
        (axes[1, 0], ["beta"], "β of one step"),
    ):
        for name in names:
            panel.plot(t, lines[name], label={"alpha": "α", "sigma": "σ", "gamma": "γ", "beta": "β"}[name])
        panel.set(xlabel="t (0 data, 1 noise)", ylabel=label)
    axes[0, 2].legend()
    axes[0, 1].semilogy(t, torch.exp(torch.as_tensor(lines["log_snr"])).numpy())
    axes[0, 1].set(xlabel="t (0 data, 1 noise)", ylabel="SNR = α²/σ²")
    axes[1, 1].semilogy(t, lines["loss_weight"], label=f"training: {config.objective.weight.name}")
    axes[1, 1].semilogy(t, lines["bound_weight"], "--", label="bound: ½ γ′")
    axes[1, 1].set(xlabel="t (0 data, 1 noise)", ylabel="weight of |ε − ε̂|²")
    axes[1, 1].legend()
    axes[1, 2].hist(visited, bins=30)
    axes[1, 2].set(xlabel="log SNR", ylabel=f"evaluations of {config.sample.sampler.name}, {len(visited)} in all")
    figure.suptitle(f"{config.recipe}: {config.schedule.name} schedule, {config.scale} scale")
    with whole(out) as fresh:
        figure.savefig(fresh, format="png")
    return out
