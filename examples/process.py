"""A drift that is not affine: no kernel, no level, and still a generative model (S5).

    python examples/process.py double-well     points in the plane, carried to a double well's Boltzmann law and back
    python examples/process.py digits          pictures, each pixel rolling down the two sides of a well

The forward SDE dx = −r ∇U(x) dt + √(2r) dw forgets its data and ends in the law exp(−U). Its score is learned by sliced
score matching on simulated x_t, and the reverse SDE turns draws from exp(−U), which is known, into data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from logsnr import nets
from logsnr.data import load
from logsnr.data.toys import TOYS, Mixture
from logsnr.draws import Draws
from logsnr.dynamics import Dynamics
from logsnr.objectives import ProcessScore, Simulated
from logsnr.pictures import save_grid
from logsnr.process import Process, reverse

RATE, MINIMUM, SHARPNESS, TEMPERATURE = 3.0, 0.8, 3.0, 0.2


def potential(x: Tensor) -> Tensor:
    """U(x) = (x²/2 − (m/b) log cosh bx)/τ for each coordinate: minima near ±m, and a parabola far out."""
    return (x**2 / 2 - MINIMUM / SHARPNESS * torch.log(torch.cosh(SHARPNESS * x))) / TEMPERATURE


def equilibrium(x: Tensor) -> Tensor:
    """−U′, the score of exp(−U)."""
    return -(x - MINIMUM * torch.tanh(SHARPNESS * x)) / TEMPERATURE


def double_well(steps: int = 100) -> Process:
    """f = −r U′(x), g² = 2r, simulated in so many steps."""
    return Process(
        Dynamics(
            drift=lambda x, t: RATE * equilibrium(x),
            diffusion=lambda t: torch.full_like(t, (2 * RATE) ** 0.5),
        ),
        steps=steps,
        t_min=2e-4,
    )


def boltzmann(draws: Draws, like: Tensor) -> Tensor:
    """Draws from exp(−U), coordinate by coordinate, by the inverse of its distribution function on a fine grid."""
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    cumulated = torch.exp(-potential(grid)).cumsum(0)
    place = torch.searchsorted(cumulated / cumulated[-1], draws.uniform("prior", tuple(like.shape[1:])))
    return grid[place.clamp(max=len(grid) - 1)].to(like)


def fit(score: ProcessScore, batch: Callable[[int], Tensor], seconds: float, steps: int, lr: float) -> ProcessScore:
    """Adam with a cosine decay, until `seconds` or `steps` are over; `batch(step)` gives x0 (B, *)."""
    objective = Simulated(score.process)
    optimizer = torch.optim.Adam(score.parameters(), lr=lr)
    started = time.monotonic()
    for step in range(steps):
        progress = max(step / steps, (time.monotonic() - started) / seconds)
        if progress >= 1:
            break
        x0 = batch(step)
        loss = objective(score, x0, Draws(0, step, torch.arange(len(x0)), len(x0))).total.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(score.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + np.cos(np.pi * progress)) * min(1, (step + 1) / 100)
        optimizer.step()
    print(f"{step} steps in {time.monotonic() - started:.0f} s, loss {loss.item():.3f}", flush=True)
    return score.eval().requires_grad_(False)


def generate(score: ProcessScore, count: int, shape: tuple[int, ...], steps: int) -> Tensor:
    """`count` examples from the known prior, by the reverse SDE; example i is a function of (1, i)."""
    draws = Draws(1, 0, torch.arange(count), count)
    x = boltzmann(draws, torch.empty(count, *shape))
    *_, end = reverse(score.process, score, x, steps, draws)
    return end


def total_variation(law: Mixture, samples: Tensor, side: float = 2.0, bins: int = 20) -> float:
    """½ Σ |share of samples − mass of the law| over a grid of squares on [−side, side]², and what lies outside."""
    edges = torch.linspace(-side, side, bins + 1, dtype=torch.float64)
    std = law.variances.sqrt().unsqueeze(-1)
    masses = torch.special.ndtr((edges - law.means.unsqueeze(-1)) / std).diff(dim=-1)  # (K, 2, bins)
    exact = torch.einsum("k,kx,ky->xy", law.weights, masses[:, 0], masses[:, 1])
    found = torch.histogramdd(samples.double(), [edges, edges]).hist / len(samples)
    return float(0.5 * ((found - exact).abs().sum() + abs(float(found.sum() - exact.sum()))))


def plane(seconds: float, steps: int = 1500) -> dict[str, float]:
    """Two unequal blobs: the drift is that of a double well in each coordinate."""
    law = TOYS["two"]()
    torch.manual_seed(0)
    score = ProcessScore(nets.build("mlp-tiny", (2,), width=96), double_well(), equilibrium)
    fit(score, lambda step: law.sample(1024, seed=step).float(), seconds, steps, lr=3e-3)
    samples = generate(score, 4000, (2,), 250)
    return {"total_variation": total_variation(law, samples)}


def digits(seconds: float, out: Path) -> dict[str, float]:
    """8 × 8 digits: the same drift in every pixel."""
    from logsnr.metrics import check_digits

    data = load("digits")
    torch.manual_seed(0)
    score = ProcessScore(nets.build("digits", data.shape), double_well(40), equilibrium)

    def batch(step: int) -> Tensor:
        return data.batch(np.random.default_rng(step).integers(len(data), size=64))[0]

    fit(score, batch, seconds, 100_000, lr=2e-3)
    images = data.transform.decode(generate(score, 500, data.shape, 100))
    save_grid(out, images[:100], data.transform)
    return check_digits(images).record()


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("data", choices=("double-well", "digits"))
    flags.add_argument("--seconds", type=float, default=100.0, help="of training at most")
    flags.add_argument("--out", type=Path, default=Path("process.png"), help="of digits")
    args = flags.parse_args()
    result = plane(args.seconds) if args.data == "double-well" else digits(args.seconds, args.out)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
