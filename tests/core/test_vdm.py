"""VDM's bound as a loss: its terms, its two gradients, and what the theory says of them (V3–V10)."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from logsnr.data.toys import Mixture, gaussian, mixture
from logsnr.data.transform import Lattice
from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.kernels import Normal
from logsnr.loss import Loss
from logsnr.objectives import VDM, WEIGHTS, Setting, TimeLaw, Uniform
from logsnr.objectives.noise_laws import NOISE_LAWS
from logsnr.objectives.times import Times
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.scales import SCALES, vp
from logsnr.schedules import SCHEDULES, BetaLinear, Cosine, Linear

LATTICE = Lattice(-1.0, 0.125, 17)
BATCH = 6
DRAWS = Draws(7, 2, torch.arange(BATCH), BATCH)
X0 = LATTICE.values(torch.randint(17, (BATCH, 3, 2), generator=torch.Generator().manual_seed(0))).double()
TWO = mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), 0.04)
CLOVER = mixture(torch.full((4,), 0.25), torch.eye(4), torch.tensor([0.01, 0.04, 0.09, 0.25]).reshape(4, 1))


class Half(nn.Module):
    """A network that answers half of what it is shown and a little of its label, plus a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return 0.5 * x + 0.03 * label.reshape(-1, *(1,) * (x.ndim - 1)) + self.bias


def model(path: Path, target: str = "eps") -> Denoiser:
    return Denoiser(Half(), path, TARGETS[target], label=LABELS["gamma"])


def vdm(path: Path, times: TimeLaw | None = None, lattice: Lattice | None = None, **options: object) -> VDM:
    options = {"unit": "nats", **options}
    law = Uniform(path.schedule) if times is None else times
    return VDM(Setting(path, WEIGHTS["simple"], law, "small", lattice), **options)  # type: ignore[arg-type]


def learned(**options: object) -> Path:
    schedule = SCHEDULES["learned"](-8.0, 4.0, width=32, init="cosine", **options)  # type: ignore[arg-type]
    return Path(schedule.double(), vp)


class Given(TimeLaw):
    """These times."""

    def __init__(self, t: Tensor) -> None:
        super().__init__()
        self.t = t

    def draw(self, draws: Draws) -> Times:
        return Times(self.t, torch.ones_like(self.t))

    def observe(self, times: Tensor, losses: Tensor) -> None: ...


def rows(value: Tensor) -> Tensor:
    return value.reshape(-1, 1, 1)


@pytest.mark.parametrize("target", ["eps", "v", "x0"])
@pytest.mark.parametrize("steps", [None, 1, 7])
def test_the_terms_in_the_paper_s_symbols(steps: int | None, target: str) -> None:
    """V3 (prior and reconstruction), V4 and V6, for a network that is no good."""
    path = Path(Linear(-6, 4), vp)
    network = model(path, target)
    loss = vdm(path, lattice=LATTICE, steps=steps)(network, X0, DRAWS)
    eps, u = DRAWS.normal("eps", X0), DRAWS.stratified("t")
    t = u if steps is None else torch.ceil(u * steps) / steps
    gamma = -6 + 10 * t
    alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
    z = rows(alpha) * X0 + rows(sigma) * eps
    answer = 0.5 * z + 0.03 * rows(gamma) + 0.1
    found = {"eps": answer, "v": rows(alpha) * answer + rows(sigma) * z, "x0": (z - rows(alpha) * answer) / rows(sigma)}
    squared = ((eps - found[target]) ** 2).sum((1, 2))
    weight = 5.0 if steps is None else steps / 2 * math.expm1(10 / steps)
    assert torch.allclose(loss.parts["diffusion"], weight * squared, rtol=1e-10)
    assert torch.allclose(loss.unweighted, loss.parts["diffusion"], rtol=1e-14)
    top = 1 / (1 + math.exp(-4))  # σ² at t = 1
    prior = 0.5 * ((1 - top) * X0**2 + top - 1 - math.log(top)).sum((1, 2))
    assert torch.allclose(loss.parts["prior"], prior, rtol=1e-10)
    noisy = X0 + math.exp(-3) * DRAWS.normal("eps/last", X0)
    values = LATTICE.low + LATTICE.width * torch.arange(17).double()
    logits = -((noisy.unsqueeze(-1) - values) ** 2) / (2 * math.exp(-6))
    chosen = logits.log_softmax(-1).gather(-1, LATTICE.index(X0).unsqueeze(-1)).sum((1, 2, 3))
    assert torch.allclose(loss.parts["reconstruction"], -chosen, rtol=1e-10)
    assert torch.allclose(loss.total, sum(loss.parts.values()), rtol=1e-14)


