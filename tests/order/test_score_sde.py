"""Score SDE's samplers: formulas in the papers' symbols, exact laws, and what adaptive steps promise."""

from __future__ import annotations

import math

import pytest
import torch

from logsnr.betas import linear
from logsnr.data.toys import gaussian, mixture, point
from logsnr.denoiser import Model
from logsnr.dynamics import Dynamics, euler_maruyama, flow_drift, reverse_drift
from logsnr.kernels import large, transition
from logsnr.level import Level
from logsnr.oracles import Oracle
from logsnr.path import Path
from logsnr.prediction import Prediction, v
from logsnr.records import Part
from logsnr.run.build import sampler, sampler_part
from logsnr.samplers import (
    CORRECTORS,
    Adaptive,
    Ancestral,
    DPMAdaptive,
    EulerMaruyama,
    PredictorCorrector,
    ReverseDiffusion,
    Sampler,
    Step,
    prior,
    seeded,
    simulate,
)
from logsnr.scales import SCALES
from logsnr.schedules import BetaLinear, Linear, geometric, table_of_betas

from .response import LAW, Moments, flow, law_of_output, moments

torch.set_num_threads(1)

PATHS = {
    "vp": Path(BetaLinear(), SCALES["vp"]),
    "sub_vp": Path(BetaLinear(scale="sub_vp"), SCALES["sub_vp"]),
    "ve": Path(geometric(0.01, 50), SCALES["ve"]),
}
TWO = mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), 0.09)
GENERATOR = torch.Generator().manual_seed(0)
NOISE, X = (torch.randn(6, 2, dtype=torch.float64, generator=GENERATOR) for _ in range(2))


def unit(name: str) -> torch.Tensor:
    return torch.ones_like(NOISE)


def nothing(step: int, name: str) -> torch.Tensor:
    raise AssertionError(f"a deterministic sampler drew {name!r} at step {step}")


def end(sampler: Sampler, x: torch.Tensor, grid: Level, law: object = TWO) -> Step:
    *_, last = simulate(sampler, Oracle(law), x, grid, noise=nothing)
    return last


@pytest.mark.parametrize("scale", PATHS)
def test_euler_maruyama_steps_along_the_reverse_drift(scale: str) -> None:
    path = PATHS[scale]
    t, s = path.at(0.7), path.at(0.65)
    score = Oracle(TWO)(X, t).score
    for eta, drift in ((1.0, reverse_drift), (0.0, flow_drift)):
        sampler = EulerMaruyama(path, eta)
        step = sampler.step(Oracle(TWO), X, t, s, noise=unit)
        assert torch.allclose(step.mean, X - 0.05 * drift(sampler.process, score, X, t.t), rtol=1e-12)
        g = sampler.process.diffusion(t.t)
        assert torch.allclose(step.x - step.mean, eta * g * 0.05**0.5 * unit(""), rtol=1e-10)


def test_euler_maruyama_takes_any_drift_and_walks_forward() -> None:
    process = Dynamics(drift=lambda x, t: x - x**3, diffusion=lambda t: 0.5 + t)
    t, s = torch.tensor([0.2, 0.4], dtype=torch.float64), torch.tensor([0.3, 0.6], dtype=torch.float64)
    x = torch.tensor([[2.0, -1.0], [0.5, 1.0]], dtype=torch.float64)
    mean, std = euler_maruyama(process, torch.zeros_like(x), x, t, s)
    assert torch.allclose(mean, torch.tensor([[1.4, -1.0], [0.575, 1.0]], dtype=torch.float64))
    assert torch.allclose(std.flatten(), torch.tensor([0.7 * 0.1**0.5, 0.9 * 0.2**0.5], dtype=torch.float64))


def test_euler_maruyama_refuses_to_start_at_pure_noise() -> None:
    path = PATHS["vp"]
    inf = torch.tensor(math.inf, dtype=torch.float64)
    noise_end = Level(torch.ones_like(inf), inf, -inf, torch.zeros_like(inf))
    with pytest.raises(ValueError, match="pure noise.*allowed: ancestral, ddim"):
        EulerMaruyama(path).step(Oracle(TWO), X, noise_end, path.at(0.9), noise=unit)


