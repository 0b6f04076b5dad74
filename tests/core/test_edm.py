"""EDM and flow matching: the target of EDM's table 1, weights by name, laws of the noise, grids up to pure noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from logsnr.denoiser import INPUTS, LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.objectives import TIMES, WEIGHTS, Matching, Uniform
from logsnr.objectives.noise_laws import NOISE_LAWS
from logsnr.objectives.times import Times
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.samplers.loop import prior
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES, Linear, NoiseSchedule, Straight, geometric

SIGMA_DATA = 0.7
SIGMAS = torch.tensor([0.002, 0.03, 0.5, 0.7, 3.0, 80.0], dtype=torch.float64)
EDM = Path(geometric(0.002, 80.0), SCALES["ve"])
X0, EPS = torch.randn(2, 6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
DRAWS = Draws(7, 2, torch.arange(6), 6)


class Net(nn.Module):
    """F(x, c) = tanh x + c, which remembers what it was shown."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.shown = x, label
        return torch.tanh(x) + label.reshape(-1, 1, 1)


def edm_model(path: Path) -> Denoiser:
    target, inputs = (partial(kind, sigma_data=SIGMA_DATA) for kind in (TARGETS["edm"], INPUTS["unit_variance"]))
    return Denoiser(Net(), path, target, label=LABELS["log_sigma"], inputs=inputs)


def test_the_denoiser_is_that_of_table_1() -> None:
    """D(x; σ) = c_skip x + c_out F(c_in x; c_noise) with the four columns of EDM's table 1."""
    model, level = edm_model(EDM), EDM.at_gamma(2 * SIGMAS.log())
    s = SIGMAS.reshape(-1, 1, 1)
    total = s**2 + SIGMA_DATA**2
    x = X0 + s * EPS
    c_skip, c_out, c_in, c_noise = SIGMA_DATA**2 / total, s * SIGMA_DATA / total.sqrt(), 1 / total.sqrt(), s.log() / 4
    expected = c_skip * x + c_out * (torch.tanh(c_in * x) + c_noise)
    assert torch.allclose(model(x, level).x0, expected, rtol=1e-11)
    shown, label = model.network.shown
    assert torch.allclose(shown, c_in * x, rtol=1e-12)
    assert torch.allclose(label, c_noise.flatten(), rtol=1e-10)


def test_its_target_has_unit_variance_at_every_level_and_both_ends() -> None:
    for path in (EDM, Path(Straight(), SCALES["straight"]), Path(Linear(-20, 20), SCALES["vp"])):
        level = path.at(torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64))
        a, b = TARGETS["edm"](level, sigma_data=SIGMA_DATA)
        assert torch.allclose(a**2 * SIGMA_DATA**2 + b**2, torch.ones(5, dtype=torch.float64), rtol=1e-13)
        # uncorrelated with the input, which makes it the best-conditioned of that variance (EDM, appendix B.6)
        assert (a * level.alpha * SIGMA_DATA**2 + b * level.sigma).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("weight", "options", "of_x0", "of_v"),
    [
        ("min_snr", {"most": 5.0}, lambda snr: snr.clamp(max=5), lambda snr: snr.clamp(max=5) / (snr + 1)),
        ("truncated", {}, lambda snr: snr.clamp(min=1), lambda snr: snr.clamp(min=1) / (snr + 1)),
        ("v", {}, lambda snr: snr + 1, lambda snr: torch.ones_like(snr)),
        ("simple", {}, lambda snr: snr, lambda snr: snr / (snr + 1)),
        ("soft_min_snr", {"sigma_data": 0.5}, lambda snr: 1 / (1 / snr + 0.25), None),
        ("p2", {"power": 1.0, "offset": 1.0}, lambda snr: snr / (1 + snr), lambda snr: snr / (1 + snr) ** 2),
        ("edm", {"sigma_data": 0.5}, lambda snr: (1 / snr + 0.25) * snr / 0.25, None),
    ],
)
def test_a_weight_is_the_same_in_x0_eps_and_v(
    weight: str, options: dict[str, float], of_x0: Callable[..., Tensor], of_v: Callable[..., Tensor] | None
) -> None:
    """Each paper's formula in its own symbol, on errors that are read independently of the library's ε error."""
    path = Path(Linear(-9, 9), SCALES["vp"])
    law = partial(WEIGHTS[weight], **options)
    for target in ("x0", "eps", "v"):
        model = Denoiser(Net(), path, TARGETS[target], label=LABELS["gamma"])
        loss = Matching(path, law, Uniform(path.schedule))(model, X0, DRAWS)
        level, eps = path.at(loss.times), DRAWS.normal("eps", X0)
        prediction = model(level.perturb(X0, eps), level)
        snr = (-level.gamma).exp()
        x0_error = ((prediction.x0 - X0) ** 2).mean((1, 2))
        assert torch.allclose(loss.total, of_x0(snr) * x0_error, rtol=1e-9), target
        if of_v:
            alpha, sigma = (value.reshape(-1, 1, 1) for value in (level.alpha, level.sigma))
            v_error = ((prediction.v - (alpha * eps - sigma * X0)) ** 2).mean((1, 2))
            assert torch.allclose(loss.total, of_v(snr) * v_error, rtol=1e-9), target


