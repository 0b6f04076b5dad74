"""Path and its differential equation: identities of every schedule × every scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from logsnr.dynamics import Dynamics, dynamics, flow_drift, reverse_drift
from logsnr.path import Path
from logsnr.scales import SCALES, Scale
from logsnr.schedules import BetaLinear, Linear, NoiseSchedule, geometric

# none is a knot of a table of 10, 1000 or 4000 levels
TIMES = torch.tensor([0.131237, 0.271137, 0.417437, 0.583337, 0.771237, 0.948837], dtype=torch.float64)


def difference(function: object, t: Tensor, h: float = 1e-5) -> Tensor:
    """Central difference of the fourth order."""
    at = [function(t + k * h) for k in (-2, -1, 1, 2)]  # type: ignore[operator]
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)


class Learned(NoiseSchedule):
    """γ = w₀ + w₁ t + w₂ t²."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([-5.0, 6.0, 3.0], dtype=torch.float64))

    def forward(self, t: Tensor) -> Tensor:
        return self.weights[0] + self.weights[1] * t + self.weights[2] * t**2


class Flow(NoiseSchedule):
    """σ = t on the straight scale: both ends infinite."""

    t_min = 1e-3

    def forward(self, t: Tensor) -> Tensor:
        return 2 * (torch.log(t) - torch.log1p(-t))


def test_slopes_are_derivatives(path: Path) -> None:
    slope = path.slope(TIMES)
    assert (slope.gamma > 0).all()
    assert torch.allclose(slope.gamma, difference(lambda t: path.at(t).gamma, TIMES), rtol=1e-6)
    assert torch.allclose(slope.log_alpha, difference(lambda t: path.at(t).log_alpha, TIMES), rtol=1e-6, atol=1e-9)
    single = path.slope(TIMES[2])
    assert single.gamma.tolist() == pytest.approx(slope.gamma[2].tolist(), rel=1e-14)


def test_a_learned_schedule_gets_its_gradient_through_levels_and_slopes(scale: Scale) -> None:
    schedule = Learned()
    path = Path(schedule, scale)

    def outcome() -> Tensor:
        level, slope = path.at(TIMES), path.slope(TIMES)
        return (level.alpha.sin() + level.sigma + slope.gamma**2 + slope.log_alpha.exp()).sum()

    (gradient,) = torch.autograd.grad(outcome(), schedule.weights)
    for i in range(3):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                schedule.weights[i] += sign * 1e-5
                ends.append(float(outcome()))
                schedule.weights[i] -= sign * 1e-5
        assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    path.time_of(torch.tensor([0.3], dtype=torch.float64))
    assert not torch.tensor(path.prior_std).requires_grad


