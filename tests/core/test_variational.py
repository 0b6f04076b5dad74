"""L_vlb, L_hybrid and the learned variance they teach; importance sampling of t by the second moment of the loss."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from logsnr.betas import linear
from logsnr.data.toys import gaussian
from logsnr.data.transform import Lattice
from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.kernels import floored, learned_range, posterior_coefficients, posterior_log_var, transition_log_var
from logsnr.level import Level
from logsnr.likelihood import bound_for
from logsnr.objectives import VLB, WEIGHTS, Hybrid, LossSecondMoment, Setting, Task, TimeLaw, Uniform
from logsnr.objectives.times import Times
from logsnr.objectives.variational import chain
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS, Prediction
from logsnr.scales import SCALES, Scale
from logsnr.schedules import Linear, Table, table_of_betas

T, D = 12, 6
TABLE = Path(table_of_betas(linear(T, 1e-2, 0.4)), SCALES["vp"])
LATTICE = Lattice(-1.0, 2 / 15, 16)
GENERATOR = torch.Generator().manual_seed(0)
X0 = LATTICE.values(torch.randint(0, 16, (T, 3, 2), generator=GENERATOR)).double()
DRAWS = Draws(3, 1, torch.arange(T), T)


class Every(TimeLaw):
    """The knots of a table in turn, with importance weights that have no mean of 1: what is multiplied is seen."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.importance = weight

    def draw(self, draws: Draws) -> Times:
        t = (draws.index % T + 1).double() / T
        return Times(t, torch.full_like(t, self.importance))

    def observe(self, times: Tensor, losses: Tensor) -> None: ...


class Net(nn.Module):
    """Mean and spread of one parameter each."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (0.3, -0.6))
        self.calls = 0

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.calls += 1
        return torch.cat([self.mean * x, self.spread * torch.cos(x)], dim=1)


def model(path: Path = TABLE, target: str = "eps") -> Denoiser:
    return Denoiser(Net(), path, TARGETS[target], label=LABELS["gamma"], spread=True)


def setting(path: Path = TABLE, variance: str = "learned_range", times: TimeLaw | None = None) -> Setting:
    return Setting(path, WEIGHTS["simple"], times or Every(), variance, LATTICE)


def every_term(of: Denoiser, variance: str = "learned_range") -> Tensor:
    """L_t of example i at knot i, nats, from the likelihood's bound at the objective's noise."""
    whole = bound_for(TABLE.grid(T), 1.0, variance, LATTICE)
    return whole.term(of, X0, DRAWS.normal("eps", X0), T - 1 - torch.arange(T))


@pytest.mark.parametrize("variance", ["small", "large", "learned_range"])
def test_the_mean_over_t_is_the_whole_bound(variance: str) -> None:
    """The factor T: a mean of one-term estimates is a sum of T terms, decoder's included, plus the prior's constant."""
    of, x0 = model(), X0[:1].expand(T, 3, 2)
    whole = bound_for(TABLE.grid(T), 1.0, variance, LATTICE)
    terms = whole.term(of, x0, DRAWS.normal("eps", x0), T - 1 - torch.arange(T))
    loss = VLB.of(setting(variance=variance), units="nats")(of, x0, DRAWS)
    assert float(loss.total.mean().detach()) == pytest.approx(
        float(whole.prior(x0)[0] + terms.sum().detach()), rel=1e-12
    )
    assert torch.allclose(loss.unweighted, terms, rtol=1e-12)
    assert torch.allclose(loss.parts["prior"], whole.prior(x0), rtol=1e-12)
    bits = VLB.of(setting(variance=variance, times=Every(0.5)))(of, x0, DRAWS)
    assert torch.allclose(bits.parts["vlb"], 0.5 * loss.parts["vlb"] / (D * math.log(2)), rtol=1e-12)
    assert torch.allclose(bits.parts["prior"], loss.parts["prior"] / (D * math.log(2)), rtol=1e-12)
    assert torch.equal(bits.unweighted, loss.unweighted)


def test_hybrid_is_l_simple_and_a_thousandth_of_t_times_the_term_in_bits_per_dim() -> None:
    of = model()
    network = of.network
    loss = Hybrid.of(setting(times=Every(2.0)))(of, X0, DRAWS)
    assert network.calls == 1, "one evaluation a loss"
    eps, level = DRAWS.normal("eps", X0), TABLE.at(loss.times)
    error = ((of(level.perturb(X0, eps), level).value - eps) ** 2).mean((1, 2))
    bits = every_term(of) / (D * math.log(2))
    assert torch.allclose(loss.total, 2 * (error + 0.001 * T * bits), rtol=1e-12)
    assert torch.allclose(loss.parts["matching"], 2 * error, rtol=1e-12)
    assert torch.allclose(loss.parts["vlb"], 2 * T * bits, rtol=1e-12)
    assert torch.allclose(loss.unweighted, every_term(of), rtol=1e-12)


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_the_bound_s_part_of_the_hybrid_teaches_the_spread_alone(target: str) -> None:
    of = model(target=target)
    network = of.network
    loss = Hybrid.of(setting())(of, X0, DRAWS)
    loss.parts["vlb"].mean().backward()
    assert network.mean.grad is None or float(network.mean.grad) == 0
    whole = model(target=target)
    VLB.of(setting())(whole, X0, DRAWS).total.mean().backward()
    assert float(network.spread.grad) == pytest.approx(float(whole.network.spread.grad), rel=1e-12)
    assert abs(float(whole.network.mean.grad)) > 0.1, "L_vlb itself teaches both"
    ends = []
    for step in (1e-6, -1e-6):
        moved = model(target=target)
        with torch.no_grad():
            moved.network.spread += step
            ends.append(float(Hybrid.of(setting())(moved, X0, DRAWS).parts["vlb"].mean()))
    assert float(network.spread.grad) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


def test_the_bound_is_least_at_the_variance_of_the_true_reverse_kernel(scale: Scale) -> None:
    """Gaussian data: Var(x_s|x_t) = β̃ + c² Var(x0|x_t); at the u that says so the spread's expected gradient is 0."""
    path, v = Path(Linear(-6, 6), scale), 0.3
    grid = path.grid(9)
    t, s = grid[4], grid[5]
    remaining = v * t.sigma**2 / (t.alpha**2 * v + t.sigma**2)
    lower, upper = posterior_log_var(t, s), transition_log_var(t, s)
    wanted = torch.log(lower.exp() + posterior_coefficients(t, s)[1] ** 2 * remaining)
    u = (wanted - lower) / (upper - lower)
    assert scale.name != "vp" or 0 < float(u) < 1
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    z, w = torch.tensor(nodes), torch.tensor(weights / weights.sum())
    x0, eps = math.sqrt(v) * z.repeat_interleave(3).unsqueeze(1), z.repeat(3).unsqueeze(1)
    spread = (2 * u - 1).requires_grad_()

    def model(x: Tensor, level: Level) -> Prediction:
        return replace(Oracle(gaussian(torch.zeros(1), v))(x, level), spread=spread.expand_as(x))

    term = bound_for(grid, path.prior_std, "learned_range", None).term(model, x0, eps, torch.full((9,), 4))
    (gradient,) = torch.autograd.grad((torch.outer(w, w).flatten() * term).sum(), spread)
    assert abs(float(gradient)) < 1e-12 * float(upper - lower)