def test_the_three_forms_of_min_snr_agree() -> None:
    """min(SNR, 5) on x0, min(SNR, 5)/SNR on ε, min(SNR, 5)/(SNR + 1) on v are one weight (Hang et al., §3.4)."""
    path = Path(Linear(-12, 12), SCALES["vp"])
    level = path.at(torch.linspace(0, 1, 41, dtype=torch.float64))
    ours, snr = WEIGHTS["min_snr"](path, level, most=5.0), level.log_snr.exp()
    assert torch.allclose(ours, snr.clamp(max=5) / snr, rtol=1e-12)
    assert torch.allclose(ours * snr, snr.clamp(max=5), rtol=1e-12)
    assert torch.allclose(ours * snr / (1 + snr), snr.clamp(max=5) / (snr + 1), rtol=1e-12)


def test_the_edm_weight_leaves_the_plain_error_of_f() -> None:
    model = edm_model(EDM)
    law = partial(WEIGHTS["edm"], sigma_data=SIGMA_DATA)
    loss = Matching(EDM, law, NOISE_LAWS["log_normal"](EDM.schedule))(model, X0, DRAWS)
    sigma = EDM.at(loss.times).sigma.reshape(-1, 1, 1)
    noisy, total = X0 + sigma * DRAWS.normal("eps", X0), sigma**2 + SIGMA_DATA**2
    answer = Net()(noisy / total.sqrt(), sigma.log().flatten() / 4)
    wanted = (X0 - SIGMA_DATA**2 / total * noisy) * total.sqrt() / (sigma * SIGMA_DATA)
    assert torch.allclose(loss.total, ((answer - wanted) ** 2).mean((1, 2)), rtol=1e-9)


class At(Uniform):
    """t is what it was told."""

    def __init__(self, schedule: NoiseSchedule, t: Tensor) -> None:
        super().__init__(schedule)
        self.t = t

    def draw(self, draws: Draws) -> Times:
        return super().draw(draws)._replace(t=self.t)


def test_the_velocity_weight_leaves_the_plain_error_of_eps_minus_x0_up_to_pure_noise() -> None:
    path = Path(Straight(), SCALES["straight"])
    t = torch.tensor([1e-3, 0.2, 0.5, 0.99, 1 - 1e-15, 1.0], dtype=torch.float64)
    model = Denoiser(Net(), path, TARGETS["velocity"], label=LABELS["time"])
    eps = DRAWS.normal("eps", X0)
    for dtype, rtol in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        loss = Matching(path, WEIGHTS["velocity"], At(path.schedule, t))(model, X0.to(dtype), DRAWS)
        u = t.reshape(-1, 1, 1)
        answer = torch.tanh((1 - u) * X0 + u * eps) + 999 * u
        assert torch.allclose(loss.total.double(), ((answer - (eps - X0)) ** 2).mean((1, 2)), rtol=rtol)
        assert loss.unweighted.isfinite().all()


@pytest.mark.parametrize("law", NOISE_LAWS)
@pytest.mark.parametrize("stratified", [True, False])
def test_laws_of_the_noise_give_levels_of_the_schedule_and_weigh_one(
    law: str, stratified: bool, schedule: NoiseSchedule
) -> None:
    if law == "log_uniform" and schedule(torch.ones((), dtype=torch.float64)).isinf():
        with pytest.raises(ValueError, match="log_uniform times .* inf]; allowed: log_normal, uniform"):
            NOISE_LAWS[law](schedule)
        return
    t, weight = TIMES[law](schedule, stratified=stratified).draw(Draws(1, 0, torch.arange(999), 999))
    assert torch.equal(weight, torch.ones_like(t))
    assert t.dtype == torch.float64
    assert schedule(t).isfinite().all()
    assert t.min() >= schedule.t_min
    assert t.max() <= 1
    if schedule.steps:
        assert torch.equal(t, torch.round(t * schedule.steps) / schedule.steps)


