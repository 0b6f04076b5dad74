"""Mixtures and the oracles made of them, against automatic differentiation and integration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logsnr.data.toys import TOYS, Mixture, finite, gaussian, mixture, point
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.scales import SCALES, Scale
from logsnr.schedules import Linear

ONE, ZERO = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
ALPHA = torch.tensor([1.0, 0.9, 0.5, 0.1], dtype=torch.float64)
SIGMA = torch.tensor([0.05, 0.4, 1.5, 1.0], dtype=torch.float64)


def solid() -> Mixture:
    """Three components over an array."""
    generator = torch.Generator().manual_seed(5)
    means = torch.randn(3, 2, 2, dtype=torch.float64, generator=generator)
    return mixture(torch.tensor([0.5, 0.2, 0.3]), means, torch.rand(3, 2, 2, dtype=torch.float64, generator=generator))


LAWS = {**TOYS, "solid": solid, "finite": lambda: finite(solid().means)}


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Mixture:
    return LAWS[request.param]()


def noisy(law: Mixture) -> Tensor:
    return torch.randn(4, *law.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


def test_score_is_the_gradient_of_the_log_density(law: Mixture) -> None:
    x = noisy(law).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x, ALPHA, SIGMA).sum(), x)
    assert torch.allclose(law.score(x, ALPHA, SIGMA), gradient, rtol=1e-10, atol=1e-10)


def test_the_denoiser_is_tweedie_s(law: Mixture) -> None:
    x, shape = noisy(law), (-1, *(1,) * len(law.shape))
    tweedie = (x + SIGMA.reshape(shape) ** 2 * law.score(x, ALPHA, SIGMA)) / ALPHA.reshape(shape)
    assert torch.allclose(law.x0_mean(x, ALPHA, SIGMA), tweedie, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.1), (0.7, 0.5)])
def test_densities_integrate_to_one_with_the_moments_of_the_law(name: str, alpha: float, sigma: float) -> None:
    law = TOYS[name]()
    axis = torch.linspace(-4, 4, 161, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    mass = torch.cat([law.log_prob(part, alpha * ONE, sigma * ONE) for part in x.split(5000)]).exp() * 0.05**2
    assert float(mass.sum()) == pytest.approx(1, abs=1e-6)
    mean = (law.weights.unsqueeze(1) * law.means).sum(0)
    second = (law.weights.unsqueeze(1) * (law.means**2 + law.variances)).sum(0)
    assert torch.allclose((mass.unsqueeze(1) * x).sum(0), alpha * mean, atol=1e-6)
    assert torch.allclose((mass.unsqueeze(1) * x**2).sum(0), alpha**2 * second + sigma**2, atol=1e-6)


def test_the_denoiser_of_a_finite_set_is_a_softmax_average() -> None:
    examples, x = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    level = Path(Linear(-5, 5), SCALES["vp"]).at(torch.linspace(0.3, 0.9, 6, dtype=torch.float64))
    distance = ((x.unsqueeze(1) - level.alpha.reshape(-1, 1, 1) * examples) ** 2).sum(2)
    weights = (-distance / (2 * level.sigma.reshape(-1, 1) ** 2)).softmax(1)
    assert torch.allclose(Oracle(finite(examples))(x, level).x0, weights @ examples, atol=1e-12)


def test_sample_moments_and_components(law: Mixture) -> None:
    x = law.sample(20_000, seed=1).flatten(1)
    weights, means = law.weights.unsqueeze(1), law.means.flatten(1)
    mean = (weights * means).sum(0)
    variance = (weights * (means**2 + law.variances.flatten(1))).sum(0) - mean**2
    assert ((x.mean(0) - mean).abs() < 4 * (variance / 20_000).sqrt()).all()
    assert torch.allclose(x.var(0), variance, rtol=0.05)


def test_an_example_is_a_function_of_seed_and_number(law: Mixture) -> None:
    assert torch.equal(law.sample(100, seed=3)[:7], law.sample(7, seed=3))
    assert not torch.equal(law.sample(7, seed=4), law.sample(7, seed=3))


def test_the_oracle_is_the_denoiser_on_every_scale(law: Mixture, scale: Scale) -> None:
    level = Path(Linear(-12, 12), scale).at(torch.tensor([0.05, 0.4, 0.6, 0.95], dtype=torch.float64))
    x0 = law.sample(4, seed=2)
    x = level.perturb(x0, noisy(law))
    prediction = Oracle(law)(x, level)
    assert torch.allclose(prediction.x0, law.x0_mean(x, level.alpha, level.sigma), atol=1e-9)
    assert torch.allclose(level.perturb(prediction.x0, prediction.eps), x, rtol=1e-12, atol=1e-12)
    sigma = level.sigma.reshape(-1, *(1,) * len(law.shape))
    assert torch.allclose(prediction.score * sigma, law.score(x, level.alpha, level.sigma) * sigma, atol=1e-9)
    single = Oracle(law)(x.float(), level)
    assert single.x0.dtype == torch.float32


def test_at_pure_noise_the_oracle_says_the_mean(law: Mixture) -> None:
    noise = Level(ONE, ONE * math.inf, -ONE * math.inf, ZERO)
    mean = (law.weights.reshape(-1, *(1,) * len(law.shape)) * law.means).sum(0)
    x0 = Oracle(law)(noisy(law), noise).x0
    assert torch.allclose(x0, mean.expand_as(x0), atol=1e-12)


def test_one_point_and_one_gaussian() -> None:
    x0 = torch.tensor([[0.25, -3.0]])
    x = torch.randn(4, 1, 2, dtype=torch.float64)
    assert torch.allclose(point(x0).x0_mean(x, ALPHA, SIGMA), x0.double().expand(4, 1, 2))
    law = gaussian(torch.tensor([1.0, 2.0]), 4.0)
    y = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    assert law.x0_mean(y, 0.5 * ONE, ONE)[0].tolist() == pytest.approx([1 - 0.5 * 4 * 0.5 / 2, 2 - 0.5 * 4 * 1 / 2])


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5], [1.0], [0.0, 1.0]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="summing to 1"):
        mixture(torch.tensor(weights), torch.zeros(2, 2), 1.0)
