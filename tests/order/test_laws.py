"""What samplers must return on data of a known law: moments, points, equalities between samplers and scales."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from logsnr.betas import linear
from logsnr.data.toys import Mixture, gaussian, mixture, point
from logsnr.kernels import reverse, small
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction
from logsnr.samplers import DDIM, Ancestral, Multistep, Sampler, prior, seeded, simulate
from logsnr.scales import SCALES
from logsnr.schedules import Linear, geometric, table_of_betas

from .instances import INSTANCES, Kind
from .response import Moments, flow, law_of_output, moments

torch.set_num_threads(1)

DDPM = Path(table_of_betas(linear(1000)), SCALES["vp"])
BAR = (1 - linear(1000)).cumprod(0)
TWO = mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), 0.09)
NOISE = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=INSTANCES)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = INSTANCES[request.param]
    return kind


def run(sampler: Sampler, model: Oracle, x: torch.Tensor, grid: Level, seed: int = 0) -> list[torch.Tensor]:
    """x̂0 along the way, and the end."""
    noise = seeded(seed, torch.arange(len(x)), x)
    steps = list(simulate(sampler, model, x, grid, noise=noise))
    return [*(step.prediction.x0 for step in steps), steps[-1].x]


def walk(sampler: Sampler, model: Oracle, x: torch.Tensor, grid: Level) -> list[torch.Tensor]:
    """x after each step."""
    return [step.x for step in simulate(sampler, model, x, grid, noise=seeded(0, torch.arange(len(x)), x))]


def extrapolated(sampler: Sampler, law: Mixture, path: Path, start: Moments) -> Moments:
    """Moments of the output at 50 steps, less the first-order error where a change of units is only first order."""
    if sampler.scale_free:
        return law_of_output(sampler, law, path.grid(50), start)
    coarse, fine = (law_of_output(sampler, law, path.grid(steps), start) for steps in (50, 100))
    return Moments(2 * fine.mean - coarse.mean, 2 * fine.std - coarse.std)


def test_the_same_levels_in_other_units_are_the_same_samples(kind: Kind) -> None:
    if not kind.declared.scale_free:
        pytest.skip("declares that its trajectory depends on the units")
    paths = {name: Path(Linear(-8, 8), scale) for name, scale in SCALES.items()}
    grids = {name: path.grid(15) for name, path in paths.items()}
    runs = {
        name: run(kind.on(paths[name]), Oracle(TWO), NOISE / grids["vp"][0].alpha * grid[0].alpha, grid)
        for name, grid in grids.items()
    }
    for name in SCALES:
        for found, expected in zip(runs[name], runs["vp"], strict=True):
            assert torch.allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(), (2,), (3, 8, 8)])
@pytest.mark.parametrize("scale", SCALES)
def test_gaussian_data_of_any_shape_has_its_mean_and_variance(kind: Kind, scale: str, shape: tuple[int, ...]) -> None:
    if not kind.affine:
        pytest.skip("its noise is measured by drawing it, in test_score_sde")
    generator = torch.Generator().manual_seed(1)
    law = gaussian(
        torch.randn(shape, dtype=torch.float64, generator=generator),
        0.2 + torch.rand(shape, dtype=torch.float64, generator=generator),
    )
    path = Path(Linear(-8, 8), SCALES[scale])
    start = Moments(torch.zeros(shape, dtype=torch.float64), torch.full(shape, path.prior_std, dtype=torch.float64))
    if kind.declared.scale_free or shape == (2,):  # a law does not depend on the shape
        found = extrapolated(kind.on(path), law, path, start)
        std = law.variances[0].sqrt()
        assert ((found.mean - law.means[0]) / std).abs().max() < 0.1
        assert (found.std / std - 1).abs().max() < 0.15
    x = prior(path, seeded(0, torch.arange(3), torch.zeros(3, *shape)))
    x = run(kind.on(path), Oracle(law), x, path.grid(4))[-1]
    assert x.shape == (3, *shape)
    assert x.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", SCALES)
def test_one_point_is_returned_exactly(kind: Kind, scale: str, dtype: torch.dtype) -> None:
    x0 = torch.tensor([0.25, -1.0, 0.8])
    path = Path(Linear(-10, 8), SCALES[scale])
    for steps in (1, 2, 9):
        x = prior(path, seeded(3, torch.arange(4), torch.zeros(4, 3, dtype=dtype)))
        states = [x, *walk(kind.on(path), Oracle(point(x0)), x, path.grid(steps))]
        end, size = states[-1], float(states[-2].abs().max())
        assert end.dtype == dtype
        # too few steps in time, or in other units the large variance, throw the last noisy state far off: it has fewer
        # digits to return than one of the size of data
        bound = 1e-6 if kind.declared.scale_free else 1e-6 * max(10.0, size)
        assert (end - x0).abs().max() < bound


def test_an_example_does_not_know_its_neighbours(kind: Kind) -> None:
    path = Path(Linear(-8, 8), SCALES["vp"])

    def samples(index: list[int]) -> torch.Tensor:
        noise = seeded(5, torch.tensor(index), torch.zeros(len(index), 2, dtype=torch.float64))
        *_, end = simulate(kind.on(path), Oracle(TWO), prior(path, noise), path.grid(12), noise=noise)
        return end.x

    whole = samples([0, 1, 2, 3, 4, 5])
    assert torch.allclose(samples([4, 1]), whole[[4, 1]], rtol=0, atol=1e-12)
    assert torch.allclose(samples([3]), whole[[3]], rtol=0, atol=1e-12)


def test_seeds_matter_to_stochastic_samplers_only(kind: Kind) -> None:
    grid = DDPM.grid(10)
    first, second = (run(kind.on(DDPM), Oracle(TWO), NOISE, grid, seed)[-1] for seed in (1, 2))
    assert torch.equal(first, second) != kind.declared.stochastic


def test_the_loop_ends_clean_without_looking_there(kind: Kind) -> None:
    seen: list[bool] = []
    oracle = Oracle(TWO)

    def model(x: torch.Tensor, level: Level) -> Prediction:
        seen.append(bool(level.gamma.isfinite().all()))
        return oracle(x, level)

    grid = DDPM.grid(7)
    steps = list(simulate(kind.on(DDPM), model, NOISE, grid, noise=seeded(0, torch.arange(5), NOISE)))
    assert [float(step.level.t) for step in steps] == grid.t[1:].tolist()
    assert all(seen)
    # the slowest example of each step is counted at every call; the others at most as often
    assert int(torch.stack([step.evaluations for step in steps]).max(1).values.sum()) == len(seen)
    assert torch.equal(steps[-1].x, steps[-1].prediction.x0)
    assert torch.equal(steps[-1].prediction.x, steps[-2].x)
    assert float(steps[-1].prediction.level.gamma) == float(grid[-2].gamma)


@pytest.mark.parametrize("path", [DDPM, *(Path(Linear(-9, 7), scale) for scale in SCALES.values())])
@pytest.mark.parametrize("steps", [1000, 50, 3])
def test_ddim_with_eta_one_is_the_ancestral_step(path: Path, steps: int) -> None:
    grid = path.grid(steps)
    for i in {0, 1, steps // 2, steps - 2}:
        t, s = grid[i], grid[i + 1]
        x = t.perturb(TWO.sample(5), NOISE)
        a, b = (
            sampler.step(Oracle(TWO), x, t, s, noise=lambda name: torch.ones_like(NOISE))
            for sampler in (DDIM(1.0), Ancestral("small"))
        )
        kernel = reverse(Oracle(TWO)(x, t), s, small)
        assert torch.allclose(a.mean, b.mean, rtol=1e-13, atol=1e-14)
        assert torch.allclose(a.x - a.mean, b.x - b.mean, rtol=1e-12, atol=1e-14)
        assert torch.equal(b.mean, kernel.mean)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("noise_variance", ["small", "large"])
def test_ddim_in_the_paper_s_symbols(eta: float, noise_variance: str) -> None:
    for now, then in [(1000, 950), (500, 1), (20, 19)]:
        t, s = DDPM.at(now / 1000), DDPM.at(then / 1000)
        bar_t, bar_s = BAR[now - 1], BAR[then - 1]
        prediction = Oracle(TWO)(NOISE, t)
        step = DDIM(eta, noise_variance).step(Oracle(TWO), NOISE, t, s, noise=lambda name: torch.ones_like(NOISE))
        sigma = eta * ((1 - bar_s) / (1 - bar_t)).sqrt() * (1 - bar_t / bar_s).sqrt()
        x0 = (NOISE - (1 - bar_t).sqrt() * prediction.eps) / bar_t.sqrt()
        mean = bar_s.sqrt() * x0 + (1 - bar_s - sigma**2).sqrt() * prediction.eps
        added = sigma if noise_variance == "small" else eta * (1 - bar_t / bar_s).sqrt()
        assert torch.allclose(step.mean, mean, rtol=1e-9, atol=1e-10)
        assert torch.allclose(step.x - step.mean, added.expand(5, 2), rtol=1e-9, atol=1e-10)


def test_ddim_goes_from_one_state_to_the_next_and_remembers_nothing() -> None:
    """Neither parallel nor multistep: a step is a function of x_t, and gives the same wherever the walk came from."""
    grid, x = DDPM.grid(8), NOISE
    noise = seeded(0, torch.arange(5), NOISE)
    for kind, alike in ((DDIM(), True), (Multistep(2), False)):
        steps = list(simulate(kind, Oracle(TWO), NOISE, grid, noise=noise))
        x = steps[3].x
        alone = kind.step(Oracle(TWO), x, grid[4], grid[5], noise=lambda name: NOISE, memory=None)
        assert torch.equal(alone.x, steps[4].x) == alike
    moved = DDIM().step(Oracle(TWO), x + 0.1, grid[4], grid[5], noise=lambda name: NOISE)
    assert (moved.x != steps[4].x).all(), "so x_t has to be there first"


@pytest.mark.parametrize(("now", "then"), [(1.0, 0.9), (0.5, 0.49), (0.02, 0.0)])
def test_the_sampler_of_vdm_in_the_paper_s_symbols(now: float, then: float) -> None:
    """V12: the ancestral step with the small variance, down to the lowest level, where noise is still added."""
    path = Path(Linear(-8, 4), SCALES["vp"])
    t, s = path.at(now), path.at(then)
    alpha2_t, alpha2_s = (1 / (1 + math.exp(-8 + 12 * time)) for time in (now, then))
    c = 1 - math.exp(12 * (then - now))
    eps = Oracle(TWO)(NOISE, t).eps
    mean = math.sqrt(alpha2_s / alpha2_t) * (NOISE - math.sqrt(1 - alpha2_t) * c * eps)
    step = Ancestral("small").step(Oracle(TWO), NOISE, t, s, noise=lambda name: torch.ones_like(NOISE))
    assert torch.allclose(step.mean, mean, rtol=1e-10, atol=1e-12)
    assert torch.allclose(step.x - step.mean, torch.full_like(mean, math.sqrt((1 - alpha2_s) * c)), rtol=1e-9)


def test_ddim_is_euler_s_method_for_x_over_alpha() -> None:
    t, s = DDPM.at(0.5), DDPM.at(0.4)
    step = DDIM().step(Oracle(TWO), NOISE, t, s, noise=lambda name: NOISE)
    slope = Oracle(TWO)(NOISE, t).eps
    euler = NOISE / t.alpha + slope * (s.sigma / s.alpha - t.sigma / t.alpha)
    assert torch.allclose(step.x / s.alpha, euler, rtol=1e-13, atol=1e-14)


def test_one_flow_step_of_a_point_is_exact() -> None:
    law = point(torch.tensor([0.5, -1.0]))
    t, s = DDPM.at(0.9), DDPM.at(0.1)
    step = DDIM().step(Oracle(law), NOISE, t, s, noise=lambda name: NOISE)
    assert torch.allclose(step.x, flow(law, NOISE, t, s), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_eta_outside_its_range_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0"):
        DDIM(eta)


def test_the_noise_of_the_ancestral_chain_cannot_be_left_out() -> None:
    """N(0, 0.5²), the exact denoiser, 250 of 1000 steps: DDPM's mean alone collapses, DDIM's mean is another one."""
    law = gaussian(torch.zeros(1), 0.25)
    start = Moments(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    grid = DDPM.grid(250)
    x = torch.ones(1, 1, dtype=torch.float64)
    *_, collapsed = simulate(Ancestral("small"), Oracle(law), x, grid, noise=lambda i, name: torch.zeros_like(x))
    assert float(law_of_output(DDIM(), law, grid, start).std) == pytest.approx(0.494271, abs=1e-6)
    assert float(law_of_output(Ancestral("small"), law, grid, start).std) == pytest.approx(0.485814, abs=1e-6)
    assert float(collapsed.x) == pytest.approx(0.0015883, abs=1e-7)


@pytest.mark.parametrize("steps", [100, 20])
def test_output_variances_follow_their_recursions(steps: int) -> None:
    """N(0, v) under the paper's own update formulas, one number a step."""
    v, law = 0.25, gaussian(torch.zeros(1), 0.25)
    grid = DDPM.grid(steps)
    bar = torch.cat([BAR[(grid.t[:-1] * 1000).round().long() - 1], torch.ones(1, dtype=torch.float64)])
    ancestral = ddim = 1.0
    for bar_t, bar_s in zip(bar[:-1].tolist(), bar[1:].tolist(), strict=True):
        total = bar_t * v + 1 - bar_t
        of_x0, of_eps = math.sqrt(bar_t) * v / total, math.sqrt(1 - bar_t) / total
        beta = 1 - bar_t / bar_s
        gain = math.sqrt(bar_t / bar_s) * (1 - bar_s) / (1 - bar_t) + math.sqrt(bar_s) * beta / (1 - bar_t) * of_x0
        ancestral = gain**2 * ancestral + beta * (1 - bar_s) / (1 - bar_t)
        ddim *= (math.sqrt(bar_s) * of_x0 + math.sqrt(1 - bar_s) * of_eps) ** 2
    start = Moments(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = [float(law_of_output(sampler, law, grid, start).std) for sampler in (Ancestral("small"), DDIM())]
    assert found == pytest.approx([math.sqrt(ancestral), math.sqrt(ddim)], rel=1e-9)


def test_prior_is_noise_of_the_path_s_size() -> None:
    noise = seeded(0, torch.arange(2000), torch.zeros(2000, 3, dtype=torch.float64))
    assert torch.equal(prior(DDPM, noise), noise(0, "prior"))
    assert float(prior(Path(geometric(0.01, 50), SCALES["ve"]), noise).std()) == pytest.approx(50, rel=0.03)


def test_what_is_left_of_data_is_isotropic_normal_and_not_uniform() -> None:
    """q(x_T) of a mixture far from normal; the prior is chosen, no model is asked for it."""
    count = 20_000
    noise = torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = DDPM.highest.perturb(TWO.sample(count), noise)
    for column in x.T.numpy():
        assert kstest(column, "norm").pvalue > 1e-3
        assert kstest(column, "uniform", args=(-math.sqrt(3), 2 * math.sqrt(3))).pvalue < 1e-9
    assert torch.allclose(x.T.cov(), torch.eye(2).double(), atol=5 * math.sqrt(2 / count))


def test_noise_of_a_step_is_keyed_by_example_step_and_draw() -> None:
    noise = seeded(0, torch.arange(4), torch.zeros(4, 3))
    others = [noise(1, "step"), noise(0, "churn"), seeded(1, torch.arange(4), torch.zeros(4, 3))(0, "step")]
    assert all(not torch.equal(noise(0, "step"), other) for other in others)
    assert torch.equal(seeded(0, torch.tensor([2, 0]), torch.zeros(2, 3))(0, "step"), noise(0, "step")[[2, 0]])


def test_the_measuring_tool_sees_a_wrong_law() -> None:
    """The flow map is the law's own, and noise of twice the size is found by `law_of_output`."""
    path = Path(Linear(-8, 8), SCALES["vp"])
    law = gaussian(torch.tensor([0.3]), 0.5)
    t, s = path.at(0.7), path.at(0.65)
    start = moments(law, t)
    assert torch.allclose(flow(law, start.mean + 2 * start.std, t, s), moments(law, s).mean + 2 * moments(law, s).std)
    grid = t.repeat(1).then(s)
    sizes = [law_of_output(DDIM(1.0, variance), law, grid, start).std for variance in ("small", "large")]
    added = [(t.sigma**2 - (t.alpha / s.alpha) ** 2 * s.sigma**2) * r for r in ((s.sigma / t.sigma) ** 2, 1)]
    assert torch.allclose(sizes[1] ** 2 - sizes[0] ** 2, added[1] - added[0], rtol=1e-10)
