"""Score SDE's equations: the three SDEs, likelihood weighting and its importance sampling, the discrete chains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from logsnr.betas import linear
from logsnr.data.toys import mixture
from logsnr.denoiser import INPUTS, LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.dynamics import dynamics
from logsnr.kernels import transition, transition_log_var
from logsnr.objectives import TIMES, WEIGHTS, Matching, Uniform, UniformLogSNR
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES, BetaLinear, Linear, NoiseSchedule, Table, geometric, table_of_betas

PATHS = {
    "vp": Path(BetaLinear(), SCALES["vp"]),
    "sub_vp": Path(BetaLinear(scale="sub_vp"), SCALES["sub_vp"]),
    "ve": Path(geometric(0.01, 50), SCALES["ve"]),
}
T = torch.tensor([1e-5, 1e-3, 0.1, 0.4, 1.0], dtype=torch.float64)
TWO = mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), 0.09)


def test_the_three_sdes_in_the_paper_s_symbols() -> None:
    """f, g² and the perturbation kernels of equations 30–32 and 29 (S1)."""
    x = torch.arange(1.0, 11.0, dtype=torch.float64).reshape(5, 2)
    beta, integral = 0.1 + 19.9 * T, 0.1 * T + 9.95 * T**2
    ratio = 50 / 0.01
    expected = {
        "vp": (-0.5 * beta, beta, torch.exp(-integral / 2), (-torch.expm1(-integral)).sqrt()),
        "sub_vp": (-0.5 * beta, beta * -torch.expm1(-2 * integral), torch.exp(-integral / 2), -torch.expm1(-integral)),
        "ve": (0 * T, (0.01 * ratio**T) ** 2 * 2 * math.log(ratio), torch.ones(5), 0.01 * ratio**T),
    }
    for name, (f, g2, alpha, sigma) in expected.items():
        path, level = PATHS[name], PATHS[name].at(T)
        process = dynamics(path)
        assert torch.allclose(process.drift(x, T), f.unsqueeze(1) * x, rtol=1e-9, atol=1e-15), name
        assert torch.allclose(process.diffusion(T) ** 2, g2, rtol=1e-9), name
        assert torch.allclose(level.alpha, alpha.double(), rtol=1e-12), name
        assert torch.allclose(level.sigma, sigma, rtol=1e-9), name


def test_the_std_of_sub_vp_has_no_root() -> None:
    """dV/dt = −β V + β (1 − e^{−2B}), B = ∫β, from 0: V = (1 − e^{−B})². 1 − e^{−B} would be VP's variance."""

    def slope(t: float, variance: float) -> float:
        beta, integral = 0.1 + 19.9 * t, 0.1 * t + 9.95 * t**2
        return beta * (-variance - math.expm1(-2 * integral))

    times = T[2:4].numpy()
    (variance,) = solve_ivp(slope, (0, 1), [0.0], t_eval=times, rtol=1e-10, atol=1e-14).y
    std = torch.from_numpy(variance).sqrt()
    assert torch.allclose(PATHS["sub_vp"].at(T[2:4]).sigma, std, rtol=1e-7)
    rooted = -torch.expm1(-(0.1 * T[2:4] + 9.95 * T[2:4] ** 2))
    assert (rooted.sqrt() > 1.05 * std).all()
    assert torch.allclose(rooted.sqrt(), PATHS["vp"].at(T[2:4]).sigma, rtol=1e-9)


def test_ve_drowns_x0_and_does_not_move_it() -> None:
    """Its drift is nothing and α stays 1; SNR falls to 1/50² of unit data all the same. VP pulls x0 to 0."""
    x, one = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert not dynamics(PATHS["ve"]).drift(x, one).any()
    assert float(PATHS["ve"].highest.alpha) == 1
    assert float(PATHS["ve"].highest.log_snr.exp()) == pytest.approx(1 / 2500, rel=1e-9)
    assert (dynamics(PATHS["vp"]).drift(x, one) < 0).all()
    assert float(PATHS["vp"].highest.alpha) < 0.01