def drawn(law: str, schedule: NoiseSchedule, count: int = 4001, **options: float) -> Tensor:
    """log σ̃ of stratified draws, sorted: the quantiles at (i + u_i)/count."""
    t = NOISE_LAWS[law](schedule, **options).draw(Draws(1, 0, torch.arange(count), count)).t
    return 0.5 * schedule(t).sort().values


def test_log_sigma_of_edm_is_normal() -> None:
    value = drawn("log_normal", geometric(1e-6, 1e6))
    assert float(value.mean()) == pytest.approx(-1.2, abs=2e-3)
    assert float(value.std()) == pytest.approx(1.2, abs=5e-3)
    assert float(value.std()) < 1.21
    low, high = math.log(0.1), math.log(1.0)
    cut = drawn("log_normal", geometric(0.1, 1.0))
    assert low <= cut[0] < low + 2e-3
    assert high - 4e-3 < cut[-1] <= high
    # a normal between a and b has mean μ − σ (φ(b) − φ(a))/(Φ(b) − Φ(a))
    a, b = (low + 1.2) / 1.2, (high + 1.2) / 1.2
    phi, share = (lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)), (lambda z: math.erfc(-z / math.sqrt(2)) / 2)
    assert float(cut.mean()) == pytest.approx(-1.2 - 1.2 * (phi(b) - phi(a)) / (share(b) - share(a)), abs=2e-3)


QUANTILES: dict[str, tuple[dict[str, float], Callable[[Tensor], Tensor]]] = {
    "log_uniform": ({}, lambda u: -12 + 24 * u),
    "log_logistic": ({"mean": -1.0, "scale": 0.7}, lambda u: -1 + 0.7 * torch.log(u / (1 - u))),
    "cosine": ({"sigma_data": 0.5}, lambda u: torch.log(0.5 * torch.tan(math.pi / 2 * u))),
    "log_normal": ({"mean": -1.2, "std": 1.2}, lambda u: -1.2 + 1.2 * math.sqrt(2) * torch.erfinv(2 * u - 1)),
    "split_log_normal": (
        {"mode": -1.0, "below": 0.5, "above": 1.5},
        lambda u: torch.where(
            u < 0.25,
            -1 - 0.5 * math.sqrt(2) * torch.erfinv(1 - 4 * u),
            -1 + 1.5 * math.sqrt(2) * torch.erfinv((u - 0.25) / 0.75),
        ),
    ),
    "logit_normal": ({"mean": 0.3, "std": 0.8}, lambda u: 0.3 + 0.8 * math.sqrt(2) * torch.erfinv(2 * u - 1)),
}


@pytest.mark.parametrize("law", NOISE_LAWS)
def test_quantiles_of_the_laws_are_their_closed_forms(law: str) -> None:
    options, quantile = QUANTILES[law]
    schedule = Straight(t_min=1e-12) if law == "logit_normal" else geometric(math.exp(-12), math.exp(12))
    count = 4001
    value = drawn(law, schedule, count, **options)
    place = torch.arange(count + 1, dtype=torch.float64) / count
    inside = slice(count // 50, count - count // 50)
    assert (value[inside] >= quantile(place[:-1][inside]) - 2e-3).all()
    assert (value[inside] <= quantile(place[1:][inside]) + 2e-3).all()


def test_nonsense_is_refused() -> None:
    level = EDM.at(0.5)
    for call in (
        lambda: NOISE_LAWS["log_normal"](EDM.schedule, std=0.0),
        lambda: NOISE_LAWS["cosine"](EDM.schedule, sigma_data=-1.0),
        lambda: TARGETS["edm"](level, sigma_data=0.0),
        lambda: INPUTS["unit_variance"](level, sigma_data=0.0),
        lambda: EDM.grid(5, spacing="auto", sigma_data=0.0),
        lambda: EDM.grid(5, spacing="rho", rho=0.0),
    ):
        with pytest.raises(ValueError, match="allowed: "):
            call()


def test_rho_steps_are_those_of_equation_5() -> None:
    i = torch.arange(18, dtype=torch.float64)
    wanted = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert torch.allclose(EDM.grid(18, spacing="rho").sigma[:-1], wanted, rtol=1e-11)
    assert torch.allclose(EDM.grid(17, "lowest", "rho", rho=7.0).sigma, wanted, rtol=1e-11)


def test_the_prior_at_pure_noise_is_standard_normal() -> None:
    path = Path(SCHEDULES["straight"](), SCALES["straight"])
    assert path.prior_std == 1
    assert torch.equal(prior(path, lambda step, draw: EPS), EPS)