@pytest.mark.parametrize("kind", [lambda eta: EulerMaruyama(PATHS["vp"], eta), ReverseDiffusion])
@pytest.mark.parametrize("eta", [-0.1, 1.5, math.nan])
def test_eta_outside_its_range_is_refused(kind: type[ReverseDiffusion], eta: float) -> None:
    with pytest.raises(ValueError, match="allowed: 0 \\(probability flow\\)"):
        kind(eta)


def test_reverse_diffusion_in_the_paper_s_symbols() -> None:
    """Algorithms 2 and 3 without their correctors, and the probability flows, on DDPM's β and on geometric σ_i."""
    beta = linear(1000)
    vp = Path(table_of_betas(beta), SCALES["vp"])
    for i in (1000, 300, 2):
        t, s, b = vp.at(i / 1000), vp.at((i - 1) / 1000), beta[i - 1]
        score = Oracle(TWO)(X, t).score
        for eta, half in ((1.0, 1.0), (0.0, 0.5)):
            step = ReverseDiffusion(eta).step(Oracle(TWO), X, t, s, noise=unit)
            assert torch.allclose(step.mean, (2 - (1 - b).sqrt()) * X + half * b * score, rtol=1e-11)
            assert torch.allclose(step.x - step.mean, eta * b.sqrt() * unit(""), rtol=1e-9, atol=1e-14)
    t, s = PATHS["ve"].at(0.6), PATHS["ve"].at(0.55)
    step = ReverseDiffusion().step(Oracle(TWO), X, t, s, noise=unit)
    variance = t.sigma**2 - s.sigma**2
    assert torch.allclose(step.mean, X + variance * Oracle(TWO)(X, t).score, rtol=1e-11)
    assert torch.allclose(step.x - step.mean, variance.sqrt() * unit(""), rtol=1e-10)


def test_reverse_diffusion_undoes_the_mean_of_the_forward_step() -> None:
    """f and G are those of q(x_t | x_s): x_s − x_t = −f + G² ŝ."""
    t, s = PATHS["sub_vp"].at(0.5), PATHS["sub_vp"].at(0.45)
    forward = transition(X, s, t)
    step = ReverseDiffusion().step(Oracle(TWO), X, t, s, noise=unit)
    expected = -(forward.mean - X) + forward.log_var.exp() * Oracle(TWO)(X, t).score
    assert torch.allclose(step.mean - X, expected, rtol=1e-10)


@pytest.mark.parametrize("scale", PATHS)
@pytest.mark.parametrize("steps", [3, 40])
def test_the_ancestral_chain_of_a_point_keeps_the_marginals(scale: str, steps: int) -> None:
    """For one data point the posterior is exact: after any steps x_s ~ N(α_s x0, σ_s²), on sub-VP as well."""
    path, law = PATHS[scale], point(torch.tensor([0.7, -0.2]))
    grid = path.at(torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64))
    found = law_of_output(Ancestral("small"), law, grid, moments(law, grid[0]))
    assert torch.allclose(found.mean, grid[-1].alpha * law.means[0], rtol=1e-9)
    assert torch.allclose(found.std, grid[-1].sigma.expand(2), rtol=1e-9)


def step_size(name: str, t: Level, s: Level, **options: object) -> torch.Tensor:
    score = Oracle(TWO)(X, t).score
    return CORRECTORS[name](**options)(score, NOISE, t, s) * torch.ones(len(X), dtype=torch.float64)


def test_step_sizes_of_the_correctors() -> None:
    """Algorithms 4 and 5: a = 1 on ve and 1 − β_i on DDPM's chain; each example has its own norms."""
    beta = linear(1000)
    vp, ve = Path(table_of_betas(beta), SCALES["vp"]), PATHS["ve"]
    for t, s, a in ((vp.at(0.8), vp.at(0.799), 1 - beta[799]), (ve.at(0.8), ve.at(0.7), torch.ones(()))):
        score = Oracle(TWO)(X, t).score
        of_noise, of_score = NOISE.norm(dim=1), score.norm(dim=1)
        expected = 2 * a * (0.3 * of_noise / of_score) ** 2
        assert torch.allclose(step_size("langevin", t, s, snr=0.3), expected.double(), rtol=1e-10)
        batch = 2 * a * (0.3 * of_noise.mean() / of_score.mean()) ** 2
        assert torch.allclose(step_size("langevin", t, s, snr=0.3, norm="batch"), batch.double(), rtol=1e-10)
        assert torch.allclose(step_size("annealed", t, s, snr=0.3), 2 * a * (0.3 * t.sigma) ** 2, rtol=1e-10)


