"""NCSN's definitions in the paper's symbols: levels, kernel scores, the weighted loss, targets and labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logsnr.data.toys import TOYS
from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.level import over
from logsnr.objectives import WEIGHTS, Matching, Uniform
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import SCALES, ve
from logsnr.schedules import SCHEDULES, Linear

NCSN = Path(SCHEDULES["sigma_table"](0.01, 1.0, 10), ve)


def test_levels_are_geometric_or_uniform() -> None:
    sigma = NCSN.grid(9, "lowest").sigma
    assert torch.allclose(sigma, torch.logspace(0, -2, 10, dtype=torch.float64), rtol=1e-12)
    even = Path(SCHEDULES["sigma_table"](0.1, 2.0, 9, "uniform"), ve).grid(8, "lowest").sigma
    assert torch.allclose(even, torch.linspace(2.0, 0.1, 9, dtype=torch.float64), rtol=1e-12)


def test_the_marginal_score_is_the_posterior_mean_of_kernel_scores() -> None:
    """∇log q(x_t) = E[−(x_t − α x0)/σ² | x_t], the mean by weighing many x0 with q(x_t | x0)."""
    law, level = TOYS["two"](), NCSN.at(0.9)
    x0, x = law.sample(400_000), torch.tensor([[0.4, 0.7], [-1.2, -0.3]], dtype=torch.float64)
    kernel = -(x.unsqueeze(1) - x0) / level.sigma**2
    weight = torch.softmax(-((x.unsqueeze(1) - x0) ** 2).sum(2) / (2 * level.sigma**2), 1)
    mean = (weight.unsqueeze(2) * kernel).sum(1)
    error = ((weight.unsqueeze(2) * (kernel - mean.unsqueeze(1))) ** 2).sum(1).sqrt()
    assert ((mean - Oracle(law)(x, level).score).abs() < 4 * error).all()
    assert (error < 0.05 * mean.abs().max()).all()


class Sine(nn.Module):
    """Any fixed answer."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.sin(2 * x) - over(label, x) / 20


@pytest.mark.parametrize("power", [2.0, 0.0, 1.5])
def test_denoising_score_matching_in_the_paper_s_symbols(power: float) -> None:
    """λ(σ) ½|s_θ(x̃, σ) + (x̃ − x)/σ²|² with λ = σ^p is D/2 times the library's loss."""
    model = Denoiser(Sine(), NCSN, TARGETS["score"], label=LABELS["index"])
    x0, draws = TOYS["two"]().sample(50), Draws(0, 0, torch.arange(50), 50)
    weight = WEIGHTS["simple"] if power == 2 else lambda path, level: WEIGHTS["sigma_power"](path, level, power=power)
    loss = Matching(NCSN, weight, Uniform(NCSN.schedule))(model, x0, draws)
    level = NCSN.at(loss.times)
    sigma = level.sigma.unsqueeze(1)
    noisy = x0 + sigma * draws.normal("eps", x0)
    answer = Sine()(noisy, LABELS["index"](NCSN, level))
    paper = sigma.squeeze() ** power * 0.5 * ((answer + (noisy - x0) / sigma**2) ** 2).sum(1)
    assert torch.allclose(0.5 * x0.shape[1] * loss.total, paper, rtol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_a_scaled_score_is_sigma_times_the_score(scale: str) -> None:
    """s_θ(x, σ) = s_θ(x)/σ, and the network is told nothing of σ."""
    path = Path(Linear(-5, 4), SCALES[scale])
    model = Denoiser(Sine(), path, TARGETS["scaled_score"], label=LABELS["none"])
    x, level = torch.randn(6, 3, dtype=torch.float64), path.at(torch.linspace(0.1, 1, 6, dtype=torch.float64))
    assert torch.allclose(model(x, level).score, torch.sin(2 * x) / level.sigma.unsqueeze(1), rtol=1e-12)
    assert torch.allclose(model(x, level).eps, -torch.sin(2 * x), rtol=1e-12)
    assert torch.equal(LABELS["none"](path, level), torch.zeros(6, dtype=torch.float64))
