"""The Gaussian kernels: Markov property, Bayes' rule, precision, divergences, and DDPM's own formulas."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, optimize
from torch import Tensor
from torch.distributions import Normal as TorchNormal
from torch.distributions import kl_divergence

from logsnr.betas import linear
from logsnr.kernels import (
    VARIANCES,
    Normal,
    floored,
    named_rule,
    posterior,
    posterior_coefficients,
    posterior_log_var,
    prior_kl,
    reverse,
    small,
    transition,
    transition_log_var,
)
from logsnr.level import Level, clean
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.prediction import eps as eps_target
from logsnr.prediction import x0 as x0_target
from logsnr.scales import SCALES, Scale
from logsnr.schedules import Linear, geometric, table_of_betas

GENERATOR = torch.Generator().manual_seed(0)
# five hundred triples γ_s < γ_t < γ_u
S, T, U = (torch.rand(3, 500, dtype=torch.float64, generator=GENERATOR) * 24 - 12).sort(0).values


def levels(scale: Scale, gamma: Tensor) -> Level:
    return Level(torch.full_like(gamma, math.nan), gamma, scale.log_alpha(gamma), scale.log_sigma(gamma))


def at(scale: Scale, gamma: float) -> Level:
    return levels(scale, torch.tensor(gamma, dtype=torch.float64))


def unit(s: Level) -> Tensor:
    return torch.ones(len(s), 1, dtype=torch.float64)


def test_the_transition_is_the_one_that_keeps_the_marginals(scale: Scale) -> None:
    s, t = levels(scale, S), levels(scale, T)
    kernel = transition(unit(s), s, t)
    ratio, variance = kernel.mean[:, 0], kernel.log_var[:, 0].exp()
    # F1 is the merging of two Gaussians (F6): α_{t|s} α_s = α_t and α²_{t|s} σ_s² + σ²_{t|s} = σ_t²
    assert torch.allclose(ratio * s.alpha, t.alpha, rtol=1e-13)
    assert torch.allclose(ratio**2 * s.sigma**2 + variance, t.sigma**2, rtol=1e-13)


def test_transitions_compose(scale: Scale) -> None:
    s, t, u = (levels(scale, gamma) for gamma in (S, T, U))
    first, second, whole = transition(unit(s), s, t), transition(unit(s), t, u), transition(unit(s), s, u)
    assert torch.allclose(first.mean * second.mean, whole.mean, rtol=1e-13)
    merged = second.mean**2 * first.log_var.exp() + second.log_var.exp()
    assert torch.allclose(merged, whole.log_var.exp(), rtol=1e-13)


def test_variances_are_subtracted_and_noises_add_where_they_are_independent(scale: Scale) -> None:
    """F2 and F6: σ_t² − α²_{t|s} σ_s² is what is added to z_s. Their sum is too much, and so is one noise twice."""
    s, t, count = at(scale, -1.0), at(scale, 1.0), 100_000
    one, other = torch.randn(2, count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    z_s = s.sigma * one  # x0 = 0
    kernel = transition(z_s, s, t)
    summed = t.sigma**2 + (t.alpha / s.alpha) ** 2 * s.sigma**2
    right, twice, wrong = (
        kernel.sample(other),
        kernel.sample(one),
        Normal(kernel.mean, summed.log().expand(count, 1)).sample(other),
    )
    error = float(t.sigma**2) * math.sqrt(2 / count)
    assert abs(float(right.var() - t.sigma**2)) < 4 * error
    assert float(twice.var() - t.sigma**2) > 20 * error, "one noise twice"
    assert float(wrong.var() - t.sigma**2) > 20 * error, "the sum"


def test_the_posterior_is_bayes_rule_pointwise(scale: Scale) -> None:
    s, t = levels(scale, S), levels(scale, T)
    x0, z_s, z_t = torch.randn(3, 500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x_s = s.perturb(x0, z_s)
    x_t = t.perturb(x0, z_t)

    def marginal(level: Level) -> Normal:
        return Normal(level.alpha.reshape(-1, 1) * x0, 2 * level.log_sigma.reshape(-1, 1))

    joint = transition(x_s, s, t).log_prob(x_t) + marginal(s).log_prob(x_s) - marginal(t).log_prob(x_t)
    assert torch.allclose(posterior(x_t, x0, t, s).log_prob(x_s), joint, rtol=1e-9, atol=1e-9)


def test_ddpm_writes_the_same_posterior() -> None:
    betas = linear(1000)
    bar = (1 - betas).cumprod(0)
    path = Path(table_of_betas(betas), SCALES["vp"])
    for i in (1, 2, 10, 500, 999):  # DDPM's t = i + 1, eq. 6 and 7
        t, s = path.at((i + 1) / 1000), path.at(i / 1000)
        x, x0 = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        q = posterior(x, x0, t, s)
        mean = (
            bar[i - 1].sqrt() * betas[i] / (1 - bar[i]) * x0
            + (1 - betas[i]).sqrt() * (1 - bar[i - 1]) / (1 - bar[i]) * x
        )
        assert torch.allclose(q.mean, mean, rtol=1e-10, atol=1e-12)
        assert float(q.log_var.exp()) == pytest.approx(float(betas[i] * (1 - bar[i - 1]) / (1 - bar[i])), rel=1e-10)
        assert float(transition_log_var(t, s).exp()) == pytest.approx(float(betas[i]), rel=1e-10)


def test_the_mean_of_algorithm_2_is_the_posterior_s(scale: Scale) -> None:
    """D5, written for every scale: μ = (x − β_t/σ_t · ε̂) / α_{t|s}, with β_t = σ²_{t|s}."""
    s, t = levels(scale, S), levels(scale, T)
    x, eps = torch.randn(2, 500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    prediction = Prediction(x, t, eps_target(t), eps)
    beta, ratio = transition_log_var(t, s).exp(), (t.log_alpha - s.log_alpha).exp()
    expected = (x - (beta / t.sigma).reshape(-1, 1) * eps) / ratio.reshape(-1, 1)
    error = (reverse(prediction, s, small).mean - expected).abs() * ratio.reshape(-1, 1)
    assert error.max() < 1e-12
    ddpm = Path(table_of_betas(linear(1000)), SCALES["vp"])
    t, s, b = ddpm.at(0.5), ddpm.at(0.499), linear(1000)[499]
    bar = (1 - linear(1000)).cumprod(0)[499]
    mean = (x - b / (1 - bar).sqrt() * eps) / (1 - b).sqrt()
    assert torch.allclose(reverse(Prediction(x, t, eps_target(t), eps), s, small).mean, mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", [-30.0, -2.0, 0.5, 17.0])
@pytest.mark.parametrize("gap", [1e-12, 1e-8, 1e-3, 2.0])
def test_digits_survive_between_near_levels(scale: Scale, gamma: float, gap: float) -> None:
    t, s = at(scale, gamma + gap), at(scale, gamma)
    with mpmath.workdps(50):
        g_t, g_s = mpmath.mpf(float(t.gamma)), mpmath.mpf(float(s.gamma))
        share = 1 - mpmath.exp(g_s - g_t)
        alpha_s, sigma_s, alpha_t, sigma_t = *_exact(scale.name, g_s), *_exact(scale.name, g_t)
        expected = [
            sigma_t**2 * share,
            sigma_s**2 * share,
            alpha_t / alpha_s * (sigma_s / sigma_t) ** 2,
            alpha_s * share,
        ]
        expected = [float(value) for value in expected]
    of_x, of_x0 = posterior_coefficients(t, s)
    found = [transition_log_var(t, s).exp(), posterior_log_var(t, s).exp(), of_x, of_x0]
    assert [float(value) for value in found] == pytest.approx(expected, rel=2e-13)


def _exact(scale: str, gamma: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
    ratio = mpmath.exp(gamma / 2)
    alpha = {
        "vp": lambda: 1 / mpmath.sqrt(1 + ratio**2),
        "ve": lambda: mpmath.mpf(1),
        "sub_vp": lambda: (mpmath.sqrt(ratio**2 + 4) - ratio) / 2,
        "straight": lambda: 1 / (1 + ratio),
    }[scale]()
    return alpha, alpha * ratio


def test_both_ends_are_finite(scale: Scale) -> None:
    x, x0 = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    into_data = posterior(x, x0, at(scale, 1.0), clean())
    assert torch.equal(into_data.mean, x0)
    assert (into_data.log_var == -math.inf).all()
    if math.isinf(scale.noise_limit):
        return
    noise, s = at(scale, math.inf), at(scale, 0.0)
    forgot = posterior(x, x0, noise, s)
    assert torch.allclose(forgot.mean, s.alpha * x0, rtol=1e-15)
    assert torch.allclose(forgot.log_var, 2 * s.log_sigma, rtol=1e-15)
    assert torch.equal(posterior(x, x0, noise, clean()).mean, x0)
    assert torch.equal(transition(x, s, noise).mean, torch.zeros_like(x))


def test_kl_against_torch_and_against_numerical_integration() -> None:
    generator = torch.Generator().manual_seed(7)
    m1, m2, l1, l2 = torch.randn(4, 5, 2, 3, dtype=torch.float64, generator=generator)
    p, q = Normal(m1, l1), Normal(m2, l2)
    torch_p, torch_q = TorchNormal(m1, (0.5 * l1).exp()), TorchNormal(m2, (0.5 * l2).exp())
    assert torch.allclose(p.kl(q), kl_divergence(torch_p, torch_q).sum((1, 2)), rtol=1e-12)
    assert torch.allclose(p.log_prob(m2), torch_p.log_prob(m2).sum((1, 2)), rtol=1e-12)
    one, two = (Normal(a[:1, :1, 0], b[:1, :1, 0]) for a, b in ((m1, l1), (m2, l2)))

    def integrand(x: float) -> float:
        at_x = torch.tensor([[x]], dtype=torch.float64)
        return float(one.log_prob(at_x).exp() * (one.log_prob(at_x) - two.log_prob(at_x)))

    assert float(one.kl(two)) == pytest.approx(integrate.quad(integrand, -30, 30, epsabs=1e-12)[0], abs=1e-9)


def test_the_normaliser_of_d_dimensions_has_the_power_d() -> None:
    """(2πσ²)^{−D/2}: with the one of one dimension the score is the same and the likelihood is no density."""
    std, grid = 0.3, torch.linspace(-3, 3, 241, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid).requires_grad_()
    log_p = Normal(torch.zeros_like(x), torch.full_like(x, 2 * math.log(std))).log_prob(x)
    of_one_dimension = -0.5 * math.log(2 * math.pi * std**2) - (x**2).sum(1) / (2 * std**2)
    scores = [torch.autograd.grad(each.sum(), x)[0] for each in (log_p, of_one_dimension)]
    assert torch.allclose(scores[0], -x / std**2, rtol=1e-12)
    assert torch.allclose(*scores, rtol=1e-12)
    cell = float(grid[1] - grid[0]) ** 2
    masses = [float(each.exp().sum().detach()) * cell for each in (log_p, of_one_dimension)]
    assert masses == pytest.approx([1, math.sqrt(2 * math.pi) * std], rel=1e-6)


def test_the_prior_of_ve_is_as_wide_as_its_last_level() -> None:
    """F5 of NCSN: x_T ~ N(0, σ_T² I) to a thousandth of a nat; N(0, I) is a thousand nats a dimension away."""
    path = Path(geometric(0.01, 50), SCALES["ve"])
    x0 = torch.rand(20, 3, dtype=torch.float64, generator=GENERATOR)
    assert float(prior_kl(x0, path.highest, path.prior_std).max()) < 1e-3
    assert float(prior_kl(x0, path.highest, 1.0).min()) > 3 * 1000


def test_kl_of_equal_and_nearly_equal_variances() -> None:
    mean, other = torch.tensor([[0.3, -1.0]], dtype=torch.float64), torch.tensor([[0.1, 2.0]], dtype=torch.float64)
    log_var = torch.tensor(-3.0, dtype=torch.float64)
    expected = float(((mean - other) ** 2).sum() / (2 * math.exp(-3)))
    assert float(Normal(mean, log_var).kl(Normal(other, log_var))) == pytest.approx(expected, rel=1e-14)
    d = 1e-7  # KL = ½(e^d − 1 − d) ≈ d²/4 for each dimension
    near = Normal(mean, log_var + d).kl(Normal(mean, log_var))
    assert 0 <= float(near) == pytest.approx(2 * d**2 / 4, abs=1e-15)


def test_sample_is_mean_plus_std_times_noise() -> None:
    eps = torch.tensor([[1.0, -2.0]])
    assert Normal(torch.ones(1, 2), torch.tensor(math.log(9.0))).sample(eps).tolist()[0] == pytest.approx([4, -5])


@pytest.mark.parametrize(("name", "data_variance"), [("large", 1.0), ("small", 0.0)])
def test_the_fixed_variances_are_optimal_for_their_data(name: str, data_variance: float) -> None:
    """D6: the variance that minimises E KL(q(x_s|x_t,x0) ‖ p(x_s|x_t)) for x0 ~ N(0, v), found numerically."""
    path = Path(table_of_betas(linear(50, 1e-3, 0.2)), SCALES["vp"])
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z, w = torch.tensor(nodes).reshape(-1, 1), torch.tensor(weights / weights.sum())
    for i in (2, 10, 50):
        t, s = path.at(i / 50), path.at((i - 1) / 50)
        total = t.alpha**2 * data_variance + t.sigma**2
        x = torch.full((5, 1), 0.7, dtype=torch.float64)
        x0_mean, x0_std = t.alpha * data_variance / total * x, (data_variance * t.sigma**2 / total).sqrt()
        q = posterior(x, x0_mean + x0_std * z, t, s)
        p_mean = posterior(x, x0_mean, t, s).mean

        def expected_kl(log_var: float, q: Normal = q, p_mean: Tensor = p_mean) -> float:
            return float((w * q.kl(Normal(p_mean, torch.tensor(log_var, dtype=torch.float64)))).sum())

        best = optimize.minimize_scalar(expected_kl, bracket=(-8, 0), tol=1e-10).x
        rule = VARIANCES[name](Prediction(x, t, x0_target(t), x0_mean), t, s)
        assert best == pytest.approx(float(rule.flatten()[0]), abs=1e-5)


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_bound_s_weight_of_the_noise_error(name: str) -> None:
    """D7: with σ the reverse std, KL = β²/(2σ²α(1−ᾱ)) |ε−ε̂|² + what does not depend on ε̂."""
    betas = linear(1000)
    bar = (1 - betas).cumprod(0)
    path = Path(table_of_betas(betas), SCALES["vp"])
    x0, eps, error = torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    for i in (1, 30, 999):
        t, s = path.at((i + 1) / 1000), path.at(i / 1000)
        x, rule = t.perturb(x0, eps), named_rule(name)
        right, wrong = (reverse(Prediction(x, t, eps_target(t), e), s, rule) for e in (eps, eps + error))
        q = posterior(x, x0, t, s)
        sigma2 = betas[i] if name == "large" else betas[i] * (1 - bar[i - 1]) / (1 - bar[i])
        weight = betas[i] ** 2 / (2 * sigma2 * (1 - betas[i]) * (1 - bar[i]))
        assert torch.allclose(q.kl(wrong) - q.kl(right), weight * (error**2).sum(1), rtol=1e-8)


def test_the_floor_is_the_posterior_of_the_last_finite_step() -> None:
    path = Path(table_of_betas(linear(1000)), SCALES["vp"])
    betas = linear(1000)
    bar = (1 - betas).cumprod(0)
    rule = floored("large", path.grid(1000))
    assert float(rule.floor_log_var.exp()) == pytest.approx(float(betas[1] * (1 - bar[0]) / (1 - bar[1])), rel=1e-11)
    x = torch.zeros(2, 3, dtype=torch.float64)
    grid = path.grid(1000)
    t, s = grid[torch.tensor([999, 0])], grid[torch.tensor([1000, 1])]
    log_var = rule(Prediction(x, t, eps_target(t), x), t, s)
    assert (log_var[0] == rule.floor_log_var).all()
    assert (log_var[1].exp() - betas[-1]).abs().max() < 1e-12


@pytest.mark.parametrize("name", VARIANCES)
def test_a_grid_with_one_finite_level_has_no_floor(name: str) -> None:
    with pytest.raises(ValueError, match="at least 2 steps"):
        floored(name, Path(Linear(), SCALES["vp"]).grid(1))


def test_unknown_variances_are_named() -> None:
    with pytest.raises(ValueError, match="unknown variance 'medium'; known: small, large, learned_range"):
        named_rule("medium")