def test_the_weight_of_a_step_is_expm1_and_not_exp_of_one_less() -> None:
    """V4 in ε is V4 in x0; copied as exp(γ_t − γ_s − 1) it is not, and its sum grows with T to no limit."""
    path, sums = Path(Linear(-6, 4), vp), []
    network = model(path)
    for steps in (10, 100, 1000):
        loss = vdm(path, lattice=LATTICE, steps=steps)(network, X0, DRAWS)
        place = torch.ceil(loss.times * steps)
        t, s = path.at(place / steps), path.at((place - 1) / steps)
        of_x0 = network(t.perturb(X0, DRAWS.normal("eps", X0)), t).x0
        in_x0 = steps / 2 * (s.log_snr.exp() - t.log_snr.exp()) * ((X0 - of_x0) ** 2).sum((1, 2))
        assert torch.allclose(loss.parts["diffusion"], in_x0, rtol=1e-9)
        step = 10 / steps  # γ_t − γ_s
        wrong = steps / 2 * math.exp(step - 1)
        assert abs(wrong / (steps / 2 * math.expm1(step)) - 1) > 0.4
        sums.append((steps / 2 * math.expm1(step), wrong))
    assert sums[2][0] == pytest.approx(5, rel=0.01), "½ γ′, the weight of continuous time"
    assert sums[2][1] > 9 * sums[1][1] > 9 * sums[0][1]


def test_the_unit_is_bits_per_dimension_unless_told_otherwise() -> None:
    path = Path(Linear(-6, 4), vp)
    setting = Setting(path, WEIGHTS["simple"], Uniform(path.schedule), "small", LATTICE)
    bits, nats = VDM(setting)(model(path), X0, DRAWS), VDM(setting, unit="nats")(model(path), X0, DRAWS)
    assert torch.allclose(bits.total * 6 * math.log(2), nats.total, rtol=1e-12)
    assert all(torch.allclose(bits.parts[k] * 6 * math.log(2), nats.parts[k], rtol=1e-12) for k in nats.parts)
    assert torch.allclose(bits.unweighted, nats.unweighted, rtol=1e-12)


def test_continuous_data_is_reconstructed_by_a_density() -> None:
    path = Path(Linear(-6, 4), vp)
    loss = vdm(path)(model(path), X0, DRAWS)
    noise = DRAWS.normal("eps/last", X0)
    assert torch.allclose(loss.parts["reconstruction"], (0.5 * (noise**2 - 6 + math.log(2 * math.pi))).sum((1, 2)))


@pytest.mark.parametrize("steps", [None, 10])
def test_time_below_a_schedule_s_lowest_is_not_counted(steps: int | None) -> None:
    """½∫γ′ over [t_min, 1]: a schedule with t_min = 0.2 gives what the one cut off there and stretched gives."""

    class Cut(Linear):
        t_min = 0.2

    cut, whole = Path(Cut(-6, 4), vp), Path(Linear(-4, 4), vp)
    for t in (0.0, 0.37, 0.93):
        t_cut, t_whole = (torch.full((BATCH,), x, dtype=torch.float64) for x in (0.2 + 0.8 * t, t))
        eps = DRAWS.normal("eps", X0)
        expected = vdm(whole, steps=steps).diffusion(model(whole), X0, t_whole, eps)
        assert torch.allclose(vdm(cut, steps=steps).diffusion(model(cut), X0, t_cut, eps), expected, rtol=1e-9)


def gradients(network: Denoiser, value: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, found, strict=True)}


