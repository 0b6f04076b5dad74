"""Every estimator against its closed form: Gaussian and mixture data, exact denoisers, four scales, three shapes.

With an exact denoiser a bound in continuous time loses nothing on the way down: the law of its trajectories is that of
the noised data but for the prior. So for every example

    vlb(inf) = E log q(z_0|x)/p_0(z_0) + E log p_1(z_1)/N(z_1) − E log p(x|z_0),

p_0 and p_1 the marginals of the data, which of a mixture are closed forms.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logsnr import BetaLinear, Linear, Path, straight, sub_vp, ve, vp
from logsnr.data.toys import Mixture, gaussian, mixture
from logsnr.data.transform import Lattice
from logsnr.draws import Draws
from logsnr.kernels import Normal, posterior_coefficients, posterior_log_var, prior_kl, transition_log_var
from logsnr.level import Level, over
from logsnr.likelihood import ESTIMATORS, Estimate, Estimator, fitted_schedule, ode, vlb_inf
from logsnr.likelihood.continuous import ends
from logsnr.oracles import Oracle
from logsnr.schedules import SCHEDULES

from .levels import Levels

PATHS = {
    "vp": Path(BetaLinear(), vp),
    "ve": Path(Linear(-10, 9), ve),
    "sub_vp": Path(BetaLinear(scale=sub_vp), sub_vp),
    "straight": Path(SCHEDULES["straight"](), straight),
}
# the same scales on a range of γ over which a draw of the bound is not many times what it estimates, and whose prior is
# wrong by more than the noise of the test
SHORT = {name: Path(Linear(-6, 2), path.scale) for name, path in PATHS.items()}
SHAPES = [(2,), (1, 8, 8), pytest.param((3, 8, 8), marks=pytest.mark.slow)]
COUNTS = {2: 1_000_000, 64: 60_000, 192: 48_000}
LAWS = ["gaussian", "mixture"]


def law(name: str, shape: tuple[int, ...]) -> Mixture:
    random = torch.Generator().manual_seed(1)
    means = 0.6 * torch.randn(3, *shape, generator=random)
    variances = 0.05 + 0.3 * torch.rand(3, *shape, generator=random)
    return gaussian(means[0], variances[0]) if name == "gaussian" else mixture(torch.ones(3) / 3, means, variances)


def bits(nats: Tensor, dims: int) -> Tensor:
    return nats / (dims * math.log(2))


def agree(found: Tensor, expected: Tensor, dims: int, value: float) -> None:
    """Means within 3 standard errors of each other, and these at most 0.5 % of the value or 0.002 bits/dim."""
    difference = bits(found - expected, dims)
    error = float(difference.std()) / math.sqrt(len(difference))
    assert error <= max(0.002, 0.005 * abs(value)), error
    assert abs(float(difference.mean())) < 3 * error, (float(difference.mean()), error)


def fitted(of: Mixture, path: Path, dims: int) -> Estimator:
    """vlb(inf) at the times that make it calm, from a pilot of its own."""
    count = 20_000 if dims == 2 else 2000
    x0 = of.sample(count, 77)
    pilot = vlb_inf(path, "small", None).estimate(Oracle(of), x0, Draws(77, 0, torch.arange(count), count))
    schedule = fitted_schedule(pilot.gamma[:, 0], pilot.nats[:, 0], *ends(path))
    return vlb_inf(path, "small", None, times="fitted", knots=list(zip(schedule.times, schedule.gammas, strict=True)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", LAWS)
def test_continuous_time(kind: str, name: str, shape: tuple[int, ...]) -> None:
    of, path, dims = law(kind, shape), SHORT[name], math.prod(shape)
    count = COUNTS[dims]
    x0, draws = of.sample(count, 2), Draws(0, 0, torch.arange(count), count)
    found = fitted(of, path, dims).estimate(Oracle(of), x0, draws)
    low, high = (path.at_gamma(torch.tensor(gamma, dtype=torch.float64)) for gamma in ends(path))
    expected = closed(of, low, high, path.prior_std, x0)
    agree(found.total, expected, dims, float(bits(expected, dims).mean()))


def closed(of: Mixture, low: Level, high: Level, prior_std: float, x0: Tensor) -> Tensor:
    """The module's formula at one draw of (z_0, z_1) an example, with the decoder N(x; z_0/α_0, e^γ_0), nats (B,)."""
    draws = Draws(9, 0, torch.arange(len(x0)), len(x0))
    z0, z1 = (level.perturb(x0, draws.normal(name, x0)) for name, level in (("0", low), ("1", high)))
    q = Normal(over(low.alpha, x0) * x0, over(2 * low.log_sigma, x0)).log_prob(z0)
    decoder = Normal(z0 / over(low.alpha, x0), over(low.gamma, x0)).log_prob(x0)
    prior = torch.distributions.Normal(0, prior_std).log_prob(z1).flatten(1).sum(1)
    to_data = q - of.log_prob(z0, low.alpha, low.sigma)
    return to_data + of.log_prob(z1, high.alpha, high.sigma) - prior - decoder


