"""Noise within the bins: a density over the bin, and a bound that is exact where the density is flat or the model's."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest, truncnorm

from logsnr.draws import Draws
from logsnr.likelihood.dequantise import DEQUANTISATIONS

WIDTH = 0.125


@pytest.mark.parametrize("name", DEQUANTISATIONS)
@pytest.mark.parametrize("tau", [0.01, 0.05, 2.0])
def test_the_noise_has_the_density_it_claims_and_stays_in_the_bin(name: str, tau: float) -> None:
    numbers = Draws(0, 0, torch.arange(20_000), 1).uniform("u", (2,))
    u, log_q = DEQUANTISATIONS[name](numbers, WIDTH, tau)
    assert (u.abs() < WIDTH / 2).all()
    ends = 0.5 * WIDTH / tau
    flat = name == "uniform"
    expected = torch.full((len(u),), -2 * math.log(WIDTH), dtype=torch.float64)
    if not flat:
        expected = torch.from_numpy(truncnorm.logpdf(u.numpy(), -ends, ends, scale=tau)).sum(1)
    assert torch.allclose(log_q, expected, rtol=1e-9, atol=1e-9)
    law = (lambda x: (x / WIDTH + 0.5).clip(0, 1)) if flat else truncnorm(-ends, ends, scale=tau).cdf
    assert kstest(u[:, 0].numpy(), law).pvalue > 1e-3
    # E_q[1/q] is the volume of the bin: q is a density there, normalised
    inverse = torch.exp(-log_q - 2 * math.log(WIDTH))
    if tau > 0.04:  # else its variance is infinite in practice
        assert abs(float(inverse.mean()) - 1) < 4 * float(inverse.std()) / math.sqrt(len(inverse)) + 1e-12
