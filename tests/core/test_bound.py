"""The variational bound against the closed form of Gaussian data, and its estimator."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from logsnr.data.toys import Mixture, finite, gaussian
from logsnr.data.transform import Lattice
from logsnr.decoders import discretised_gaussian, gaussian_density
from logsnr.draws import Draws
from logsnr.kernels import VARIANCES, Normal, posterior_coefficients, posterior_log_var, transition_log_var
from logsnr.level import Level
from logsnr.likelihood import Bound, bound, bound_for
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.prediction import x0 as x0_target
from logsnr.scales import SCALES, Scale
from logsnr.schedules import SCHEDULES, Linear

MEAN, VARIANCE = torch.tensor([0.5, -0.3], dtype=torch.float64), torch.tensor([0.25, 0.04], dtype=torch.float64)
U = 0.35  # where between log β̃ and log β the models below put their variance, where they are asked


class Spread:
    """The exact denoiser of a law, with a spread channel that says u = U everywhere."""

    def __init__(self, law: Mixture) -> None:
        self.oracle = Oracle(law)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        return replace(self.oracle(x, level), spread=torch.full_like(x, 2 * U - 1))


ORACLE = Spread(gaussian(MEAN, VARIANCE))
ENTROPY = 0.5 * float(torch.log(2 * math.pi * math.e * VARIANCE).sum())


def gauss_hermite(order: int, dims: int) -> tuple[Tensor, Tensor]:
    """Nodes (N, dims) and weights (N,) of the standard normal's expectation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    z = torch.cartesian_prod(*[torch.tensor(nodes)] * dims).reshape(-1, dims)
    w = torch.cartesian_prod(*[torch.tensor(weights / weights.sum())] * dims).reshape(-1, dims)
    return z, w.prod(1)


@cache
def gaussian_bound(scale: str, variance: str, steps: int) -> Bound:
    path = Path(Linear(-9, 6), SCALES[scale])
    return bound(path.grid(steps), path.prior_std, variance, gaussian_density)


def expected_terms(of: Bound) -> tuple[float, list[float]]:
    """E over x0 and ε of the prior's term and of every step's: quadratic, so three nodes a dimension are exact."""
    z, w = gauss_hermite(3, 4)
    x0, eps = MEAN + VARIANCE.sqrt() * z[:, :2], z[:, 2:]
    steps = [torch.full((len(z),), i) for i in range(of.steps)]
    return float((w * of.prior(x0)).sum()), [float((w * of.term(ORACLE, x0, eps, step)).sum()) for step in steps]


def test_continuous_data_s_bound_falls_to_the_entropy_as_the_grid_is_refined() -> None:
    """With DDPM's floor in the density it would grow without limit: the floor shrinks with the step, x_t does not."""
    path = Path(Linear(-9, 6), SCALES["vp"])
    totals = []
    for steps in (17, 65, 257, 1025):
        prior, terms = expected_terms(bound_for(path.grid(steps), path.prior_std, "small", None))
        totals.append(prior + sum(terms))
    gaps = [total - ENTROPY for total in totals]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.05
    # the discrete chain costs O(1/S) more than the continuous one; the rest is the prior's gap, 8e-4 here
    assert (gaps[-1] - 8e-4) / (gaps[-2] - 8e-4) == pytest.approx(1 / 4, rel=0.03)
    discrete = bound_for(path.grid(17), 1.0, "small", Lattice(-1.0, 0.01, 201))
    assert torch.equal(discrete.rule.floor_log_var, posterior_log_var(path.grid(17)[-3], path.grid(17)[-2]))


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_term_of_a_gaussian_s_bound(scale: Scale, variance: str) -> None:
    of = gaussian_bound(scale.name, variance, 12)
    prior, terms = expected_terms(of)
    t, s = of.grid[:-1], of.grid[1:]
    alpha2, sigma2 = (t.alpha**2).unsqueeze(1), (t.sigma**2).unsqueeze(1)
    remaining = VARIANCE * sigma2 / (alpha2 * VARIANCE + sigma2)  # Var(x0 | x_t)
    of_x0 = posterior_coefficients(t, s)[1].unsqueeze(1)
    log_q = posterior_log_var(t, s).unsqueeze(1)
    u = {"small": 0.0, "large": 1.0, "learned_range": U}[variance]
    log_p = log_q if u == 0 else (u * transition_log_var(t, s) + (1 - u) * posterior_log_var(t, s)).unsqueeze(1)
    diffusion = 0.5 * (log_p - log_q + (log_q - log_p).exp() - 1 + of_x0**2 * remaining / log_p.exp()).sum(1)[:-1]
    assert terms[:-1] == pytest.approx(diffusion.tolist(), rel=1e-10)
    floor = posterior_log_var(of.grid[-3], of.grid[-2])
    if variance == "learned_range":  # only a learned variance keeps its upper end into the clean level
        floor = U * transition_log_var(of.grid[-2], of.grid[-1]) + (1 - U) * floor
    reconstruction = 0.5 * (math.log(2 * math.pi) + floor + remaining[-1] / floor.exp()).sum()
    assert terms[-1] == pytest.approx(float(reconstruction), rel=1e-10)
    top = of.grid[0]
    ratio = top.sigma**2 / of.prior_std**2
    second = (VARIANCE + MEAN**2).sum() * top.alpha**2 / of.prior_std**2
    assert prior == pytest.approx(0.5 * float(second + 2 * (ratio - 1 - ratio.log())), rel=1e-10)


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_bound_is_above_the_entropy_and_its_diffusion_term_falls_to_the_continuous_one(
    scale: Scale, variance: str
) -> None:
    low, high = math.exp(9), math.exp(-6)  # SNR of the lowest and the highest level
    limit = 0.5 * float(torch.log((1 + VARIANCE * low) / (1 + VARIANCE * high)).sum())  # I(x0; x_low) − I(x0; x_high)
    excess = []
    for steps in (5, 9, 17, 65):  # each grid contains the one before
        prior, terms = expected_terms(gaussian_bound(scale.name, variance, steps))
        assert prior > 0
        assert prior + sum(terms) > ENTROPY
        excess.append(sum(terms[:-1]) - limit)
    assert excess[0] > excess[1] > excess[2] > excess[3] > 0
    assert excess[3] < 0.35 * excess[2]