def test_drift_and_diffusion_are_those_of_the_marginals(path: Path) -> None:
    process, level = dynamics(path), path.at(TIMES)
    f = process.drift(torch.ones(len(TIMES), 2, dtype=torch.float64), TIMES)
    g2 = process.diffusion(TIMES) ** 2
    assert torch.equal(f[:, 0], f[:, 1])
    assert torch.allclose(f[:, 0], difference(lambda t: path.at(t).log_alpha, TIMES), rtol=1e-6, atol=1e-9)
    expected = difference(lambda t: path.at(t).sigma ** 2, TIMES) - 2 * f[:, 0] * level.sigma**2
    assert torch.allclose(g2, expected, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", ["vp", "sub_vp", "ve"])
def test_the_published_coefficients(name: str) -> None:
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    beta, integral = 0.1 + 19.9 * t, 0.1 * t + 0.5 * 19.9 * t**2
    sigma2 = 0.01**2 * 5000.0 ** (2 * t)
    drift, diffusion2, schedule = {
        "vp": (-0.5 * beta, beta, BetaLinear()),
        "sub_vp": (-0.5 * beta, beta * -torch.expm1(-2 * integral), BetaLinear(scale="sub_vp")),
        "ve": (torch.zeros_like(t), sigma2 * 2 * math.log(5000), geometric(0.01, 50)),
    }[name]
    process = dynamics(Path(schedule, SCALES[name]))
    assert torch.allclose(process.drift(torch.ones_like(t), t), drift, rtol=1e-11)
    assert torch.allclose(process.diffusion(t) ** 2, diffusion2, rtol=1e-11)


@pytest.mark.parametrize("name", ["vp", "sub_vp"])
def test_the_sde_starts_at_the_clean_level(name: str) -> None:
    """At t = 0, f = −½β_min x, and g² is β_min for VP and 0 for sub-VP (Score SDE, eq. 30 and 32)."""
    process, zero = dynamics(Path(BetaLinear(scale=name), SCALES[name])), torch.zeros(1, dtype=torch.float64)
    assert float(process.drift(torch.ones_like(zero), zero)) == pytest.approx(-0.05, rel=1e-2)
    assert float(process.diffusion(zero) ** 2) == pytest.approx({"vp": 0.1, "sub_vp": 0.0}[name], rel=1e-2, abs=1e-6)


def test_reverse_and_flow_drift_subtract_the_whole_and_the_half_of_g2_score() -> None:
    process = Dynamics(drift=lambda x, t: 2 * x * t.reshape(-1, 1), diffusion=lambda t: 3 * t)
    x, score = torch.tensor([[1.0, -1.0], [2.0, 4.0]]), torch.tensor([[0.5, 1.0], [-1.0, 2.0]])
    t = torch.tensor([1.0, 2.0])
    assert reverse_drift(process, score, x, t).tolist() == [[2 - 4.5, -2 - 9], [8 + 36, 16 - 72]]
    assert flow_drift(process, score, x, t).tolist() == [[2 - 2.25, -2 - 4.5], [8 + 18, 16 - 36]]


def test_the_flow_of_a_gaussian_keeps_its_marginals(path: Path) -> None:
    mean, variance = 0.7, 0.3

    def moments(t: Tensor) -> tuple[Tensor, Tensor]:
        level = path.at(t)
        return level.alpha * mean, (level.alpha**2 * variance + level.sigma**2).sqrt()

    m, std = moments(TIMES)
    process = dynamics(path)
    velocity = flow_drift(process, -2 / std, m + 2 * std, TIMES)  # two standard deviations above the mean
    expected = difference(lambda t: moments(t)[0] + 2 * moments(t)[1], TIMES)
    assert torch.allclose(velocity, expected, rtol=1e-6, atol=1e-9)


def test_the_score_is_added_to_the_drift_and_does_not_replace_it(path: Path) -> None:
    """f − ½ g² score carries the marginals; −½ g² score alone does so only where f is nothing, on VE."""
    level = path.at(TIMES)
    std = (level.alpha**2 * 0.3 + level.sigma**2).sqrt()
    x, score = level.alpha * 0.7 + 2 * std, -2 / std
    process = dynamics(path)
    alone = -0.5 * process.diffusion(TIMES) ** 2 * score
    expected = difference(
        lambda t: path.at(t).alpha * 0.7 + 2 * (path.at(t).alpha ** 2 * 0.3 + path.at(t).sigma ** 2).sqrt(), TIMES
    )
    assert torch.allclose(flow_drift(process, score, x, TIMES), expected, rtol=1e-6, atol=1e-9)
    if path.scale.name == "ve":
        assert torch.allclose(alone, expected, rtol=1e-6, atol=1e-9)
    else:
        assert (alone - expected).abs().max() > 0.1


def test_time_of_gamma_is_the_inverse_both_ways(path: Path) -> None:
    t = path.schedule.t_min + (1 - path.schedule.t_min) * torch.linspace(0, 1, 101, dtype=torch.float64)
    gamma = path.schedule(t)
    assert torch.allclose(path.time_of(gamma), t, rtol=0, atol=1e-12)
    between = gamma[0] + (gamma[-1] - gamma[0]) * torch.linspace(0.01, 0.99, 101, dtype=torch.float64)
    assert torch.allclose(path.schedule(path.time_of(between)), between, rtol=0, atol=1e-7)


def test_time_of_a_foreign_gamma_is_clamped(path: Path) -> None:
    foreign = torch.tensor([-math.inf, -1e3, 1e3, math.inf], dtype=torch.float64)
    assert path.time_of(foreign).tolist() == [0, path.schedule.t_min, 1, 1]


def test_time_of_level_keeps_its_own_time(path: Path) -> None:
    level = path.at(TIMES)
    assert path.time_of_level(level) is level.t
    other = Path(Linear(-3, 3), path.scale).at(TIMES)
    assert torch.equal(path.time_of_level(other), path.time_of(other.gamma))


def test_at_gamma_takes_the_noise_level_and_finds_the_time(path: Path) -> None:
    gamma = path.at(TIMES).gamma
    level = path.at_gamma(gamma)
    assert torch.equal(level.gamma, gamma)
    assert torch.equal(level.log_alpha, path.scale.log_alpha(gamma))
    assert torch.equal(level.log_sigma, path.scale.log_sigma(gamma))
    assert torch.allclose(level.t, TIMES, atol=1e-12)


def test_both_ends_are_levels(path: Path) -> None:
    lowest, highest = path.lowest, path.highest
    assert float(highest.t) == 1
    assert float(lowest.t) == path.schedule.t_min
    assert torch.stack([lowest.gamma, lowest.log_alpha, lowest.log_sigma]).isfinite().all()
    if torch.isposinf(highest.gamma):  # pure noise: nothing is left of the data, in any units
        assert float((highest.log_alpha - highest.log_sigma).exp()) == 0
    else:
        assert torch.stack([highest.gamma, highest.log_alpha, highest.log_sigma]).isfinite().all()
    start = path.at(0.0)
    assert start.is_clean == (path.schedule.t_min > 0)
    if start.is_clean:
        assert (float(start.alpha), float(start.sigma)) == (1, 0)


def test_an_infinite_schedule_reaches_data_and_pure_noise() -> None:
    path = Path(Flow(), SCALES["straight"])
    data, noise = path.at(0.0), path.at(1.0)
    assert (float(data.alpha), float(data.sigma)) == (1, 0)
    assert (float(noise.alpha), float(noise.sigma)) == (0, 1)
    assert path.prior_std == 1
    assert torch.allclose(path.at(TIMES).sigma, TIMES, rtol=1e-14)
    assert torch.allclose(path.at(TIMES).alpha, 1 - TIMES, rtol=1e-14)
    assert torch.allclose(path.time_of(path.schedule(TIMES)), TIMES, atol=1e-13)
    grid = path.grid(10)
    assert (grid.gamma[:-1] > grid.gamma[1:]).all()
    assert math.isinf(grid.gamma[0])
    with pytest.raises(ValueError, match="γ = -13.8135 and inf; allowed: finite ends"):
        path.grid(10, spacing="log_snr")


@pytest.mark.parametrize("t", [-0.1, 1.001, math.nan])
def test_times_outside_the_unit_interval_are_refused(path: Path, t: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 or"):
        path.at(t)


def test_a_table_has_nothing_between_zero_and_its_first_knot(path: Path) -> None:
    if path.schedule.steps:
        with pytest.raises(ValueError, match=f"t = {0.5 / path.schedule.steps:.6g}"):
            path.at(torch.tensor([0.5, 0.5 / path.schedule.steps], dtype=torch.float64))


def test_prior_std(path: Path, scale: Scale) -> None:
    expected = float(path.highest.sigma.detach()) if scale.name == "ve" else 1.0
    assert path.prior_std == expected
    assert Path(geometric(0.01, 50), SCALES["ve"]).prior_std == pytest.approx(50, rel=1e-14)


def test_a_schedule_that_falls_is_refused() -> None:
    class Falling(NoiseSchedule):
        def forward(self, t: Tensor) -> Tensor:
            return -t

    with pytest.raises(ValueError, match="Falling does not increase"):
        Path(Falling(), SCALES["vp"])