@pytest.mark.parametrize("scale", PATHS)
def test_the_corrector_acts_at_t_before_the_predictor(scale: str) -> None:
    path = PATHS[scale]
    t, s = path.at(0.6), path.at(0.5)
    draws = {"corrector 0": NOISE, "corrector 1": NOISE.flip(0), "step": NOISE.roll(1, 0)}
    step = PredictorCorrector(Ancestral(), CORRECTORS["langevin"](0.2), 2).step(
        Oracle(TWO), X, t, s, noise=draws.__getitem__
    )
    x = X
    for name in ("corrector 0", "corrector 1"):
        score, z = Oracle(TWO)(x, t).score, draws[name]
        a = (t.alpha / s.alpha) ** 2
        size = (2 * a * (0.2 * z.norm(dim=1) / score.norm(dim=1)) ** 2).unsqueeze(1)
        x = x + size * score + (2 * size).sqrt() * z
    alone = Ancestral().step(Oracle(TWO), x, t, s, noise=draws.__getitem__)
    assert torch.allclose(step.x, alone.x, rtol=1e-10)
    assert torch.equal(step.evaluations, torch.full((6,), 3))


@pytest.mark.parametrize("predictor", ["ancestral", "euler_maruyama", "reverse_diffusion", "ddim"])
def test_without_a_corrector_step_it_is_the_predictor(predictor: str) -> None:
    path = PATHS["sub_vp"]
    noise = seeded(0, torch.arange(6), NOISE)
    both = [
        list(simulate(sampler(part, path), Oracle(TWO), NOISE, path.grid(9), noise=noise))
        for part in (Part(predictor), Part("predictor_corrector", {"predictor": predictor, "corrector_steps": 0}))
    ]
    for alone, joined in zip(*both, strict=True):
        assert torch.equal(alone.x, joined.x)
        assert torch.equal(alone.evaluations, joined.evaluations)


@pytest.mark.parametrize("scale", PATHS)
@pytest.mark.parametrize("corrector", CORRECTORS)
def test_correctors_leave_a_gaussian_s_marginals_where_they_are(scale: str, corrector: str) -> None:
    """At a small r steps from p_t stay there: std 1 + ε/4 in the mean, and 1/D more where ε follows ‖ŝ‖ (D = 64)."""
    path, law = PATHS[scale], gaussian(torch.zeros(64), 0.25)
    t = path.at(0.5)
    count, std = 2000, (t.alpha**2 * 0.25 + t.sigma**2).sqrt()
    noise = seeded(1, torch.arange(count), torch.zeros(count, 64, dtype=torch.float64))
    x = std * noise(0, "start")
    stay = PredictorCorrector(_Stay(), CORRECTORS[corrector](0.1), 60)
    moved = stay.step(Oracle(law), x, t, path.at(0.49), noise=lambda name: noise(0, name)).x
    assert float(moved.std() / std) == pytest.approx(1.005, abs={"annealed": 0.01, "langevin": 0.03}[corrector])
    assert float((moved * x).mean() / std**2) < 0.8, "it moves"


class _Stay(Ancestral):
    """A predictor that does nothing."""

    def step(self, model: Model, x: torch.Tensor, t: Level, s: Level, **keywords: object) -> Step:
        return Step(x, x, model(x, t), s, torch.zeros(len(x), dtype=torch.int64))


@pytest.mark.parametrize("scale", PATHS)
def test_predictor_corrector_samples_a_gaussian(scale: str) -> None:
    """The langevin corrector is not affine in its noise: drawn, 100 steps, 64 dimensions."""
    path, law = PATHS[scale], gaussian(torch.full((64,), 0.5), 0.25)
    noise = seeded(2, torch.arange(200), torch.zeros(200, 64, dtype=torch.float64))
    for predictor in ("reverse_diffusion", "ancestral"):
        part = Part("predictor_corrector", {"predictor": predictor, "corrector": {"name": "langevin", "snr": 0.1}})
        x = list(simulate(sampler(part, path), Oracle(law), prior(path, noise), path.grid(100), noise=noise))[-1].x
        assert float(x.mean()) == pytest.approx(0.5, abs=0.03)
        assert float((x.var(0)).mean().sqrt()) == pytest.approx(0.5, rel=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "heun9"}, "unknown predictor 'heun9'"),
        ({"corrector": "newton"}, "unknown corrector 'newton'; known: langevin, annealed"),
        ({"corrector": {"name": "langevin", "snr": 0}}, "snr = 0 .*allowed: above 0"),
        ({"corrector": {"name": "langevin", "norm": "max"}}, "unknown norm 'max'"),
        ({"corrector_steps": -1}, "corrector_steps = -1; allowed: 0"),
        ({"predictor": {"name": "ancestral", "snr": 1}}, "does not take"),
    ],
)
def test_what_predictor_corrector_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(Part("predictor_corrector", options), PATHS["vp"])