def plain(path: Path, network: Denoiser, loss: Loss) -> Tensor:
    """The continuous diffusion term, (B,), from level and slope alone: no hook anywhere."""
    eps = DRAWS.normal("eps", X0)
    level = path.at(loss.times)
    prediction = network(level.perturb(X0, eps), level)
    return 0.5 * path.slope(loss.times).gamma * ((eps - prediction.eps) ** 2).sum((1, 2))


@pytest.mark.parametrize("ends", ["pinned", "learned"])
def test_one_backward_pass_has_the_gradient_of_the_variance_for_the_interior_and_of_the_bound_for_the_rest(
    ends: str,
) -> None:
    path = learned(ends=ends)
    network = model(path)
    loss = vdm(path, lattice=LATTICE)(network, X0, DRAWS)
    term = plain(path, network, loss)
    assert torch.allclose(loss.parts["diffusion"], term, rtol=1e-12)
    found = gradients(network, loss.total.mean())
    rest = loss.parts["prior"] + loss.parts["reconstruction"]
    of_bound = gradients(network, (term + rest).mean())
    of_square = gradients(network, (term**2).mean())
    interior = [name for name in found if ".interior." in name]
    assert len(interior) == 4
    for name in interior:
        scale = of_square[name].abs().max()
        assert scale > 0
        assert (found[name] - of_square[name]).abs().max() < 1e-9 * scale, name
    others = found.keys() - set(interior)
    assert ("path.schedule.shifts" in others) == (ends == "learned")
    for name in others:
        assert of_bound[name].abs().max() > 0
        assert torch.allclose(found[name], of_bound[name], rtol=1e-9), name


class Weighed(Uniform):
    """Uniform t with weights that have no mean of 1: what is multiplied is seen."""

    def draw(self, draws: Draws) -> Times:
        t = super().draw(draws).t
        return Times(t, 0.5 + t)


def test_the_variance_that_the_interior_minimises_is_that_of_the_weighed_estimate() -> None:
    """Var[w L], w = 1/density of t: the interior's gradient is that of E[(w L)²]."""
    path = learned()
    network = model(path)
    loss = vdm(path, times=Weighed(path.schedule))(network, X0, DRAWS)
    term = (0.5 + loss.times) * plain(path, network, loss)
    assert torch.allclose(loss.parts["diffusion"], term, rtol=1e-12)
    found, of_square = gradients(network, loss.total.mean()), gradients(network, (term**2).mean())
    for name in (name for name in found if ".interior." in name):
        assert torch.allclose(found[name], of_square[name], rtol=1e-9), name


@pytest.mark.parametrize("target", ["x0", "v", "velocity"])
def test_the_loss_at_pure_noise_is_its_limit(target: str) -> None:
    """With T steps the topmost level is drawn: (SNR_s − SNR_t)|x0 − x̂0|² is finite where SNR_t = 0."""
    path = Path(SCHEDULES["straight"](), SCALES["straight"])
    t, steps = torch.full((BATCH,), 1.0, dtype=torch.float64), 7
    eps = DRAWS.normal("eps", X0)
    network = Denoiser(Half(), path, TARGETS[target], label=LABELS["time"])
    found = vdm(path, steps=steps).diffusion(network, X0, t, eps)
    level = path.at(t)
    s = path.at(path.schedule.t_min + (1 - path.schedule.t_min) * (1 - 1 / steps))
    x0 = network(level.perturb(X0, eps), level).x0
    assert torch.allclose(found, 0.5 * steps * torch.exp(s.log_snr) * ((X0 - x0) ** 2).sum((1, 2)), rtol=1e-9)


