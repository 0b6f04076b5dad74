"""γ(t) of every schedule: increasing, with the ends and the interior its paper names."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from logsnr.betas import linear
from logsnr.path import Path
from logsnr.scales import SCALES, vp
from logsnr.schedules import SCHEDULES, BetaLinear, Cosine, Linear, NoiseSchedule, Table, geometric, table_of_betas

T01 = torch.linspace(0, 1, 1001, dtype=torch.float64)


def test_gamma_increases(schedule: NoiseSchedule) -> None:
    gamma = schedule(schedule.t_min + (1 - schedule.t_min) * T01)
    assert gamma.dtype == torch.float64
    assert gamma[:-1].isfinite().all()
    assert gamma[-1] > gamma[-2], "finite, or pure noise"
    assert (gamma.diff() > 0).all()


def test_below_the_lowest_finite_level_is_only_the_clean_one(schedule: NoiseSchedule) -> None:
    start = float(schedule(torch.zeros((), dtype=torch.float64)))
    assert start == -math.inf if schedule.t_min > 0 else math.isfinite(start)
    assert schedule.steps is None or schedule.t_min == 1 / schedule.steps


def test_shape_of_t_is_the_shape_of_gamma(schedule: NoiseSchedule) -> None:
    t = T01[1:].reshape(4, 250)
    assert torch.equal(schedule(t).flatten(), schedule(t.flatten()))
    assert torch.allclose(schedule(t[2, 3]), schedule(t)[2, 3], rtol=1e-14)


def test_linear_and_geometric_are_lines() -> None:
    assert torch.allclose(Linear()(T01), -13.3 + 18.3 * T01, rtol=0, atol=1e-14)
    sigma = (0.5 * geometric(0.01, 50)(T01)).exp()
    assert torch.allclose(sigma, 0.01 * 5000**T01, rtol=1e-13)


@pytest.mark.parametrize("name", ["vp", "sub_vp", "straight"])
def test_beta_linear_means_the_same_integral_in_every_unit(name: str) -> None:
    t = T01[1:]
    integral = 0.1 * t + 0.5 * 19.9 * t**2
    gamma = BetaLinear(0.1, 20.0, scale=name)(t)
    assert torch.allclose(-2 * SCALES[name].log_alpha(gamma), integral, rtol=1e-10, atol=0)


def test_beta_linear_closed_forms() -> None:
    t = T01[1:]
    integral = 0.1 * t + 0.5 * 19.9 * t**2
    assert torch.allclose(BetaLinear()(t), torch.log(torch.expm1(integral)), rtol=1e-14)
    sub_vp = 2 * torch.log(-torch.expm1(-integral)) + integral
    assert torch.allclose(BetaLinear(scale="sub_vp")(t), sub_vp, rtol=1e-14)


@pytest.mark.parametrize("bound", [5.0, 20.0, 30.0])
def test_cosine_has_exact_ends_and_the_paper_s_interior(bound: float) -> None:
    schedule = Cosine(max_log_snr=bound)
    gamma, delta = schedule(T01), 1 / math.expm1(bound)
    assert gamma[[0, -1]].tolist() == pytest.approx([-bound, bound], rel=1e-12)
    angle = (T01 + 0.008) / 1.008 * math.pi / 2
    paper = angle.cos() ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(torch.sigmoid(-gamma), (paper + delta) / (1 + 2 * delta), rtol=1e-9, atol=0)
    assert (torch.sigmoid(-gamma) - paper).abs().max() <= delta * (1 + 1e-6)


def test_a_table_is_exact_at_its_knots_and_monotone_between() -> None:
    gammas = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).pow(8).cumsum(0) * 30 - 9
    table = Table(gammas)
    knots = torch.arange(1, 41, dtype=torch.float64) / 40
    assert torch.equal(table(knots), gammas)
    fine = table(torch.linspace(1 / 40, 1, 20_001, dtype=torch.float64))
    assert (fine.diff() >= -1e-13).all()
    assert float(table(torch.zeros((), dtype=torch.float64))) == -math.inf


@pytest.mark.parametrize("steps", [10, 49, 1000, 4000])
def test_no_knot_is_missed_by_the_rounding_of_its_time(steps: int) -> None:
    gammas = torch.linspace(-9, 11, steps, dtype=torch.float64) ** 3
    table, knots = Table(gammas), torch.arange(1, steps + 1, dtype=torch.float64)
    assert torch.equal(table(knots / steps), gammas)
    assert torch.equal(table(knots * (1 / steps)), gammas)


def test_a_table_of_a_line_is_the_line() -> None:
    table = Table(Linear(-5, 5)(torch.arange(1, 11, dtype=torch.float64) / 10))
    t = torch.linspace(0.1, 1, 200, dtype=torch.float64)
    assert torch.allclose(table(t), Linear(-5, 5)(t), rtol=0, atol=1e-13)
    two = Table(torch.tensor([-1.0, 3.0]))
    assert torch.allclose(two(torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64)), torch.tensor([-1.0, 1, 3]).double())


def test_a_smooth_table_is_interpolated_to_second_order() -> None:
    def error(steps: int) -> float:
        t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        fine = torch.linspace(0.5, 1, 999, dtype=torch.float64)
        return float((Table(BetaLinear()(t))(fine) - BetaLinear()(fine)).abs().max())

    assert error(200) < error(100) / 3.5
    assert error(100) < 1e-4


def test_the_ddpm_table_keeps_its_digits_near_the_data() -> None:
    betas = linear(1000)
    gammas = table_of_betas(betas).gammas
    with mpmath.workdps(40):
        alpha_bar = mpmath.mpf(1)
        for step, beta in enumerate(betas.tolist(), 1):
            alpha_bar *= 1 - mpmath.mpf(beta)
            if step in (1, 2, 10, 500, 1000):
                expected = float(mpmath.log((1 - alpha_bar) / alpha_bar))
                assert float(gammas[step - 1]) == pytest.approx(expected, rel=1e-14)


def test_a_thousand_steps_are_one_of_root_alpha_bar() -> None:
    """D1 step by step is D2: mean √ᾱ_t x0, variance 1 − ᾱ_t; not ᾱ_t x0, not √β_t x0, not √β̃_t x0."""
    beta = linear(1000)
    bar = (1 - beta).cumprod(0)
    mean, variance = 1.0, 0.0
    levels = Path(table_of_betas(beta), vp).at(torch.arange(1, 1001).double() / 1000)
    for i, b in enumerate(beta.tolist()):
        mean, variance = math.sqrt(1 - b) * mean, (1 - b) * variance + b
        assert float(levels.alpha[i]) == pytest.approx(mean, rel=1e-12)
        assert float(levels.sigma[i] ** 2) == pytest.approx(variance, rel=1e-12)
    assert torch.allclose(levels.alpha**2, bar, rtol=1e-12), "ᾱ_t is the product of 1 − β_s"
    tilde = beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])
    for slip in (bar[300], beta[300].sqrt(), tilde[299].sqrt()):
        assert abs(float(levels.alpha[300] - slip)) > 0.2


def test_each_step_keeps_nearly_all_of_the_signal_and_a_thousand_keep_none() -> None:
    """ᾱ_t/ᾱ_{t−1} = 1 − β_t (DDIM writes α_t/α_{t−1}) is near one, never one: their product is 4e-5."""
    alpha_bar = Path(table_of_betas(linear(1000)), vp).at(torch.arange(1, 1001).double() / 1000).alpha ** 2
    ratio = alpha_bar[1:] / alpha_bar[:-1]
    assert torch.allclose(ratio, 1 - linear(1000)[1:], rtol=1e-12)
    assert 0.979 < float(ratio.min()) < float(ratio.max()) < 0.9999
    assert float(ratio.prod()) == pytest.approx(4.036e-5, rel=1e-3), "where a ratio of one would keep all of it"


def test_a_sigma_table_is_geometric() -> None:
    table = SCHEDULES["sigma_table"](sigma_min=0.01, sigma_max=1.0, num_diffusion_steps=10)
    sigma = (0.5 * table(torch.arange(1, 11, dtype=torch.float64) / 10)).exp()
    assert sigma.tolist() == pytest.approx([0.01 * 100 ** (i / 9) for i in range(10)], rel=1e-13)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(5, -5), "gamma_min=5"),
        (lambda: Linear(-math.inf, 5), "allowed: finite"),
        (lambda: geometric(0, 1), "0 < sigma_min"),
        (lambda: geometric(2, 1), "sigma_max=1"),
        (lambda: BetaLinear(0.0), "beta_min=0.0"),
        (lambda: BetaLinear(3, 2), "allowed: 0 < beta_min <= beta_max"),
        (lambda: BetaLinear(scale="ve"), "'ve' keeps α = 1"),
        (lambda: Cosine(max_log_snr=40), "max_log_snr=40"),
        (lambda: Cosine(offset=0), "offset > 0"),
        (lambda: Table(torch.zeros(1)), "T >= 2"),
        (lambda: Table(torch.zeros(3, 3)), r"\(3, 3\)"),
        (lambda: Table(torch.tensor([0.0, 2.0, 1.0])), "increasing"),
        (lambda: Table(torch.tensor([0.0, math.inf])), "finite"),
        (lambda: SCHEDULES["beta_table"](betas="linaer"), "known: linear"),
    ],
)
def test_bad_schedules_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_the_cosine_table_is_the_closed_form_at_its_knots() -> None:
    table, knots = SCHEDULES["cosine_table"](num_diffusion_steps=40), torch.arange(1, 41).double() / 40
    assert torch.allclose(table(knots), Cosine()(knots), rtol=1e-15)
    assert float(table(knots[-1])) == pytest.approx(20, rel=1e-9)
    with pytest.raises(ValueError, match="num_diffusion_steps = 1; allowed: at least 2"):
        SCHEDULES["cosine_table"](num_diffusion_steps=1)