def test_a_predictor_is_told_what_it_would_be_told_alone() -> None:
    """The reverse variance of the run and its number of steps, unless the options say otherwise."""
    few = sampler(Part("predictor_corrector", {"predictor": "auto", "steps": 6}), PATHS["vp"])
    assert few.predictor.count == sampler(Part("auto", {"steps": 6}), PATHS["vp"]).count == 2
    part = sampler_part(Part("predictor_corrector", {"predictor": "ancestral"}), "large", 50)
    assert sampler(part, PATHS["vp"]).predictor.rule is large
    own = Part("predictor_corrector", {"predictor": {"name": "ancestral", "variance": "small"}})
    assert sampler(sampler_part(own, "large", 50), PATHS["vp"]).predictor.rule is not large


def test_dpm_adaptive_carries_arrived_examples_without_nonsense() -> None:
    """An example that is over is shown to the model at real levels, and does not change."""
    path = PATHS["vp"]
    grid = path.grid(1, "lowest")
    seen = []

    def watched(x: torch.Tensor, level: Level, **condition: torch.Tensor) -> Prediction:
        seen.append(bool(x.isfinite().all() and level.gamma.isfinite().all()))
        return Oracle(TWO)(x, level)

    solver = DPMAdaptive(path, 3, 1e-6, 1e-6)
    (together,) = simulate(solver, watched, NOISE, grid, noise=nothing)
    assert all(seen)
    assert len(set(together.evaluations.tolist())) > 1
    for i in range(len(NOISE)):
        alone = end(solver, NOISE[i : i + 1], grid)
        assert torch.allclose(alone.x, together.x[i : i + 1], rtol=0, atol=1e-13)
        assert int(alone.evaluations) == int(together.evaluations[i])
    assert (together.x - end(Adaptive(path, 1e-10, 1e-10), NOISE, grid).x).abs().max() < 1e-4


@pytest.mark.parametrize("scale", [*PATHS, "straight"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_the_adaptive_flow_of_a_gaussian_and_back(scale: str, tolerance: float) -> None:
    """S9: each x0 has one latent, and the closed form gives it; up and down again."""
    path = PATHS.get(scale, Path(Linear(-10, 8), SCALES["straight"]))
    adaptive = Adaptive(path, tolerance, tolerance)
    down = path.grid(1, "lowest")
    up = down[torch.tensor([1, 0])]
    low, high = moments(LAW, up[0]), moments(LAW, up[1])
    x0 = low.mean + low.std * torch.tensor([[-1.5], [0.3], [2.0]], dtype=torch.float64)
    latent = end(adaptive, x0, up, LAW)
    assert ((latent.x - flow(LAW, x0, up[0], up[1])) / high.std).abs().max() < 30 * tolerance
    back = end(adaptive, latent.x, down, LAW)
    assert ((back.x - x0) / low.std).abs().max() < 100 * tolerance
    assert int(back.evaluations.max()) < (80 if tolerance > 1e-6 else 400)


def test_the_adaptive_solver_starts_at_pure_noise() -> None:
    """γ = +∞, α = 0: the angle is π/2."""
    path = PATHS["vp"]
    inf = torch.tensor(math.inf, dtype=torch.float64)
    noise_end, s = Level(torch.ones_like(inf), inf, -inf, torch.zeros_like(inf)), path.at(0.3)

    def model(x: torch.Tensor, level: Level) -> Prediction:
        known = Oracle(LAW)(x, level)
        return Prediction(x, level, v(level), known.value)

    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    step = Adaptive(path, 1e-9, 1e-9).step(model, x, noise_end, s, noise=unit)
    at_s = moments(LAW, s)
    assert torch.allclose(step.x, at_s.mean + at_s.std * x, rtol=1e-7)


def test_an_adaptive_example_has_its_own_steps() -> None:
    """Alone or among others, also harder ones: the same x and the same number of evaluations."""
    path, law = PATHS["vp"], mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [1.0, 0.1]]), 1e-4)
    x = torch.cat([torch.tensor([[1e-3, 0.0]], dtype=torch.float64), NOISE])
    adaptive, grid = Adaptive(path, 1e-6, 1e-6), path.grid(1, "lowest")
    whole = end(adaptive, x, grid, law)
    assert len(set(whole.evaluations.tolist())) > 1
    for rows in ([2], [0, 5], [6, 3, 1]):
        part = end(adaptive, x[rows], grid, law)
        assert torch.equal(part.evaluations, whole.evaluations[rows])
        assert torch.allclose(part.x, whole.x[rows], rtol=0, atol=1e-13)


