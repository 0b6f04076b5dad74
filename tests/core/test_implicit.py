"""DDIM's family q_σ: its joint law of several levels, and the weight that its bound puts on the noise error."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from logsnr.betas import linear
from logsnr.decoders import gaussian_density
from logsnr.draws import Draws
from logsnr.implicit import backward, forward, kept
from logsnr.kernels import Normal, posterior, posterior_log_var, transition
from logsnr.level import Level
from logsnr.likelihood import bound
from logsnr.objectives import WEIGHTS, Matching, TimeLaw
from logsnr.objectives.times import Times
from logsnr.path import Path
from logsnr.prediction import Prediction, eps
from logsnr.scales import SCALES, Scale
from logsnr.schedules import Linear, table_of_betas

ETAS = [0.2, 0.7, 1.0]
V = 0.36  # variance of the data
TABLE = Path(table_of_betas(linear(20, 1e-3, 0.3)), SCALES["vp"])


def affine(kernel: Callable[[Tensor, Tensor], Normal]) -> tuple[float, float, float]:
    """(a, b, std) of a kernel N(a x + b x0, std²) over numbers."""
    x, x0 = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    out = kernel(x, x0)
    return float(out.mean[0]), float(out.mean[1]), float(torch.exp(0.5 * out.log_var).flatten()[0])


def chain(levels: list[Level], kernel: Callable[[Tensor, Tensor, Level, Level], Normal]) -> Tensor:
    """Covariance of (x0, states in the order of `levels`) when each state is drawn from the one before and x0."""
    rows = torch.eye(len(levels) + 1, dtype=torch.float64)  # in independent unit normals
    states = [math.sqrt(V) * rows[0]]
    states.append(levels[0].alpha * states[0] + levels[0].sigma * rows[1])
    for i in range(1, len(levels)):
        a, b, std = affine(lambda x, x0, i=i: kernel(x, x0, levels[i - 1], levels[i]))
        states.append(a * states[i] + b * states[0] + std * rows[i + 1])
    stacked = torch.stack(states)
    return stacked @ stacked.T


def partial(cov: Tensor, i: int, j: int, given: int) -> float:
    """Correlation of i and j when `given` is known."""
    keep = torch.tensor([i, j])
    rest = cov[keep][:, keep] - torch.outer(cov[keep, given], cov[given, keep]) / cov[given, given]
    return float(rest[0, 1] / (rest[0, 0] * rest[1, 1]).sqrt())


@pytest.mark.parametrize("eta", ETAS)
def test_backward_and_forward_factorisations_are_one_joint_law(scale: Scale, eta: float) -> None:
    path = Path(Linear(-4, 4), scale)
    low, middle, high = (path.at(t) for t in (0.2, 0.5, 0.8))
    down = chain([high, middle, low], lambda x, x0, t, s: backward(x, x0, t, s, eta))
    up = chain([low, middle, high], lambda x, x0, s, t: forward(x, x0, s, t, eta))
    order = torch.tensor([0, 3, 2, 1])
    assert torch.allclose(down[order][:, order], up, rtol=1e-12, atol=1e-14)
    for i, level in enumerate((low, middle, high), 1):  # the marginals of every member of the family
        assert float(up[i, i]) == pytest.approx(float(level.alpha**2 * V + level.sigma**2), rel=1e-12)
        assert float(up[0, i]) == pytest.approx(float(level.alpha * V), rel=1e-12)
    # M7: only at η = 1 do a state's neighbours say nothing to each other once it is known
    assert abs(partial(up, 1, 3, 2)) < 1e-12 if eta == 1 else abs(partial(up, 1, 3, 2)) > 0.02


def test_eta_one_is_the_markov_chain_and_eta_zero_draws_nothing(scale: Scale) -> None:
    path = Path(Linear(-9, 9), scale)
    t, s = path.at(0.7), path.at(0.45)
    x, x0 = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for ours, theirs in (
        (backward(x, x0, t, s, 1.0), posterior(x, x0, t, s)),
        (forward(x, x0, s, t, 1.0), transition(x, s, t)),
    ):
        assert torch.allclose(ours.mean, theirs.mean, rtol=1e-11, atol=1e-12)
        assert torch.allclose(ours.log_var, theirs.log_var, rtol=1e-13)
    still = backward(t.perturb(x0, x), x0, t, s, 0.0)
    assert torch.allclose(still.mean, s.perturb(x0, x), rtol=1e-11, atol=1e-12)
    assert float(still.log_var.exp()) == 0
    assert float(kept(t, s, 1.0)) == pytest.approx(math.exp(-18 * 0.25), rel=1e-14)


class Every(TimeLaw):
    """All knots of a table, one an example."""

    def draw(self, draws: Draws) -> Times:
        t = (draws.index + 1).double() / 20
        return Times(t, torch.ones_like(t))

    def observe(self, times: Tensor, losses: Tensor) -> None: ...


X0 = torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).expand(20, 3)
DRAWS = Draws(0, 0, torch.arange(20), 20)


def first(x: Tensor, level: Level) -> Prediction:
    return Prediction(x, level, eps(level), 0.4 * x - 0.1)


def second(x: Tensor, level: Level) -> Prediction:
    return Prediction(x, level, eps(level), torch.sin(3 * x))


def family_bound(model: Callable[[Tensor, Level], Prediction], eta: float) -> float:
    """J_σ at one x0 and one noise a level, up to its constants: KL of the family's kernels, density at the end."""
    noise, total = DRAWS.normal("eps", X0), 0.0
    floor = posterior_log_var(TABLE.at(2 / 20), TABLE.at(1 / 20))
    for i in range(20):
        t, s = TABLE.at((i + 1) / 20), TABLE.at(i / 20)
        x0, x = X0[:1], t.perturb(X0[:1], noise[i : i + 1])
        guess = model(x, t).x0
        if i == 0:
            total -= float(Normal(guess, floor + 2 * math.log(eta)).log_prob(x0))
        else:
            total += float(backward(x, x0, t, s, eta).kl(backward(x, guess, t, s, eta)))
    return total


