"""Denoising score matching, its weights and its times."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.objectives import TIMES, WEIGHTS, Matching, Task, Uniform
from logsnr.objectives.noise_laws import NOISE_LAWS
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES, BetaLinear, Linear, NoiseSchedule

DRAWS = Draws(7, 2, torch.arange(6), 6)
X0 = torch.randn(6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Half(nn.Module):
    """A network that answers half of what it is shown, plus a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return 0.5 * x + self.bias


def model(path: Path, target: str = "eps") -> Denoiser:
    return Denoiser(Half(), path, TARGETS[target], label=LABELS["gamma"])


def matching(path: Path, weight: str = "simple") -> Matching:
    return Matching(path, WEIGHTS[weight], Uniform(path.schedule))


def test_l_simple_is_the_mean_squared_error_of_the_noise(path: Path) -> None:
    if next(path.schedule.parameters(), None) is not None:
        with pytest.raises(
            ValueError, match="loss 'matching' says nothing to a learned schedule; allowed: the loss vdm"
        ):
            matching(path)
        return
    loss = matching(path)(model(path), X0, DRAWS)
    eps, level = DRAWS.normal("eps", X0), path.at(loss.times)
    alpha, sigma = (value.reshape(-1, 1, 1) for value in (level.alpha, level.sigma))
    answer = 0.5 * (alpha * X0 + sigma * eps) + 0.1
    assert torch.allclose(loss.total, ((eps - answer) ** 2).mean((1, 2)), rtol=1e-12)
    assert torch.equal(loss.total, loss.parts["matching"])
    assert torch.equal(loss.total, loss.unweighted)
    assert loss.total.requires_grad
    assert not loss.unweighted.requires_grad


def test_a_law_of_t_learns_from_the_terms_of_the_sum() -> None:
    """p_t ∝ √E[L_t²] of what is summed, w · error, whatever the importance of the t that was drawn (I4)."""
    path = Path(Linear(-6, 6), SCALES["vp"])
    for weight in ("simple", "v", "likelihood"):
        uniform = Matching(path, WEIGHTS[weight], Uniform(path.schedule))(model(path), X0, DRAWS)
        assert torch.allclose(uniform.taught, uniform.total, rtol=1e-12)
        other = Matching(path, WEIGHTS[weight], TIMES["log_snr"](path.schedule))(model(path), X0, DRAWS)
        law = TIMES["log_snr"](path.schedule).draw(DRAWS)
        assert torch.allclose(law.weight * other.taught, other.total, rtol=1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_target_is_scored_by_its_error_in_the_noise(target: str, scale: str) -> None:
    path = Path(Linear(-6, 6), SCALES[scale])
    network = model(path, target)
    loss = matching(path)(network, X0, DRAWS)
    eps, level = DRAWS.normal("eps", X0), path.at(loss.times)
    prediction = network(level.perturb(X0, eps), level)
    assert torch.allclose(loss.total, ((prediction.eps - eps) ** 2).mean((1, 2)), rtol=1e-9)
    likely = matching(path, "likelihood")(network, X0, DRAWS)
    assert torch.allclose(likely.total, 12 * loss.total, rtol=1e-12)
    assert torch.equal(likely.unweighted, loss.unweighted)


def test_the_likelihood_weight_is_the_slope_of_gamma() -> None:
    path = Path(BetaLinear(), SCALES["vp"])
    t = torch.tensor([0.2, 0.8], dtype=torch.float64)
    beta, integral = 0.1 + 19.9 * t, 0.1 * t + 0.5 * 19.9 * t**2
    weight = WEIGHTS["likelihood"](path, path.at(t))
    assert torch.allclose(weight, beta / -torch.expm1(-integral), rtol=1e-11)
    assert torch.equal(WEIGHTS["simple"](path, path.at(t)), torch.ones_like(t))


def test_a_micro_batch_has_the_losses_of_the_whole(path: Path) -> None:
    if next(path.schedule.parameters(), None) is not None:
        pytest.skip("matching refuses a learned schedule")
    whole = matching(path)(model(path), X0, DRAWS)
    part = matching(path)(model(path), X0[2:5], DRAWS.rows(slice(2, 5)))
    assert torch.equal(part.times, whole.times[2:5])
    assert torch.allclose(part.total, whole.total[2:5], rtol=1e-15)


def test_the_gradient_reaches_the_network_through_a_task() -> None:
    path = Path(Linear(-6, 6), SCALES["vp"])
    task = Task(model(path), matching(path))
    loss = task(X0, DRAWS)
    loss.total.mean().backward()
    eps = DRAWS.normal("eps", X0)
    answer = 0.5 * path.perturb(X0, eps, loss.times) + 0.1
    bias = task.model.network.bias
    assert float(bias.grad) == pytest.approx(float(2 * (answer - eps).mean()), rel=1e-10)
    task.observe(loss.times, loss.unweighted)


@pytest.mark.parametrize("law", [name for name in TIMES if name not in NOISE_LAWS])
@pytest.mark.parametrize("stratified", [True, False])
def test_times_are_levels_of_the_schedule_evenly_drawn(law: str, stratified: bool, schedule: NoiseSchedule) -> None:
    """Laws that weigh by 1/density have the mean of the uniform one; a law of the noise is another loss."""
    count = 4000
    if law == "log_snr" and not schedule(torch.ones((), dtype=torch.float64)).isfinite():
        pytest.skip("refused: no uniform law up to pure noise")
    draws = Draws(1, 0, torch.arange(count), count)
    t, weight = TIMES[law](schedule, stratified=stratified).draw(draws)
    assert t.shape == weight.shape == (count,)
    assert t.dtype == torch.float64
    assert schedule(t).isfinite().all()
    assert t.min() >= schedule.t_min * (1 - 1e-12)
    assert t.max() <= 1
    if schedule.steps:
        knots = t * schedule.steps
        assert torch.allclose(knots, knots.round(), atol=1e-9)
        seen = torch.bincount(knots.round().long() - 1, minlength=schedule.steps)
        if law == "uniform":
            assert not stratified or (seen - count / schedule.steps).abs().max() <= 1
            assert (seen > 0).float().mean() > 0.97
    width = 1 - schedule.t_min
    middle = (1 + schedule.t_min) / 2
    spread = float((weight * (t - middle)).std())
    assert float(weight.mean()) == pytest.approx(1, abs=2e-3 if stratified else 4 * float(weight.std()) / count**0.5)
    assert float((weight * t).mean()) == pytest.approx(middle, abs=2e-3 if stratified else 6 * spread / count**0.5)
    if law == "uniform":
        assert float(t.std()) == pytest.approx(width / 12**0.5, rel=0.12 if schedule.steps == 10 else 0.05)


def test_ddpm_draws_each_of_its_steps() -> None:
    draws = Draws(0, 0, torch.arange(1000), 1000)
    t = Uniform(SCHEDULES["beta_table"]()).draw(draws).t
    assert (t * 1000).round().long().sort().values.tolist() == list(range(1, 1001))