def test_a_mean_over_t_is_no_bound_and_neither_is_a_reverse_kernel_that_is_given_x0(scale: Scale) -> None:
    """The sum of L_t bounds; (1/T) Σ L_t lies below the entropy. p(x_s|x0) for p(x_s|x_t) makes every KL nothing."""
    of = gaussian_bound(scale.name, "small", 65)
    prior, terms = expected_terms(of)
    assert prior + sum(terms) > ENTROPY
    assert prior + sum(terms) / len(terms) < ENTROPY - 0.3
    x0, eps = torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def told(x: Tensor, level: Level) -> Prediction:
        return Prediction(x, level, x0_target(level), x0)

    assert max(float(of.term(told, x0, eps, torch.full((6,), i)).abs().max()) for i in range(64)) < 1e-12


def test_cross_entropy_has_a_logarithm() -> None:
    """−E_q log p is least where p is q, and there it is the entropy; −E_q p is least for a point mass, and below it."""
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64).unsqueeze(1)
    widths = [0.02, 0.1, 0.3, 0.5, 0.7, 1.5]
    log_p = {std: Normal(0 * x, torch.full_like(x, 2 * math.log(std))).log_prob(x) for std in widths}
    q = log_p[0.5].exp() * 0.005  # a share for each place
    right, wrong = ({std: -float((q * f(log_p[std])).sum()) for std in widths} for f in (torch.clone, torch.exp))
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    assert min(widths, key=right.__getitem__) == 0.5
    assert right[0.5] == pytest.approx(entropy, rel=1e-9)
    assert min(widths, key=wrong.__getitem__) == min(widths)
    assert max(wrong.values()) < entropy


def test_the_curve_is_every_term_once(scale: Scale) -> None:
    of = gaussian_bound(scale.name, "learned_range", 7)
    x0, draws = (
        torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)),
        Draws(1, 0, torch.arange(4), 4),
    )
    curve = of.curve(ORACLE, x0, draws)
    assert curve.shape == (4, 7)
    for i in (0, 3, 6):
        term = of.term(ORACLE, x0, draws.normal(f"eps/{i}", x0), torch.full((4,), i))
        assert torch.allclose(curve[:, i], term, rtol=1e-14)


def test_progressive_coding_of_a_gaussian_is_shannon_s_rate_distortion_function(scale: Scale) -> None:
    """R = ½ log(v/D) a dimension with many steps, from above by less than a step; x̂0 is off by what x_t leaves open."""
    variance, count, steps, dims = 0.3, 5_000, 200, 2
    path = Path(Linear(-9, 12), SCALES[scale.name])
    of = bound(path.grid(steps), path.prior_std, "small", gaussian_density)
    law, draws = gaussian(torch.zeros(dims, dtype=torch.float64), variance), Draws(2, 0, torch.arange(count), count)
    x0 = variance**0.5 * draws.normal("x0", torch.empty(count, dims, dtype=torch.float64))
    rate, distortion = of.rate_distortion(Oracle(law), x0, draws)
    sums = of.prior(x0).unsqueeze(1) + of.curve(Oracle(law), x0, draws).cumsum(1)
    assert torch.allclose(rate, torch.cat([of.prior(x0).unsqueeze(1), sums[:, :-1]], 1), rtol=1e-12)
    left = variance / (1 + variance * torch.exp(-of.grid.gamma[:-1]))
    assert torch.allclose(distortion.mean(0), left, rtol=5 * (2 / (dims * count)) ** 0.5)
    over = rate.mean(0) - 0.5 * dims * torch.log(variance / left)
    noise = 5 * rate.std(0) / count**0.5 + of.prior(x0).mean()
    assert bool((over > -noise).all())
    assert bool((over < float(-of.grid.gamma[:-1].diff()[0]) * rate.mean(0) + noise).all())
    assert float(noise.max()) < 0.2 < 7.8 < float(rate.mean(0)[-1]), "nats"


