"""Units of likelihood."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.loss import bits_per_dim


def test_a_uniform_256_level_pixel_costs_eight_bits() -> None:
    nats = torch.tensor([12 * math.log(256)], dtype=torch.float64)
    assert float(bits_per_dim(nats, 12)) == pytest.approx(8.0, abs=1e-14)


def test_a_density_is_counted_in_bins() -> None:
    # uniform density on [−1, 1] and bins of width 2/256: log2(256/2) = 7 more bits than the density's own
    nats = torch.tensor([3 * math.log(2)], dtype=torch.float64)
    assert float(bits_per_dim(nats, 3, offset=math.log2(128))) == pytest.approx(8.0, abs=1e-14)
