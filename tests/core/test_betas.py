"""The β tables of the papers against closed forms and constants computed independently with NumPy."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.betas import BETAS, cosine, harmonic, linear, quadratic, scaled_linear, sigmoid, warmup
from logsnr.schedules import table_of_betas


def alpha_bar(betas: torch.Tensor) -> torch.Tensor:
    return (1 - betas).cumprod(0)


@pytest.mark.parametrize("name", BETAS)
def test_every_table_is_float64_and_between_zero_and_one(name: str) -> None:
    betas = BETAS[name](1000)
    assert betas.shape == (1000,)
    assert betas.dtype == torch.float64
    assert ((betas > 0) & (betas <= 1)).all()


def test_linear_table_of_ddpm() -> None:
    betas = linear(1000)
    assert (float(betas[0]), float(betas[-1])) == (1e-4, 2e-2)
    assert float(alpha_bar(betas)[-1]) == pytest.approx(4.03583e-5, rel=1e-5)
    gamma = table_of_betas(betas).gammas
    assert math.exp(-gamma[-1]) == pytest.approx(4.03599e-5, rel=1e-5)
    assert math.exp(-0.5 * math.log1p(math.exp(gamma[-1]))) == pytest.approx(0.0063528, rel=1e-5)


@pytest.mark.parametrize(("steps", "last"), [(10, 0.9037), (50, 0.6030), (100, 0.3636), (200, 0.1322), (500, 0.00635)])
def test_unscaled_betas_of_a_short_chain_leave_signal(steps: int, last: float) -> None:
    assert float(alpha_bar(linear(steps))[-1]) == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize(("steps", "largest"), [(10, 2.0), (20, 1.0), (50, 0.4)])
def test_scaled_betas(steps: int, largest: float) -> None:
    betas = scaled_linear(steps)
    assert float(betas.max()) == pytest.approx(largest, rel=1e-12)
    if largest >= 1:
        with pytest.raises(ValueError, match=r"beta_\d+ = \d.*allowed: 0 < beta < 1"):
            table_of_betas(betas)


def test_a_refused_table_names_the_first_bad_beta() -> None:
    with pytest.raises(ValueError, match=r"beta_6 = 1.11556 of a table of 10"):
        table_of_betas(scaled_linear(10))
    with pytest.raises(ValueError, match="beta_8 = 1 of a table of 8"):
        table_of_betas(harmonic(8))
    with pytest.raises(ValueError, match="beta_2 = 0 "):
        table_of_betas(torch.tensor([0.1, 0.0, 0.2]))


def test_root_linear_table_of_latent_diffusion() -> None:
    last = float(alpha_bar(quadratic(1000, 0.00085, 0.012))[-1])
    assert last == pytest.approx(0.0046601, rel=1e-4)
    assert last / (1 - last) == pytest.approx(0.0046819, rel=1e-4)


@pytest.mark.parametrize(("steps", "last", "before"), [(100, 2029, 64.2), (1000, 20291, 641.7), (4000, 81165, 2566.7)])
def test_cosine_clips_one_beta_and_amplifies(steps: int, last: float, before: float) -> None:
    betas = cosine(steps)
    assert int((betas == 0.999).sum()) == 1
    assert float(betas[-1]) == 0.999
    remaining = alpha_bar(betas)
    assert float(remaining[-1] ** -0.5) == pytest.approx(last, rel=3e-4)
    assert float((1 / remaining[-2] - 1).sqrt()) == pytest.approx(before, rel=1e-3)


def test_cosine_is_the_paper_s_alpha_bar_before_the_clip() -> None:
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(alpha_bar(cosine(1000))[:-1], f, rtol=1e-10, atol=0)


def test_harmonic_removes_an_equal_share_at_every_step() -> None:
    share = 1 - torch.arange(1, 41, dtype=torch.float64) / 40
    assert torch.allclose(alpha_bar(harmonic(40)), share, atol=1e-14)


def test_sigmoid_and_warmup_and_quadratic_shapes() -> None:
    betas = sigmoid(101, 0.1, 0.3)
    assert float(betas[50]) == pytest.approx(0.2, abs=1e-15)
    assert float(betas[0]) == pytest.approx(0.1 + 0.2 / (1 + math.exp(6)), abs=1e-15)
    assert torch.allclose(betas + betas.flip(0), torch.full_like(betas, 0.4))
    rising = warmup(100, 0.1, 0.5, fraction=0.1)
    assert rising[:10].tolist() == pytest.approx([0.1 + 0.4 * i / 9 for i in range(10)])
    assert (rising[10:] == 0.5).all()
    assert quadratic(3, 0.01, 0.25).tolist() == pytest.approx([0.01, 0.09, 0.25])
