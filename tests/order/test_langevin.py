"""Annealed Langevin dynamics in closed form: variances level by level, units, inpainting, interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from logsnr.data.toys import TOYS, gaussian, point
from logsnr.guidance import Inpainted
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, score
from logsnr.samplers import DDIM, AnnealedLangevin, Noise, prior, seeded, simulate, turned
from logsnr.samplers.langevin import langevin_step
from logsnr.scales import SCALES, straight, ve
from logsnr.schedules import SCHEDULES, Linear, geometric
from logsnr.techniques import relative_step, variance_ratio

from .response import Moments, law_of_output

torch.set_num_threads(1)
NCSN = Path(SCHEDULES["sigma_table"](0.01, 1.0, 10), ve)


def test_one_step_is_the_paper_s_in_both_conventions() -> None:
    x, s, z = torch.randn(3, 4, 5, dtype=torch.float64)
    alpha = 0.3  # NCSN's α_i: x + (α/2) s + √α z
    moved, mean = langevin_step(x, s, torch.tensor(alpha / 2, dtype=torch.float64), z)
    assert torch.allclose(moved, x + alpha / 2 * s + alpha**0.5 * z, rtol=1e-13)
    assert torch.allclose(mean, x + alpha / 2 * s, rtol=1e-13)


@pytest.mark.parametrize("end", ["clean", "lowest"])
def test_the_variance_follows_its_recursion_from_the_first_level_on(end: str) -> None:
    """N(m, v): at each of the L levels, the first too, T steps of size ε σ_i²/σ_L²."""
    v, step_size, n_steps = 0.3, 2e-5 / 2, 7
    law = gaussian(torch.tensor([0.4], dtype=torch.float64), v)
    grid = NCSN.grid(10 if end == "clean" else 9, end)
    start = Moments(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = law_of_output(AnnealedLangevin(NCSN, n_steps, step_size), law, grid, start)
    mean, variance = 0.0, 1.0
    for sigma in torch.logspace(0, -2, 10, dtype=torch.float64).tolist():
        size = step_size * sigma**2 / 0.01**2
        for _ in range(n_steps):
            kept = 1 - size / (v + sigma**2)
            mean, variance = 0.4 + kept * (mean - 0.4), kept**2 * variance + 2 * size
    gain = v / (v + 0.01**2) if end == "clean" else 1.0
    assert float(found.mean) == pytest.approx(0.4 + gain * (mean - 0.4), rel=1e-10)
    assert float(found.std) == pytest.approx(gain * variance**0.5, rel=1e-10)


@pytest.mark.parametrize("n_steps", [1, 5])
def test_at_a_point_the_variance_is_that_of_proposition_3(n_steps: int) -> None:
    """With the default step every level ends at v_T σ_i², the closest to σ_i² that T steps can come."""
    path = Path(geometric(0.1, 1.0), ve)
    grid = path.grid(6, "lowest", "log_snr")
    ratio = float(grid[0].sigma / grid[1].sigma)
    start = Moments(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    found = law_of_output(AnnealedLangevin(path, n_steps), point(torch.zeros(1)), grid[:2], start)
    eta, entry = relative_step(ratio, n_steps), 1.0  # in units of the first σ²
    for _ in range(n_steps):
        entry = (1 - eta) ** 2 * entry + 2 * eta
    variance = entry * ratio**2
    for _ in range(n_steps):
        variance = (1 - eta) ** 2 * variance + 2 * eta
    assert float(found.std) ** 2 == pytest.approx(variance / ratio**2, rel=1e-6)
    assert variance_ratio(eta, ratio, n_steps) <= variance, "the entry is a little above σ_1²"


@pytest.mark.parametrize("end", ["clean", "lowest"])
def test_evaluations_are_levels_times_steps_and_the_last_denoising(end: str) -> None:
    calls: list[float] = []
    oracle = Oracle(TOYS["two"]())

    def model(x: Tensor, level: Level) -> Prediction:
        calls.append(float(level.sigma))
        return oracle(x, level)

    names: list[tuple[int, str]] = []
    x = torch.zeros(2, 2, dtype=torch.float64)

    def noise(step: int, name: str) -> Tensor:
        names.append((step, name))
        return x

    grid = NCSN.grid(10 if end == "clean" else 9, end)
    steps = list(simulate(AnnealedLangevin(NCSN, 4, 1e-5), model, x, grid, noise=noise))
    assert len(calls) == int(sum(step.evaluations for step in steps)[0]) == 40 + (end == "clean")
    assert calls[:40] == [sigma for sigma in grid.sigma[:10].tolist() for _ in range(4)]
    assert len(set(names)) == len(names) == 40


@pytest.mark.parametrize("scale", SCALES)
def test_a_given_step_size_means_the_same_in_every_unit(scale: str) -> None:
    path, reference = (Path(Linear(-6, 3), SCALES[name]) for name in (scale, "ve"))
    start = torch.randn(4, 2, dtype=torch.float64)
    ends = []
    for each in (path, reference):
        sampler, grid = AnnealedLangevin(each, 3, 2e-4), each.grid(6)
        noise = seeded(0, torch.arange(4), start)
        *_, last = simulate(sampler, Oracle(TOYS["two"]()), start * grid[0].alpha, grid, noise=noise)
        ends.append(last.x)
    assert torch.allclose(*ends, rtol=0, atol=1e-12)


def test_pure_noise_is_a_level_like_any_other() -> None:
    """At γ = ∞ there is no signal whose size could be kept: the noise's size is."""
    law, path = TOYS["two"](), Path(Linear(-6, 6), straight)
    noise_end = Level(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, math.inf, -math.inf, 0.0)))
    x = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = seeded(0, torch.arange(500), x)
    s = path.at(0.9)
    step = AnnealedLangevin(path, 20).step(Oracle(law), x, noise_end, s, noise=lambda name: noise(0, name))
    assert step.x.isfinite().all()
    exact = (s.alpha**2 * law.sample(4000).var() + s.sigma**2).sqrt()
    assert float(step.x.std()) == pytest.approx(float(exact), rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps = 0"),
        ({"step_size": 0.0}, "step_size = 0.0"),
        ({"step_size": -1e-5}, "above 0"),
        ({"step_size": 2.1e-4}, "below twice that σ²"),
    ],
)
def test_steps_that_cannot_work_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnealedLangevin(NCSN, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Correlated:
    """The exact model of N(mean, covariance) on the ve scale."""

    mean: Tensor
    covariance: Tensor

    def __call__(self, x: Tensor, level: Level, **condition: Tensor) -> Prediction:
        noisy = self.covariance + level.sigma**2 * torch.eye(len(self.mean), dtype=x.dtype)
        return Prediction(x, level, score(level), torch.linalg.solve(noisy, (self.mean - x).T).T)


LAW = Correlated(
    torch.tensor([0.5, -1.0, 0.2, 0.0], dtype=torch.float64),
    torch.tensor(
        [[1.0, 0.6, 0.3, 0.1], [0.6, 0.9, 0.2, -0.3], [0.3, 0.2, 0.5, 0.2], [0.1, -0.3, 0.2, 0.8]],
        dtype=torch.float64,
    ),
)
KNOWN = torch.tensor([True, False, False, True])


def test_inpainting_draws_from_the_conditional_law() -> None:
    """Gaussian data: mean and covariance of the unknown numbers given the known ones, at 4 standard errors."""
    count = 2000
    path = Path(geometric(0.03, 3.0), ve)
    given = torch.tensor([1.3, 0.0, 0.0, -0.7], dtype=torch.float64)
    like = torch.empty(count, 4, dtype=torch.float64)
    noise = seeded(2, torch.arange(count), like)
    model = Inpainted(LAW, given.expand(count, 4), KNOWN, noise)
    sampler, grid = AnnealedLangevin(path, 40, 0.25 * 0.03**2), path.grid(30)
    *_, end = simulate(sampler, model, prior(path, noise), grid, noise=noise)
    assert torch.equal(end.x[:, KNOWN], given[KNOWN].expand(count, 2)), "known numbers come back bit for bit"
    u, k = ~KNOWN, KNOWN
    gain = LAW.covariance[u][:, k] @ torch.linalg.inv(LAW.covariance[k][:, k])
    mean = LAW.mean[u] + gain @ (given - LAW.mean)[k]
    covariance = LAW.covariance[u][:, u] - gain @ LAW.covariance[k][:, u]
    found = end.x[:, u]
    assert ((found.mean(0) - mean).abs() < 4 * (covariance.diag() / count).sqrt() + 0.01).all()
    assert torch.allclose(found.T.cov(), covariance, atol=0.05), (found.T.cov(), covariance)
    assert not torch.allclose(LAW.mean[u], mean, atol=0.3), "the condition matters"


def test_the_known_part_is_shown_at_the_level_of_the_state() -> None:
    """Also under another sampler: known numbers at α_t known + σ_t z, with fresh noise at every call."""
    path = Path(Linear(-5, 3), SCALES["vp"])
    seen: list[tuple[Tensor, Level]] = []

    def model(x: Tensor, level: Level) -> Prediction:
        seen.append((x, level))
        return LAW(x / level.alpha, Path(Linear(-5, 3), ve).at(level.t))

    x = torch.randn(3, 4, dtype=torch.float64)
    known = torch.full((3, 4), 0.7, dtype=torch.float64)
    noise = seeded(0, torch.arange(3), x)
    *_, end = simulate(DDIM(), Inpainted(model, known, KNOWN, noise), x, path.grid(6), noise=noise)
    for call, (state, level) in enumerate(seen):
        wanted = level.alpha * 0.7 + level.sigma * noise(call, "known")
        assert torch.allclose(state[:, KNOWN], wanted[:, KNOWN], rtol=1e-12)
    assert torch.equal(end.x[:, KNOWN], known[:, KNOWN])


def between(first: Noise, last: Noise, points: int) -> Tensor:
    """A row of samples from one to the other."""
    path, law = Path(geometric(0.05, 2.0), ve), gaussian(torch.tensor([0.3, -0.2]), torch.tensor([0.5, 0.1]))
    angle = torch.linspace(0, math.pi / 2, points, dtype=torch.float64)
    noise = turned(first, last, angle)
    *_, end = simulate(AnnealedLangevin(path), Oracle(law), prior(path, noise), path.grid(12), noise=noise)
    return end.x - law.means[0]


def test_interpolation_turns_every_draw() -> None:
    """On Gaussian data a chain is affine in its draws, so the samples turn as the draws do."""
    points = 9
    like = torch.empty(points, 2, dtype=torch.float64)
    rows = [seeded(4, torch.full((points,), example), like) for example in (0, 1)]
    angle = torch.linspace(0, math.pi / 2, points, dtype=torch.float64).unsqueeze(1)
    silent = between(lambda step, draw: torch.zeros_like(like), lambda step, draw: torch.zeros_like(like), points)
    line = between(*rows, points) - silent
    assert torch.allclose(line, angle.cos() * line[0] + angle.sin() * line[-1], atol=1e-12)
    alone = between(rows[0], rows[0], 1 if points == 1 else points)[0] - silent[0]
    assert torch.allclose(line[0], alone, atol=1e-12)
    z = turned(*rows, angle.flatten())(3, "langevin/1")
    assert torch.allclose(z[0], rows[0](3, "langevin/1")[0])
    assert torch.allclose(z[-1], rows[1](3, "langevin/1")[-1])