@pytest.mark.parametrize("u", [-0.5, 0.0, 0.4, 1.0, 1.7])
def test_a_learned_range_lies_between_the_two_fixed_logs(scale: Scale, u: float) -> None:
    """Any pair of levels, any units; u is not clamped."""
    path = Path(Linear(-9, 9), scale)
    x = torch.ones(2, 3, dtype=torch.float64)
    for t, s in [(path.at(0.9), path.at(0.1)), (path.at(0.5), path.at(0.4999))]:
        beta, tilde = transition_log_var(t, s), posterior_log_var(t, s)
        found = learned_range(Prediction(x, t, TARGETS["eps"](t), x, spread=(2 * u - 1) * x), t, s)
        assert torch.allclose(found, u * beta + (1 - u) * tilde, rtol=1e-12)
        assert float(found[0, 0].exp()) == pytest.approx(float(beta.exp() ** u * tilde.exp() ** (1 - u)), rel=1e-10)


def test_into_the_clean_level_the_range_is_from_the_floor_to_beta() -> None:
    grid, x = TABLE.grid(T), torch.zeros(2, 3, dtype=torch.float64)
    t, s = grid[torch.tensor([T - 1, 0])], grid[torch.tensor([T, 1])]
    beta, bar = linear(T, 1e-2, 0.4), (1 - linear(T, 1e-2, 0.4)).cumprod(0)
    floor = beta[1] * (1 - bar[0]) / (1 - bar[1])
    for u, first in ((0.0, floor), (1.0, beta[0]), (0.5, (floor * beta[0]).sqrt())):
        prediction = Prediction(x, t, TARGETS["eps"](t), x, spread=torch.full_like(x, 2 * u - 1))
        log_var = floored("learned_range", grid)(prediction, t, s)
        assert log_var[0].exp().tolist() == pytest.approx([float(first)] * 3, rel=1e-10)
        assert torch.equal(log_var[1], learned_range(prediction, t, s)[1])


def test_what_cannot_be_learned_is_refused() -> None:
    x, t = torch.zeros(1, 2), TABLE.at(0.5)
    with pytest.raises(ValueError, match=r"spread channel.*allowed for this one: small, large"):
        learned_range(Prediction(x, t, TARGETS["eps"](t), x), t, TABLE.at(0.25))
    with pytest.raises(ValueError, match="loss 'hybrid' with variance 'large'.*allowed: variance learned_range"):
        Hybrid.of(setting(variance="large"))
    with pytest.raises(ValueError, match="vlb_weight = 0.*allowed: above 0"):
        Hybrid.of(setting(), vlb_weight=0.0)
    with pytest.raises(ValueError, match="allowed: bits_per_dim, nats"):
        VLB.of(setting(), units="bits")
    with pytest.raises(ValueError, match="num_steps = 5 on a table of 12 levels"):
        VLB.of(setting(), num_steps=5)