@pytest.mark.parametrize("scale", SCALES)
def test_likelihood_weighting_is_g_squared_on_the_score_error(scale: str) -> None:
    """λ = g² on |ŝ − s|² is w = γ′ on |ε̂ − ε|², for every scale (S4; ScoreFlow, theorem 1)."""
    path = PATHS.get(scale, Path(Linear(-8, 8), SCALES[scale]))
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(6, 2, dtype=torch.float64, generator=generator)
    draws = Draws(3, 0, torch.arange(6), 6)
    loss = Matching(path, WEIGHTS["likelihood"], Uniform(path.schedule))(Oracle(TWO), x0, draws)
    level, eps = path.at(loss.times), draws.normal("eps", x0)
    score = Oracle(TWO)(level.perturb(x0, eps), level).score
    target = -eps / level.sigma.unsqueeze(1)
    g2 = dynamics(path).diffusion(loss.times) ** 2
    assert torch.allclose(loss.total, g2 * ((score - target) ** 2).mean(1), rtol=1e-8)


def test_times_uniform_in_log_snr_weigh_every_likelihood_term_alike(schedule: NoiseSchedule) -> None:
    count, path = 2000, Path(schedule, SCALES["vp"])
    if torch.isposinf(path.highest.gamma):
        with pytest.raises(ValueError, match="allowed: finite ends"):
            UniformLogSNR(schedule)
        return
    t, weight = UniformLogSNR(schedule).draw(Draws(1, 0, torch.arange(count), count))
    product = weight * WEIGHTS["likelihood"](path, path.at(t))
    assert torch.allclose(product, product.mean().expand(count), rtol=1e-7)
    if not schedule.steps:
        low, high = float(path.lowest.gamma), float(path.highest.gamma)
        assert float(product[0]) == pytest.approx((high - low) / (1 - schedule.t_min), rel=1e-9)
        place = ((path.at(t).gamma - low) / (high - low)).sort().values
        assert (place - torch.linspace(0, 1, count, dtype=torch.float64)).abs().max() < 2 / count


@pytest.mark.parametrize("name", ["beta_linear", "beta_table", "cosine"])
def test_importance_sampled_times_keep_the_mean_of_a_loss_and_lower_its_variance(name: str) -> None:
    """The likelihood-weighted loss of an imperfect model, against its integral (or sum) over t."""
    schedule = SCHEDULES[name]()
    path = Path(schedule, SCALES["vp"])
    errors: dict[str, tuple[float, float]] = {}

    def loss(t: Tensor) -> Tensor:
        level = path.at(t)
        return WEIGHTS["likelihood"](path, level) * (0.1 + level.alpha**2 * 0.2)

    if schedule.steps:
        exact = float(loss(torch.arange(1, schedule.steps + 1, dtype=torch.float64) / schedule.steps).mean())
    else:
        low, high = path.lowest.gamma, path.highest.gamma
        nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(200))
        gamma = low + (high - low) * (nodes + 1) / 2
        rate = 0.1 + 0.2 * torch.sigmoid(-gamma)
        exact = float((high - low) / 2 * (weights * rate).sum()) / (1 - schedule.t_min)
    for law in ("uniform", "log_snr"):
        t, weight = TIMES[law](schedule, stratified=False).draw(Draws(5, 0, torch.arange(20_000), 20_000))
        terms = weight * loss(t)
        errors[law] = float(terms.mean()), float(terms.std())
    mean, std = errors["log_snr"]
    assert mean == pytest.approx(exact, abs=4 * std / 20_000**0.5)
    assert std < 0.5 * errors["uniform"][1]


def test_a_schedule_without_a_lowest_level_has_no_law_uniform_in_log_snr() -> None:
    class Open(NoiseSchedule):
        def forward(self, t: Tensor) -> Tensor:
            return torch.log(t) - torch.log1p(-t)

    with pytest.raises(ValueError, match="times 'log_snr' between γ = -inf and inf; allowed: finite"):
        UniformLogSNR(Open())