def test_adaptive_evaluations_are_counted() -> None:
    calls = []

    def model(x: torch.Tensor, level: Level) -> Prediction:
        calls.append(level)
        return Oracle(TWO)(x, level)

    path = PATHS["vp"]
    step = Adaptive(path).step(model, NOISE, path.highest, path.lowest, noise=unit)
    assert int(step.evaluations.max()) == len(calls)
    assert torch.equal((step.evaluations - 1) % 6, torch.zeros(6, dtype=torch.int64))


def test_tolerances_are_what_the_error_follows() -> None:
    path = PATHS["vp"]
    grid, exact = path.grid(1, "lowest"), end(Adaptive(PATHS["vp"], 1e-12, 1e-12), NOISE, PATHS["vp"].grid(1, "lowest"))
    errors = [float((end(Adaptive(path, tol, tol), NOISE, grid).x - exact.x).abs().max()) for tol in (1e-4, 1e-6, 1e-8)]
    assert all(error < 100 * tol for error, tol in zip(errors, (1e-4, 1e-6, 1e-8), strict=True)), errors
    with pytest.raises(ValueError, match="2 attempts did not reach"):
        end(Adaptive(path, most_steps=2), NOISE, grid)
    with pytest.raises(ValueError, match="not both 0"):
        Adaptive(path, rtol=0.0, atol=0.0)


def test_vp_ve_and_sub_vp_give_the_same_x0_by_their_flows() -> None:
    """One denoiser, three SDEs, each on its own schedule: from one latent at one γ to one x̂0 (S3, S11)."""
    gammas = torch.tensor([7.5, -9.0], dtype=torch.float64)
    x0 = []
    for path in PATHS.values():
        levels = path.at_gamma(gammas)
        last = end(Adaptive(path, 1e-10, 1e-10), levels[0].sigma * NOISE, levels)
        x0.append(Oracle(TWO)(last.x, levels[1]).x0)
    for other in x0[1:]:
        assert (other - x0[0]).abs().max() < 1e-6


def test_temperature_is_a_factor_on_the_latents() -> None:
    """S9: through a Gaussian's flow half the temperature is half the spread, the mean stays."""
    path, law = PATHS["vp"], gaussian(torch.full((2,), 0.4), 0.25)
    noise = seeded(0, torch.arange(6), NOISE)
    warm, cold = (end(Adaptive(path), prior(path, noise, tau), path.grid(1, "lowest"), law).x for tau in (1.0, 0.5))
    centre = end(Adaptive(path), torch.zeros_like(NOISE), path.grid(1, "lowest"), law).x
    assert torch.allclose(cold - centre, 0.5 * (warm - centre), atol=1e-4)
    assert torch.equal(prior(path, noise, 0.5), 0.5 * prior(path, noise))


def test_moments_of_the_corrector_test_are_not_trivial() -> None:
    """Annealed steps of a too large r inflate the law: what the test above would see."""
    path, law = PATHS["ve"], gaussian(torch.zeros(1), 0.25)
    t, s = path.at(0.5), path.at(0.49)
    found = law_of_output(
        PredictorCorrector(_Stay(), CORRECTORS["annealed"](0.7), 40),
        law,
        t.repeat(1).then(s),
        Moments(torch.zeros(1, dtype=torch.float64), moments(law, t).std),
    )
    assert float(found.std / moments(law, t).std) > 1.2