def chain_bound(of: Mixture, grid: Level, prior_std: float) -> float:
    """Mean of the discrete bound over Gaussian data, nats: every term is a closed form of posterior variances of x0."""
    v, mean = of.variances[0], of.means[0]
    top, last = grid[0], grid[len(grid) - 2]
    total = float(prior_kl(mean.unsqueeze(0), top, prior_std)) + float(0.5 * (top.alpha**2 * v / prior_std**2).sum())

    def error(level: Level) -> Tensor:
        """Var[x0 | x_t] of each dimension: the squared error of the exact denoiser."""
        return v * level.sigma**2 / (level.alpha**2 * v + level.sigma**2)

    for i in range(len(grid) - 2):
        t, s = grid[i], grid[i + 1]
        _, of_x0 = posterior_coefficients(t, s)
        total += float(0.5 * (of_x0**2 * torch.exp(-posterior_log_var(t, s)) * error(t)).sum())
    return total + float(0.5 * (math.log(2 * math.pi) + last.gamma + error(last) * torch.exp(-last.gamma)).sum())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PATHS)
def test_a_chain_and_its_trajectories(name: str, shape: tuple[int, ...]) -> None:
    """vlb(T) and iwae(1) estimate one closed form, iwae(4) lies between it and −log p of the data's law."""
    of, path, dims, steps = law("gaussian", shape), SHORT[name], math.prod(shape), 8
    expected = chain_bound(of, path.grid(steps), path.prior_std)
    value = expected / (dims * math.log(2))
    make, count = ESTIMATORS["chain"], COUNTS[dims] // 8
    x0, draws = of.sample(count, 3), Draws(1, 0, torch.arange(count), count)
    for estimator in (
        make["vlb"](path, "small", None, steps=steps),
        make["iwae"](path, "small", None, draws=1, steps=steps),
    ):
        repeats = 8 if estimator.name == "vlb(8)" else 1
        found = torch.stack(
            [estimator.estimate(Oracle(of), x0, Draws(1, r, draws.index, count)).total for r in range(repeats)]
        )
        agree(found.mean(0), torch.full_like(found[0], expected), dims, value)


@pytest.mark.parametrize("name", PATHS)
def test_more_trajectories_tighten_towards_the_chain_s_own_density(name: str) -> None:
    """On Gaussian data a chain with the exact denoiser is itself Gaussian: −log p of the model, and iwae above it."""
    of, path, steps, count = law("gaussian", (2,)), SHORT[name], 12, 20_000
    x0 = of.sample(1, 4).expand(count, 2)
    grid = path.grid(steps)
    exact = -chain_density(of, grid, path.prior_std, x0[0])
    means, errors = [], []
    for draws in (1, 4, 32):
        estimator = ESTIMATORS["chain"]["iwae"](path, "small", None, draws=draws, steps=steps)
        found = estimator.estimate(Oracle(of), x0, Draws(2, 0, torch.arange(count), count)).total
        means.append(float(found.mean()))
        errors.append(float(found.std()) / math.sqrt(count))
    assert means[0] > means[1] > means[2] > exact - 3 * errors[2]
    assert means[2] - exact < 0.5 * (means[0] - exact)
    # the weights themselves have the mean p(x0)
    weights = ESTIMATORS["chain"]["iwae"](path, "small", None, draws=1, steps=steps)
    found = torch.exp(exact - weights.estimate(Oracle(of), x0, Draws(5, 0, torch.arange(count), count)).total)
    assert abs(float(found.mean()) - 1) < 4 * float(found.std()) / math.sqrt(count)


def chain_density(of: Mixture, grid: Level, prior_std: float, x0: Tensor) -> float:
    """log p_θ(x0) of the chain: mean and variance of each dimension pushed through its affine steps."""
    v, data = of.variances[0], of.means[0]
    mean, variance = torch.zeros_like(v), torch.full_like(v, prior_std**2)
    for i in range(len(grid) - 1):
        t, s = grid[i], grid[i + 1]
        gain = t.alpha * v / (t.alpha**2 * v + t.sigma**2)  # x̂0 = data + gain (x − α data)
        if s.is_clean:
            mean, variance = data + gain * (mean - t.alpha * data), gain**2 * variance + torch.exp(t.gamma)
            break
        of_x, of_x0 = posterior_coefficients(t, s)
        slope = of_x + of_x0 * gain
        mean = slope * mean + of_x0 * (1 - gain * t.alpha) * data
        variance = slope**2 * variance + torch.exp(posterior_log_var(t, s))
    return float(torch.distributions.Normal(mean, variance.sqrt()).log_prob(x0).sum())


def test_averaging_likelihoods_at_sampled_times_is_no_bound_and_whole_trajectories_are() -> None:
    of, path, count = law("gaussian", (2,)), PATHS["vp"], 4000
    x0 = of.sample(1, 4).expand(count, 2)
    exact = -chain_density(of, path.grid(50), 1.0, x0[0])
    single = ESTIMATORS["chain"]["vlb"](path, "small", None, steps=50)
    one = torch.stack(
        [single.estimate(Oracle(of), x0, Draws(3, r, torch.arange(count), count)).total for r in range(64)]
    )
    wrong = float((math.log(64) - torch.logsumexp(-one, 0)).mean())
    assert wrong < exact - 0.5, "so an estimate at sampled t must never be averaged in the likelihood"
    for draws in (1, 2, 8, 64):
        right = ESTIMATORS["chain"]["iwae"](path, "small", None, draws=draws, steps=50)
        found = right.estimate(Oracle(of), x0[:400], Draws(4, 0, torch.arange(400), 400)).total
        assert float(found.mean()) > exact - 3 * float(found.std()) / 20