def test_prior_is_the_divergence_of_the_last_marginal(scale: Scale) -> None:
    of = gaussian_bound(scale.name, "small", 4)
    x0 = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noised = TorchNormal(of.grid[0].alpha * x0, of.grid[0].sigma)
    expected = kl_divergence(noised, TorchNormal(torch.zeros_like(x0), of.prior_std)).sum(1)
    assert torch.allclose(of.prior(x0), expected, rtol=1e-11)


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_estimate_is_unbiased_for_each_example(variance: str) -> None:
    of, count = gaussian_bound("vp", variance, 10), 6000
    x0 = torch.tensor([[0.9, -0.4]], dtype=torch.float64)
    z, w = gauss_hermite(3, 2)
    steps = [torch.full((len(z),), i) for i in range(of.steps)]
    terms = [float((w * of.term(ORACLE, x0.expand(len(z), 2), z, step)).sum()) for step in steps]
    loss = of.estimate(ORACLE, x0.expand(count, 2), Draws(4, 0, torch.arange(count), count))
    assert torch.allclose(loss.total, sum(loss.parts.values()), rtol=1e-14)
    assert torch.equal(loss.parts["prior"], of.prior(x0).expand(count))
    expected = {"prior": float(of.prior(x0)), "diffusion": sum(terms[:-1]), "reconstruction": terms[-1]}
    for name, value in [*expected.items(), ("total", sum(expected.values()))]:
        found = loss.total if name == "total" else loss.parts[name]
        assert abs(float(found.mean()) - value) <= 3 * float(found.std()) / math.sqrt(count) + 1e-12
    finite = of.grid.gamma[:-2]
    assert set(loss.gamma.flatten().tolist()) == set(finite.tolist())


def test_the_gradient_of_the_estimate_is_finite_and_right() -> None:
    """Both branches of a term are computed for every row; the one not taken must not reach the gradient."""
    of = gaussian_bound("vp", "small", 6)
    x0 = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    shift = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def total() -> Tensor:
        def model(x: Tensor, level: Level) -> Prediction:
            exact = ORACLE(x, level)
            return replace(exact, value=exact.value + shift)

        return of.estimate(model, x0, Draws(4, 0, torch.arange(40), 40)).total.mean()

    (gradient,) = torch.autograd.grad(total(), shift)
    ends = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            shift += step
            ends.append(float(total()))
            shift -= step
    assert float(gradient) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_the_estimate_of_an_example_does_not_depend_on_the_batch() -> None:
    of = gaussian_bound("vp", "small", 10)
    x0 = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    draws = Draws(4, 0, torch.arange(8), 8)
    whole, part = of.estimate(ORACLE, x0, draws), of.estimate(ORACLE, x0[3:5], draws.rows(slice(3, 5)))
    assert torch.allclose(part.total, whole.total[3:5], rtol=1e-14)


@pytest.mark.parametrize("variance", VARIANCES)
def test_two_equally_likely_values_cost_one_bit(variance: str) -> None:
    """Discrete data: H(q) = ln 2 <= bound, and the bound of a fine chain with the exact denoiser is close."""
    path = Path(SCHEDULES["beta_table"](), SCALES["vp"])
    of = bound(path.grid(250), path.prior_std, variance, discretised_gaussian(Lattice(-1.0, 2.0, 2)))
    oracle = Spread(finite(torch.tensor([[-1.0], [1.0]])))
    z, w = gauss_hermite(40, 1)
    x0 = torch.ones_like(z)  # by symmetry the other value costs the same
    total = float(of.prior(x0[:1])) + sum(
        float((w * of.term(oracle, x0, z, torch.full((len(z),), i))).sum()) for i in range(of.steps)
    )
    assert math.log(2) < total < math.log(2) + (0.05 if variance == "small" else 1)


def test_a_bound_needs_two_finite_levels_and_a_known_variance() -> None:
    path = Path(Linear(), SCALES["vp"])
    with pytest.raises(ValueError, match="at least 2 steps"):
        bound(path.grid(1), 1.0, "small", gaussian_density)
    with pytest.raises(ValueError, match="known: small, large, learned_range"):
        bound(path.grid(4), 1.0, "learned", gaussian_density)
