"""The discretised Gaussian and the softmax: masses over all levels, tails, gradients, refusals."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from logsnr.data.transform import Lattice, Transform
from logsnr.decoders import discretised_gaussian, gaussian_density, log_mass, softmax, softmax_log_prob, tanh_log_mass
from logsnr.kernels import Normal


def lattice(count: int) -> Lattice:
    return Lattice(-1.0, 2 / (count - 1), count)


def values(count: int) -> torch.Tensor:
    return -1 + 2 / (count - 1) * torch.arange(count, dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 3, 17, 256, 65_536])
@pytest.mark.parametrize("mean", [-7.0, -1.0, 0.123, 0.999, 3.0])
@pytest.mark.parametrize("std", [1e-4, 0.01, 0.3, 20.0])
def test_masses_of_all_levels_sum_to_one(count: int, mean: float, std: float) -> None:
    x = values(count).reshape(-1, 1)
    p = Normal(torch.full_like(x, mean), torch.full_like(x, 2 * math.log(std)))
    log_p = discretised_gaussian(lattice(count))(x, p)
    assert log_p.shape == (count,)
    assert (log_p <= 0).all()
    assert float(torch.logsumexp(log_p, 0)) == pytest.approx(0, abs=1e-9)


def test_the_mass_of_a_bin_is_the_integral_of_the_density() -> None:
    x = values(17).reshape(-1, 1)
    p = Normal(torch.full_like(x, 0.2), torch.full_like(x, 2 * math.log(0.15)))
    found = discretised_gaussian(lattice(17))(x, p).exp()
    normal = torch.distributions.Normal(*torch.tensor([0.2, 0.15], dtype=torch.float64))
    upper, lower = normal.cdf(x[:, 0] + 1 / 16), normal.cdf(x[:, 0] - 1 / 16)
    upper[-1], lower[0] = 1, 0
    assert torch.allclose(found, upper - lower, rtol=0, atol=1e-14)


def test_dimensions_add_up() -> None:
    x = values(256)[torch.tensor([[0, 128, 255], [3, 4, 5]])]
    p = Normal(torch.zeros_like(x), torch.zeros_like(x))
    whole = discretised_gaussian(lattice(256))(x, p)
    apart = [discretised_gaussian(lattice(256))(x[:, [i]], Normal(p.mean[:, [i]], p.log_var[:, [i]])) for i in range(3)]
    assert torch.allclose(whole, torch.stack(apart).sum(0), rtol=1e-14)


@pytest.mark.parametrize(("low", "high"), [(40, 41), (-41, -40), (8, math.inf), (-math.inf, -30), (3, 3.001), (-1, 2)])
def test_log_mass_is_exact_in_both_tails(low: float, high: float) -> None:
    with mpmath.workdps(1000):
        a, b = mpmath.mpf(low), mpmath.mpf(high)
        expected = float(mpmath.log((mpmath.erfc(a / mpmath.sqrt(2)) - mpmath.erfc(b / mpmath.sqrt(2))) / 2))
    found = log_mass(torch.tensor(float(low), dtype=torch.float64), torch.tensor(float(high), dtype=torch.float64))
    assert float(found) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_values_have_finite_mass_and_gradient(dtype: torch.dtype) -> None:
    x = values(256).to(dtype).reshape(-1, 1)
    mean = torch.zeros_like(x, requires_grad=True)
    log_var = torch.full_like(x, -13.0, requires_grad=True)  # up to 665 standard deviations off
    log_p = discretised_gaussian(lattice(256))(x, Normal(mean, log_var))
    assert log_p.isfinite().all()
    assert float(log_p.detach().min()) < -1e5
    log_p.sum().backward()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    assert log_var.grad is not None
    assert log_var.grad.isfinite().all()
    assert (mean.grad.flatten() * x.flatten() > 0)[x.flatten().abs() > 0.1].all()


def test_tanh_form_is_the_same_within_its_error() -> None:
    x = values(256).reshape(-1, 1)
    p = Normal(torch.full_like(x, 0.3), torch.full_like(x, 2 * math.log(0.2)))
    exact, programs = (discretised_gaussian(lattice(256), mass)(x, p) for mass in (log_mass, tanh_log_mass))
    assert (exact.exp() - programs.exp()).abs().max() < 4e-4
    assert float(programs.exp().sum()) == pytest.approx(1, abs=1e-9)
    far = Normal(torch.full_like(x, 50.0), torch.full_like(x, 2 * math.log(0.2)))
    assert float(discretised_gaussian(lattice(256), tanh_log_mass)(x, far)[0]) == pytest.approx(math.log(1e-12))


def test_values_off_the_lattice_are_refused() -> None:
    decoder = discretised_gaussian(lattice(256))
    p = Normal(torch.zeros(1, 2), torch.zeros(1, 2))
    for x in (torch.tensor([[0.0, 0.001]]), torch.tensor([[-1.0, 1.02]]), torch.tensor([[math.nan, 1.0]])):
        with pytest.raises(ValueError, match="off"):
            decoder(x, p)
    with pytest.raises(ValueError, match="int64"):
        decoder(torch.zeros(1, 2, dtype=torch.int64), p)


def test_continuous_data_keeps_its_density() -> None:
    p = Normal(torch.zeros(1, 2), torch.full((1, 2), math.log(4.0)))
    expected = 2 * -math.log(2 * math.sqrt(2 * math.pi)) - 0.5 * (1 + 4) / 4
    assert float(gaussian_density(torch.tensor([[1.0, 2.0]]), p)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [2, 17, 256, 4096])
@pytest.mark.parametrize("mean", [-7.0, -1.0, 0.123, 0.999, 3.0])
@pytest.mark.parametrize("widths", [1e-3, 0.166, 2.0, 40.0])
def test_the_softmax_over_a_window_is_the_one_over_the_lattice(count: int, mean: float, widths: float) -> None:
    """V3: p(v|z₀) ∝ q(z₀|v), over every value of any bit depth."""
    v, log_var = values(count), 2 * math.log(widths * 2 / (count - 1))
    p = Normal(torch.full((count, 1), mean, dtype=torch.float64), torch.tensor(log_var, dtype=torch.float64))
    found = softmax(lattice(count))(v.reshape(-1, 1), p)
    whole = (-((v - mean) ** 2) / (2 * math.exp(log_var))).log_softmax(0)
    assert torch.allclose(found, whole, rtol=1e-9, atol=1e-12)


def test_the_softmax_s_gradient_is_that_of_the_whole_lattice() -> None:
    mean = torch.randn(5, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_var = torch.tensor(-6.0, dtype=torch.float64, requires_grad=True)
    k = torch.randint(17, mean.shape, generator=torch.Generator().manual_seed(1))
    on = Lattice(-1.0, 0.125, 17)
    found = torch.autograd.grad(softmax(on)(values(17)[k], Normal(mean, log_var)).sum(), (mean, log_var))
    logits = -0.5 * (values(17) - mean.unsqueeze(-1)) ** 2 * torch.exp(-log_var)
    whole = logits.log_softmax(-1).gather(-1, k.unsqueeze(-1)).sum()
    for a, b in zip(found, torch.autograd.grad(whole, (mean, log_var)), strict=True):
        assert torch.allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("std", [1e-3, 0.05, 1.0])
def test_the_most_probable_value_is_the_nearest_so_that_decoding_is_rounding(std: float) -> None:
    transform = Transform((1, 40, 40), 17, "grey")
    assert transform.lattice is not None
    z = 1.3 * torch.randn(2, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    p = Normal(z.double(), torch.tensor(2 * math.log(std), dtype=torch.float64))
    each = torch.stack([softmax_log_prob(transform.lattice, torch.full(z.shape, k), p) for k in range(17)])
    assert torch.equal(each.argmax(0).squeeze(1), torch.from_numpy(transform.decode(z)).long())


def test_the_softmax_refuses_what_is_off_the_lattice() -> None:
    x = torch.tensor([[0.1]])
    with pytest.raises(ValueError, match="off Lattice"):
        softmax(lattice(17))(x, Normal(x, torch.zeros(())))