def test_sigma_is_told_in_ve_units_and_clamped() -> None:
    path = PATHS["ve"]
    told = LABELS["sigma"](path, path.at(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)))
    assert torch.allclose(told, torch.tensor([0.01, 0.5**0.5, 50.0], dtype=torch.float64), rtol=1e-12)
    foreign = Path(geometric(1e-4, 1e4), SCALES["ve"]).at(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.allclose(LABELS["sigma"](path, foreign), torch.tensor([0.01, 50.0], dtype=torch.float64))
    vp = PATHS["vp"].at(0.5)
    assert float(LABELS["sigma"](PATHS["vp"], vp)) == pytest.approx(float(vp.sigma / vp.alpha), rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_unit_power_inputs_show_data_of_unit_power_at_unit_power(scale: str) -> None:
    path = Path(Linear(-9, 8), SCALES[scale])
    level = path.at(torch.linspace(0, 1, 7, dtype=torch.float64))
    factor = INPUTS["unit_power"](level)
    assert torch.allclose(factor**2 * (level.alpha**2 + level.sigma**2), torch.ones(7, dtype=torch.float64), rtol=1e-13)
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            seen.append(x)
            return x

    x0, eps = (torch.randn(7, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    model = Denoiser(Spy(), path, TARGETS["eps"], label=LABELS["gamma"], inputs=INPUTS["unit_power"])
    model(level.perturb(x0, eps), level)
    assert (seen[0].std(1) - 1).abs().max() < 0.05


def slope(distances: list[float], steps: tuple[int, ...]) -> float:
    return -float(np.polyfit(np.log(steps), np.log(distances), 1)[0])


STEPS = (100, 1000, 10_000)


def test_ddpm_is_the_discretised_vp_sde() -> None:
    """β_i = β(i/T)/T: marginals and steps approach the SDE's like 1/T (S11; Score SDE, appendix B)."""
    path, marginal, step = PATHS["vp"], [], []
    for steps in STEPS:
        i = torch.arange(1, steps + 1, dtype=torch.float64)
        betas = (0.1 + 19.9 * i / steps) / steps
        table = Path(table_of_betas(betas), SCALES["vp"])
        t = i / steps
        marginal.append(float((table.at(t).alpha - path.at(t).alpha).abs().max()))
        inner = slice(steps // 10, None)  # away from t = 0, where the steps of both are of the order of σ itself
        chain = transition_log_var(table.at(t[1:]), table.at(t[:-1]))[inner]
        g2 = dynamics(path).diffusion(t[1:][inner]) ** 2 / steps
        step.append(float((chain - g2.log()).abs().max()))
    assert slope(marginal, STEPS) == pytest.approx(1, abs=0.1), marginal
    assert marginal[1] < 0.01
    assert max(step) < 1e-9, "the step's variance is g² dt itself"


def test_the_published_table_of_ddpm_is_that_sde_at_0_1_and_20() -> None:
    """β from 1e-4 to 0.02 in 1000 steps is β_min = 0.1, β_max = 20 up to 1/T."""
    knots = torch.arange(1, 1001, dtype=torch.float64) / 1000
    table = Path(table_of_betas(linear(1000)), SCALES["vp"]).at(knots)
    assert (table.alpha - PATHS["vp"].at(knots).alpha).abs().max() < 3e-3


def test_ncsn_is_the_discretised_ve_sde() -> None:
    """x_i = x_{i−1} + √(σ_i² − σ_{i−1}²) z: its steps approach g² dt like 1/T (S11)."""
    path, step, marginal = PATHS["ve"], [], []
    for steps in STEPS:
        i = torch.arange(1, steps + 1, dtype=torch.float64)
        chain = Path(Table(2 * torch.log(0.01 * 5000 ** ((i - 1) / (steps - 1)))), SCALES["ve"])
        t, s = chain.at(i[1:] / steps), chain.at(i[:-1] / steps)
        kernel = transition(torch.ones(steps - 1, 1, dtype=torch.float64), s, t)
        assert torch.equal(kernel.mean, torch.ones_like(kernel.mean))
        g2 = dynamics(path).diffusion(t.t) ** 2 / steps
        step.append(float((kernel.log_var.exp().flatten() / g2 - 1).abs().max()))
        marginal.append(float((t.sigma / path.at(t.t).sigma - 1).abs().max()))
    assert slope(step, STEPS) == pytest.approx(1, abs=0.1), step
    assert slope(marginal, STEPS) == pytest.approx(1, abs=0.1), marginal