def test_micro_batches_add_up_to_the_same_gradient() -> None:
    path = learned()
    network = model(path)
    whole = gradients(network, vdm(path)(network, X0, DRAWS).total.mean())
    parts = [slice(0, 2), slice(2, 6)]
    split = [gradients(network, vdm(path)(network, X0[r], DRAWS.rows(r)).total.sum() / BATCH) for r in parts]
    for name, expected in whole.items():
        assert torch.allclose(split[0][name] + split[1][name], expected, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("name", ["interior.weight3", "interior.bias2", "interior.weight1", "shifts"])
def test_with_finitely_many_steps_the_whole_schedule_gets_the_bound_s_gradient(name: str) -> None:
    """V9a, against finite differences."""
    path = learned()
    network = model(path)
    objective = vdm(path, lattice=LATTICE, steps=5)
    found = gradients(network, objective(network, X0, DRAWS).total.mean())[f"path.schedule.{name}"].flatten()
    parameter = dict(path.schedule.named_parameters())[name].data.flatten()
    for i in {0, len(parameter) // 2, len(parameter) - 1}:
        ends = []
        for step in (1e-5, -1e-5):
            parameter[i] += step
            ends.append(float(objective(network, X0, DRAWS).total.mean().detach()))
            parameter[i] -= step
        assert float(found[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=2e-5, abs=1e-8)


def test_the_loss_can_be_taken_in_inference_mode() -> None:
    path = learned()
    expected = vdm(path)(model(path), X0, DRAWS).total.detach()
    with torch.inference_mode():
        assert torch.equal(vdm(path)(model(path), X0, DRAWS).total, expected)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 49, 98, 103, 128, 253, 1000])
def test_low_discrepancy_times_fall_once_into_each_interval_of_any_batch(batch: int) -> None:
    """V10, on two ranks and in micro-batches alike; at 49, 98, 103 and 253 arange(0, 1, 1/B) is too long."""
    law = Uniform(Linear(-6, 4))
    draws = Draws(3, 5, torch.arange(batch), batch)
    t = law.draw(draws).t
    assert t.shape == (batch,)
    assert ((t >= 0) & (t < 1)).all()
    assert sorted(((t - t.min()) * batch).round().tolist()) == list(range(batch))
    assert ((t.sort().values - torch.arange(batch).double() / batch) < 1 / batch).all()
    ranks = [law.draw(draws.rows(slice(r, None, 2))).t for r in range(min(2, batch))]
    assert torch.equal(torch.cat(ranks).sort().values, t.sort().values)
    single = [float(law.draw(Draws(3, step, torch.zeros(1, dtype=torch.int64), 1)).t) for step in range(400)]
    assert abs(sum(single) / 400 - 0.5) < 4 / math.sqrt(12 * 400)


def two_points(law: Mixture) -> tuple[Tensor, Tensor]:
    """(x0, ε) = (μ ± std, ±1): exact for the expectation of a sum over dimensions of quadratics of a Gaussian."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 2)
    std = law.variances[0].sqrt()
    return law.means[0] + std * signs[:, :1], signs[:, 1:].expand(4, len(std))


def expected_diffusion(path: Path, law: Mixture, steps: int) -> float:
    x0, eps = two_points(law)
    t = (torch.arange(steps).double() + 0.5) / steps
    term = vdm(path, steps=steps).diffusion(
        Oracle(law), x0.repeat(steps, 1), t.repeat_interleave(4), eps.repeat(steps, 1)
    )
    return float(term.detach().mean())


@pytest.mark.parametrize("name", ["linear", "cosine", "learned"])
def test_more_steps_help_and_tend_to_the_information_between_the_ends(name: str) -> None:
    """V5 and V7: L_{2T} <= L_T, down to ½ Σ log (1 + v SNR_max)/(1 + v SNR_min), which knows the ends alone."""
    law = gaussian(torch.tensor([0.5, -0.3]), torch.tensor([0.25, 0.04]))
    options = {"linear": {}, "cosine": {"max_log_snr": 7}, "learned": {"init": "cosine", "width": 64}}[name]
    path = Path(SCHEDULES[name](**options), vp)
    losses = [expected_diffusion(path, law, 2**k) for k in range(12)]
    assert all(a > b for a, b in pairwise(losses))
    ends = [float(level.log_snr.detach().exp()) for level in (path.lowest, path.highest)]
    limit = 0.5 * sum(math.log((1 + v * ends[0]) / (1 + v * ends[1])) for v in (0.25, 0.04))
    assert losses[-1] > limit
    assert losses[-1] - limit < 0.55 * (losses[-2] - limit)


def estimate(path: Path, law: Mixture, batches: int = 30, size: int = 10_000) -> tuple[float, float]:
    """Mean of the continuous diffusion term over batches of stratified times, and its standard error."""
    means = []
    with torch.no_grad():
        for step in range(batches):
            draws = Draws(11, step, torch.arange(size), size)
            x0 = law.sample(size, seed=step)
            means.append(vdm(path)(Oracle(law), x0, draws).parts["diffusion"].mean())
    found = torch.stack(means)
    return float(found.mean()), float(found.std() / batches**0.5)


def test_the_continuous_bound_knows_the_ends_of_the_schedule_alone() -> None:
    """V7 on a mixture: a line, a cosine and a learned curve between γ = −9 and 9 have one bound."""
    schedules = {
        "linear": Linear(-9, 9),
        "cosine": Cosine(max_log_snr=9),
        "learned": SCHEDULES["learned"](-9.0, 9.0, width=64),
    }
    with torch.no_grad():
        schedules["learned"].interior.weight3 += torch.linspace(2, -2, 64)
    assert float(schedules["learned"].shape(torch.tensor(0.5).double()).detach()) > 0.7, "a curve, not the line"
    found = {name: estimate(Path(schedule, vp), CLOVER) for name, schedule in schedules.items()}
    for name, (mean, error) in found.items():
        assert error < 0.005 * mean, (name, found)
        for other, other_error in found.values():
            assert abs(mean - other) < 3 * math.hypot(error, other_error), found


@pytest.mark.parametrize("scale", SCALES)
def test_two_schedules_with_the_same_ends_are_one_model(scale: str) -> None:
    """V8: read at t̃ = SNR⁻¹(SNR(t)) with z̃ = (α̃/α) z, a model of one path is a model of the other."""
    first, second = Path(Cosine(max_log_snr=8), vp), Path(BetaLinear(3.0, 9.0, scale="vp"), SCALES[scale])
    gamma = torch.tensor([-4.0, -1.0, 2.0], dtype=torch.float64)
    one, other = first.at_gamma(gamma), second.at_gamma(gamma)
    assert not torch.allclose(one.t, other.t, atol=0.02)
    x0, eps = TWO.sample(3), torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = one.perturb(x0, eps)
    rescaled = z * (other.alpha / one.alpha).unsqueeze(1)
    assert torch.allclose(rescaled, other.perturb(x0, eps), rtol=1e-9)
    network = Denoiser(Half(), first, TARGETS["eps"], label=LABELS["gamma"])
    a, b = network(z, one), network(rescaled, other)
    assert torch.allclose(a.x0, b.x0, rtol=1e-9)
    assert torch.allclose(a.eps, b.eps, rtol=1e-9, atol=1e-9)


def test_a_run_s_bound_is_its_own_loss_in_nats() -> None:
    from logsnr.likelihood import BOUNDS

    path = Path(Linear(-6, 4), vp)
    found = BOUNDS["vdm"](path, "small", LATTICE, steps=7).estimate(model(path), X0, DRAWS)
    expected = vdm(path, lattice=LATTICE, steps=7)(model(path), X0, DRAWS)
    assert torch.equal(found.total, expected.total)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="on a table of 1000 levels; allowed: continuous time"):
        vdm(Path(SCHEDULES["beta_table"](), vp))
    for options in ({"steps": 0}, {"unit": "bits"}):
        with pytest.raises(ValueError, match="allowed: 1 or more, bits_per_dim, nats"):
            vdm(Path(Linear(), vp), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="law of the noise .LogNormal. with loss 'vdm' would not be a bound"):
        vdm(Path(Linear(), vp), times=NOISE_LAWS["log_normal"](Linear()))
    with pytest.raises(ValueError, match="scale 've': its prior moves with γ.1.; allowed: scale vp"):
        vdm(Path(SCHEDULES["learned_linear"](), SCALES["ve"]))


def train(path: Path, law: Mixture, *, steps: int | None, updates: int, lr: float) -> None:
    """Adam with a short memory, its rate falling to zero; gradients clipped, as the trainer does."""
    objective, size = vdm(path, steps=steps, unit="bits_per_dim"), 256
    parameters = list(path.schedule.parameters())
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99))
    for step in range(updates):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / updates))
        loss = objective(Oracle(law), law.sample(size, seed=step), Draws(0, step, torch.arange(size), size))
        optimizer.zero_grad()
        loss.total.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()


def test_with_ten_steps_the_bound_trains_the_interior_and_falls() -> None:
    """V9a: a mixture, γ from −10 to 8, at least a fifth below the line that it starts from."""
    path = Path(SCHEDULES["learned"](-10.0, 8.0, ends="pinned", width=256), vp)
    x0, size = TWO.sample(20_000, seed=999), 20_000

    def bound() -> float:
        with torch.no_grad():
            loss = vdm(path, steps=10)(Oracle(TWO), x0, Draws(5, 0, torch.arange(size), size))
        return float(loss.parts["diffusion"].mean())

    before = bound()
    train(path, TWO, steps=10, updates=120, lr=0.05)
    assert bound() < 0.8 * before
    assert path.at(torch.tensor([0.0, 1.0])).gamma.tolist() == pytest.approx([-10, 8], abs=1e-9)


def exact(path: Path, dims: int, variance: float) -> tuple[float, float]:
    """Mean and variance of the continuous estimate on N(0, v I): ½γ′ sigmoid(log v − γ) χ²_D at a uniform t."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    with torch.no_grad():
        level, slope = path.moving(t, lambda value: value)
    rate = 0.5 * slope * torch.sigmoid(math.log(variance) - level.gamma)
    mean = dims * float(rate.mean())
    return mean, (dims**2 + 2 * dims) * float((rate**2).mean()) - mean**2


@pytest.mark.parametrize("init", ["linear", "beta_linear"])
def test_the_closed_form_of_the_estimate_s_variance(init: str) -> None:
    law, path = gaussian(torch.zeros(8), 0.25), Path(SCHEDULES["learned"](-8.0, 5.0, init=init, width=64), vp)
    size = 40_000
    draws = Draws(2, 0, torch.arange(size), size)
    with torch.no_grad():
        found = vdm(path, Uniform(path.schedule, stratified=False))(Oracle(law), law.sample(size), draws)
    mean, variance = exact(path, 8, 0.25)
    term = found.parts["diffusion"]
    assert float(term.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / size))
    assert float(term.var()) == pytest.approx(variance, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [8, 64])