@pytest.mark.parametrize("eta", ETAS)
def test_the_bound_of_the_family_is_a_weighted_noise_error_and_a_constant(eta: float) -> None:
    """Theorem 1: J_σ − L_γ does not depend on the model; sums over T steps and D dimensions."""

    def weighted(model: Callable[[Tensor, Level], Prediction]) -> float:
        loss = Matching(TABLE, lambda path, level: WEIGHTS["ddim"](path, level, eta=eta), Every())(model, X0, DRAWS)
        return 20 * 3 * float(loss.total.mean())

    gaps = [family_bound(model, eta) - weighted(model) for model in (first, second)]
    assert abs(family_bound(first, eta) - family_bound(second, eta)) > 1
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-10 * abs(family_bound(first, eta)))


def test_at_eta_one_it_is_ddpm_s_bound() -> None:
    of = bound(TABLE.grid(20), 1.0, "small", gaussian_density)
    noise, steps = DRAWS.normal("eps", X0), torch.arange(19, -1, -1)
    values = [float(of.term(model, X0, noise, steps).sum()) for model in (first, second)]
    assert values[0] - values[1] == pytest.approx(family_bound(first, 1.0) - family_bound(second, 1.0), rel=1e-10)
    beta, bar = linear(20, 1e-3, 0.3), (1 - linear(20, 1e-3, 0.3)).cumprod(0)
    weight = WEIGHTS["ddim"](TABLE, TABLE.at(torch.tensor([0.5], dtype=torch.float64)))
    small = beta[9] * (1 - bar[8]) / (1 - bar[9])
    assert float(weight) == pytest.approx(float(beta[9] ** 2 / (2 * small * (1 - beta[9]) * (1 - bar[9]))), rel=1e-10)


def test_gamma_of_theorem_1_is_a_weight_and_not_minus_log_snr() -> None:
    """One letter, two things: DDIM's γ_t is positive and falls on this table; γ of a level has both signs and rises."""
    levels = TABLE.at(torch.arange(2, 21, dtype=torch.float64) / 20)
    weight = WEIGHTS["ddim"](TABLE, levels)
    assert (weight > 0).all()
    assert (weight.diff() < 0).any()
    assert (levels.gamma.diff() > 0).all()
    assert float(levels.gamma[0]) < 0 < float(levels.gamma[-1])


def test_a_table_of_weights_is_read_by_its_step() -> None:
    knots = TABLE.at(torch.arange(1, 21, dtype=torch.float64) / 20)
    values = [float(i) for i in range(1, 21)]
    assert WEIGHTS["table"](TABLE, knots, values=values).tolist() == values
    assert WEIGHTS["table"](TABLE, knots, values=[2.0, 3.0]).tolist() == [2.0] * 10 + [3.0] * 10
    for values in ([], [-1.0], [math.nan]):
        with pytest.raises(ValueError, match="weight 'table'.*allowed"):
            WEIGHTS["table"](TABLE, knots, values=values)


def test_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="eta = 0.*allowed: above 0"):
        WEIGHTS["ddim"](TABLE, TABLE.at(0.5), eta=0.0)
    path = Path(Linear(), SCALES["vp"])
    with pytest.raises(ValueError, match="this schedule is continuous; allowed: likelihood"):
        WEIGHTS["ddim"](path, path.at(0.5))