def test_the_bound_is_of_the_mean_over_paths_and_not_of_a_path() -> None:
    """D3 has its E_q: single paths fall on both sides of −log p, their mean lies above."""
    of, path, count = law("gaussian", (2,)), SHORT["vp"], 4000
    x0 = of.sample(1, 4).expand(count, 2)
    exact = -chain_density(of, path.grid(12), path.prior_std, x0[0])
    paths = ESTIMATORS["chain"]["iwae"](path, "small", None, draws=1, steps=12)
    found = paths.estimate(Oracle(of), x0, Draws(6, 0, torch.arange(count), count)).total
    assert float((found < exact).double().mean()) > 0.1
    assert float(found.mean()) > exact + 3 * float(found.std()) / math.sqrt(count)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", LAWS)
def test_the_flow_with_a_probe(kind: str, name: str, shape: tuple[int, ...]) -> None:
    """−log p_low(α x0) − D log α of the data's law, up to the prior of the path, known from the bound's own KL."""
    of, path, dims = law(kind, shape), PATHS[name], math.prod(shape)
    count = {2: 40_000, 64: 1024, 192: 512}[dims]
    x0, low = of.sample(count, 6), path.lowest
    found = flow_estimate(of, path, x0)
    expected = -of.log_prob(over(low.alpha, x0) * x0, low.alpha, low.sigma) - dims * low.log_alpha
    slack = prior_kl(x0, path.highest, path.prior_std).mean() if path.highest.alpha > 0 else 0.0
    assert bits(torch.as_tensor(slack), dims) < 0.002
    difference = bits(found.total - expected, dims)
    error = float(difference.std()) / math.sqrt(count)
    assert error <= max(0.002, 0.005 * abs(float(bits(expected, dims).mean())))
    assert abs(float(difference.mean())) < 3 * error + 0.002


def flow_estimate(of: Mixture, path: Path, x0: Tensor) -> Estimate:
    draws = Draws(7, 0, torch.arange(len(x0)), len(x0))
    return ode(path, "small", None, probes=4 if x0[0].numel() == 2 else 1).estimate(Oracle(of), x0, draws)


def test_the_variance_of_the_transition_is_a_looser_chain_and_still_its_own_closed_form() -> None:
    """The large variance on Gaussian data: KL of the variances beside that of the means."""
    of, path, steps, count = law("gaussian", (1, 8, 8)), PATHS["vp"], 30, 8192
    grid, x0 = path.grid(steps), of.sample(8192, 3)
    make = ESTIMATORS["chain"]["iwae"]
    found = make(path, "large", None, draws=1, steps=steps).estimate(
        Oracle(of), x0, Draws(1, 0, torch.arange(count), count)
    )
    expected, v = 0.0, of.variances[0]
    for i in range(steps - 1):
        t, s = grid[i], grid[i + 1]
        small, large = posterior_log_var(t, s), transition_log_var(t, s)
        _, of_x0 = posterior_coefficients(t, s)
        error = v * t.sigma**2 / (t.alpha**2 * v + t.sigma**2)
        difference = small - large
        expected += float((0.5 * (torch.expm1(difference) - difference + of_x0**2 * error * torch.exp(-large))).sum())
    wrong = found.parts["diffusion"] - expected
    assert abs(float(wrong.mean())) < 3 * float(wrong.std()) / math.sqrt(count)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_uniform_bytes_are_eight_bits_in_continuous_time() -> None:
    """The exact denoiser of independent uniform bytes, at fitted times."""
    lattice, path, count, dims = Lattice(-1.0, 2 / 255, 256), Path(Linear(-13.3, 6), vp), 16_384, 16
    level = torch.randint(0, 256, (count, dims), generator=torch.Generator().manual_seed(0))
    x0, model, draws = (
        lattice.low + lattice.width * level.double(),
        Levels(lattice),
        Draws(8, 0, torch.arange(count), count),
    )
    pilot = vlb_inf(path, "small", lattice).estimate(model, x0, Draws(77, 0, draws.index, count))
    schedule = fitted_schedule(pilot.gamma[:, 0], pilot.nats[:, 0], *ends(path))
    knots = list(zip(schedule.times.tolist(), schedule.gammas.tolist(), strict=True))
    estimator = vlb_inf(path, "small", lattice, times="fitted", knots=knots)
    found = torch.stack([estimator.estimate(model, x0, Draws(8, r, draws.index, count)).total for r in range(48)])
    passes = bits(found.mean(1), dims)
    error = float(passes.std()) / math.sqrt(len(passes))
    assert error < 0.005
    assert abs(float(passes.mean()) - 8) < 0.01