@pytest.mark.parametrize("init", ["linear", "beta_linear"])
def test_at_infinity_the_interior_learns_the_least_variance(init: str, dims: int) -> None:
    """V9b: within 1.3 of 2L²/D, the variance of an estimate that costs the same at every t, and the mean stays."""
    variance = 0.25
    law = gaussian(torch.zeros(dims), variance)
    path = Path(SCHEDULES["learned"](-13.3, 5.0, ends="pinned", init=init), vp)
    limit = 0.5 * dims * math.log((1 + variance * math.exp(13.3)) / (1 + variance * math.exp(-5)))
    least = 2 * limit**2 / dims
    assert exact(path, dims, variance)[1] > 3 * least
    train(path, law, steps=None, updates=600, lr=0.02)
    mean, found = exact(path, dims, variance)
    assert mean == pytest.approx(limit, rel=1e-4)
    assert found < 1.3 * least
    sampled, error = estimate(path, law, batches=10, size=4000)
    assert abs(sampled - limit) < 3 * error


def test_normal_reads_the_law_of_z0_over_alpha0() -> None:
    """The decoder's Gaussian: q(z_0|x) in units of x is N(x, e^γ₀)."""
    path = Path(Linear(-6, 4), vp)
    level = path.lowest
    z = torch.tensor([[0.3]], dtype=torch.float64)
    of_z = Normal(level.alpha * 0.1 + 0 * z, (2 * level.log_sigma).expand(1, 1)).log_prob(level.alpha * z)
    of_x = Normal(0.1 + 0 * z, level.gamma.expand(1, 1)).log_prob(z)
    assert float(of_z - of_x) == pytest.approx(-float(level.log_alpha), rel=1e-9)