def test_a_continuous_schedule_is_cut_into_steps_of_equal_chance() -> None:
    path = Path(Linear(-6, 6), SCALES["vp"])
    of = chain(path, "small", LATTICE, 7)
    t = (torch.arange(700, dtype=torch.float64) + 0.5) / 700
    level, s = of.at(t)
    assert torch.bincount((level.t * 6).round().long()).tolist() == [100] * 7
    assert torch.equal(s.t[level.t > 0.99].unique(), of.grid.t[1:2])
    assert s[:100].is_clean
    loss = VLB.of(setting(path, times=Uniform(path.schedule)), num_steps=7)(model(path), X0, DRAWS)
    assert loss.total.isfinite().all()


def taught(steps: int = 4, keep: int = 3) -> LossSecondMoment:
    return LossSecondMoment(Table(torch.arange(steps).double()), history_per_term=keep, uniform_prob=0.1)


def test_times_are_uniform_until_every_history_is_full() -> None:
    law = taught()
    knots = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    law.observe(knots.repeat(3)[:-1], torch.full((11,), 5.0))
    assert not law.full
    assert law.chances().tolist() == [0.25] * 4
    law.observe(knots[-1:], torch.tensor([1.0]))
    # √E[L²] = 5, 5, 5 and √(51/3)
    root = torch.tensor([5.0, 5.0, 5.0, math.sqrt(51 / 3)], dtype=torch.float64)
    assert law.full
    assert torch.allclose(law.chances(), 0.9 * root / root.sum() + 0.1 / 4, rtol=1e-14)


def test_the_oldest_loss_is_forgotten_first_even_within_a_batch() -> None:
    law, one_by_one = taught(), taught()
    rng = torch.Generator().manual_seed(2)
    for _ in range(7):
        knots = torch.randint(1, 5, (9,), generator=rng).double() / 4
        losses = torch.rand(9, generator=rng)
        law.observe(knots, losses)
        for knot, loss in zip(knots, losses, strict=True):
            one_by_one.observe(knot.reshape(1), loss.reshape(1))
    assert law.full
    assert torch.equal(law.history, one_by_one.history)
    assert torch.equal(law.seen, one_by_one.seen)
    law.observe(torch.full((5,), 0.5, dtype=torch.float64), torch.tensor([9.0, 9.0, 1.0, 2.0, 3.0]))
    assert law.history[1].sort().values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("steps", [4, None])
def test_importance_weights_keep_the_mean_and_calm_it(steps: int | None, stratified: bool) -> None:
    schedule = Table(torch.arange(4).double()) if steps else Linear(-6, 6)
    law = LossSecondMoment(schedule, stratified=stratified)
    count = 40_000
    draws = Draws(0, 0, torch.arange(count), count)

    def term(t: Tensor) -> Tensor:
        return torch.exp(6 * t)

    bins = len(law.history)
    place = (torch.arange(bins).double() + (1 if steps else 0.5)) / bins
    law.observe(place.repeat(10), term(place).repeat(10))
    t, weight = law.draw(draws)
    exact = float(term(place).mean()) if steps else (math.exp(6) - 1) / 6
    # the weighted terms all but agree: their variance is what importance sampling takes away
    values = weight * term(t)
    assert float(values.mean()) == pytest.approx(exact, rel=2e-3)
    assert float(values.std()) < 0.05 * exact
    assert float(term(Uniform(schedule).draw(draws).t).std()) > 1.2 * exact
    assert float(weight.mean()) == pytest.approx(1, abs=0.05)


def test_the_history_is_part_of_the_task_s_state() -> None:
    law = LossSecondMoment(TABLE.schedule, history_per_term=2)
    task = Task(model(), VLB.of(setting(times=law)))
    assert {name.rpartition(".")[2] for name in task.state_dict() if "times" in name} == {"history", "seen"}
    for _ in range(2):
        loss = task(X0, DRAWS)
        task.observe(torch.arange(1, T + 1).double() / T, loss.unweighted)
    other = Task(model(), VLB.of(setting(times=LossSecondMoment(TABLE.schedule, history_per_term=2))))
    other.load_state_dict(task.state_dict())
    assert law.full
    assert torch.equal(other.objective.times.chances(), law.chances())
    assert law.chances().max() > 2 / T


@pytest.mark.parametrize("options", [{"history_per_term": 0}, {"uniform_prob": 1.5}])
def test_impossible_laws_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed: at least 1, 0 to 1"):
        LossSecondMoment(TABLE.schedule, **options)
