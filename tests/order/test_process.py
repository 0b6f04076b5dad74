"""Processes by simulation, against a linear drift whose law and score are known, and refusals by name."""

from __future__ import annotations

import copy
import math
import re
import sys
from importlib import util
from pathlib import Path as File

import pytest
import torch
from torch import Tensor, nn

from logsnr.denoiser import LABELS, Denoiser
from logsnr.draws import Draws
from logsnr.dynamics import Dynamics, dynamics
from logsnr.kernels import transition
from logsnr.objectives import WEIGHTS, Matching, ProcessScore, Simulated, Uniform
from logsnr.path import Path
from logsnr.prediction import TARGETS
from logsnr.process import CLOSED_FORMS, Process, reverse
from logsnr.samplers import AnnealedLangevin
from logsnr.scales import ve, vp
from logsnr.schedules import SCHEDULES, Linear

torch.set_num_threads(1)
RATE, NOISE, MEAN, VARIANCE = 1.7, 1.2, 0.8, 0.3
# Ornstein–Uhlenbeck with a diffusion that grows, g = 1.2 √(1 + t)
LINEAR = Process(Dynamics(lambda x, t: -RATE * x, lambda t: NOISE * (1 + t).sqrt()), steps=200, t_min=1e-3)


def draws(count: int, step: int = 0) -> Draws:
    return Draws(3, step, torch.arange(count), count)


def law(t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance at t: v′ = −2 r v + 1.44 (1 + t), v(0) = VARIANCE."""
    r, c = RATE, NOISE**2
    kept = torch.exp(-2 * r * t)
    forced = c * ((1 - kept) / (2 * r) + t / (2 * r) - (1 - kept) / (4 * r**2))
    return MEAN * torch.exp(-r * t), VARIANCE * kept + forced


def data(count: int) -> Tensor:
    return MEAN + VARIANCE**0.5 * Draws(8, 0, torch.arange(count), count).normal(
        "x0", torch.empty(count, 1, dtype=torch.float64)
    )


def test_simulated_examples_have_the_law_of_the_sde_each_at_its_own_time() -> None:
    count = 20_000
    t = torch.tensor([0.05, 0.4, 1.0], dtype=torch.float64).repeat_interleave(count)
    x = LINEAR.simulate(data(3 * count), t, draws(3 * count)).reshape(3, count)
    mean, variance = law(torch.tensor([0.05, 0.4, 1.0], dtype=torch.float64))
    assert ((x.mean(1) - mean).abs() < 4 * (variance / count).sqrt() + 0.01 * mean).all()
    assert ((x.var(1) / variance - 1).abs() < 4 * (2 / count) ** 0.5 + 0.01).all()


def test_an_example_of_a_process_does_not_know_its_neighbours() -> None:
    t = torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)
    whole = LINEAR.simulate(data(3), t, draws(3))
    alone = LINEAR.simulate(data(3)[1:2], t[1:2], draws(3).rows(slice(1, 2)))
    assert torch.equal(whole[1:2], alone)
    assert len({float(z) for z in LINEAR._noises(torch.empty(1, 1), draws(1))}) == LINEAR.steps, "all steps differ"


@pytest.mark.parametrize("shape", [(1,), (3, 40, 40)])
def test_many_steps_share_a_draw_where_examples_are_small(shape: tuple[int, ...]) -> None:
    like = torch.empty(2, *shape)
    noises = list(Process(LINEAR.dynamics, steps=7)._noises(like, draws(2)))
    assert len(noises) == 7
    assert all(noise.shape == like.shape for noise in noises)


def test_the_noise_of_the_driftless_process() -> None:
    t = torch.tensor([0.01, 0.3, 1.0], dtype=torch.float64)
    assert torch.allclose(LINEAR.noise_std(t), NOISE * (t + t**2 / 2).sqrt(), rtol=1e-12)


class Multiple(nn.Module):
    """k times the exact score."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        mean, variance = law(t)
        return self.k * (mean.unsqueeze(1) - x) / variance.unsqueeze(1)


def test_the_exact_score_is_the_minimum_of_the_loss() -> None:
    """In k the loss is a parabola, −k c + k² c/2 with c = E λ E|s|²: its gradient vanishes at 1 and is −c at 0."""
    score, slopes = Multiple(), []
    for step in range(40):
        loss = Simulated(LINEAR)(score, data(500), draws(500, step)).total.mean()
        (at_one,) = torch.autograd.grad(loss, score.k)
        score.k.data.zero_()
        (at_zero,) = torch.autograd.grad(Simulated(LINEAR)(score, data(500), draws(500, step)).total.mean(), score.k)
        score.k.data.fill_(1.0)
        slopes.append(torch.stack([at_one, at_zero]))
    slope = torch.stack(slopes)
    error = slope.std(0) / len(slopes) ** 0.5
    assert abs(float(slope[:, 0].mean())) < 4 * float(error[0]) + 0.01, "a hundredth: the bias of Euler–Maruyama"
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    t = LINEAR.times(u)
    exact = -float((2 * LINEAR.noise_std(t) ** 2 / law(t)[1]).mean())
    assert float(slope[:, 1].mean()) == pytest.approx(exact, rel=0.03)
    assert float(error[0]) < 0.05 * abs(exact)


def test_the_reverse_sde_brings_back_the_data() -> None:
    """From the exact law at t = 1, with the exact score, to the law at t_min."""
    count = 20_000
    mean, variance = law(torch.ones((), dtype=torch.float64))
    x = mean + variance.sqrt() * draws(count).normal("prior", torch.empty(count, 1, dtype=torch.float64))
    with torch.no_grad():
        *_, end = reverse(LINEAR, Multiple(), x, 300, draws(count))
    mean, variance = law(torch.tensor(LINEAR.t_min, dtype=torch.float64))
    assert float(end.mean()) == pytest.approx(float(mean), abs=4 * (float(variance) / count) ** 0.5 + 0.01)
    assert float(end.var() / variance) == pytest.approx(1, abs=4 * (2 / count) ** 0.5 + 0.02)


def test_a_path_s_own_dynamics_is_a_process() -> None:
    """Simulated, the variance-preserving SDE has the levels of its path: the closed form is a special case."""
    path = Path(Linear(-8, 2), vp)
    count, t = 1000, torch.tensor(0.9, dtype=torch.float64)
    x = Process(dynamics(path), steps=40).simulate(
        torch.full((count, 1), 2.0, dtype=torch.float64), t.expand(count), draws(count)
    )
    exact = transition(torch.full((1, 1), 2.0, dtype=torch.float64), path.at(0.0), path.at(t))
    mean, std = float(exact.mean), float(exact.log_var.exp().sqrt())
    assert float(x.mean()) == pytest.approx(mean, abs=4 * std / count**0.5 + 0.03)
    assert float(x.std()) == pytest.approx(std, rel=4 / (2 * count) ** 0.5 + 0.03)


def test_what_needs_a_level_refuses_a_process_by_name() -> None:
    x = torch.zeros(2, 1)
    level = Path(SCHEDULES["linear"](), ve).at(0.5)
    schedule = SCHEDULES["linear"]()
    uses = {
        "denoiser": lambda: Denoiser(nn.Identity(), LINEAR, TARGETS["eps"], label=LABELS["none"])(x, level),
        "matching": lambda: Matching(LINEAR, WEIGHTS["simple"], Uniform(schedule))(Multiple(), x, draws(2)),
        "sampler": lambda: AnnealedLangevin(LINEAR, step_size=1e-3),
        "dynamics": lambda: dynamics(LINEAR).drift(x, torch.ones(2)),
        "grid": lambda: LINEAR.grid(10),
        "label": lambda: LABELS["gamma"](LINEAR, level),
    }
    for what, use in uses.items():
        with pytest.raises(ValueError, match="Process has no closed-form level") as refusal:
            use()
        assert "\n" not in str(refusal.value), what
    assert all(hasattr(Path, name) or name in ("schedule", "scale") for name in CLOSED_FORMS)
    assert copy.deepcopy(LINEAR).steps == LINEAR.steps
    with pytest.raises(AttributeError, match="gird"):
        _ = LINEAR.gird
    with pytest.raises(ValueError, match="steps = 0"):
        Process(LINEAR.dynamics, steps=0)
    with pytest.raises(ValueError, match="at least 1"):
        Simulated(LINEAR, count=0)


def test_a_network_of_order_one_is_scaled_to_a_score() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            assert torch.allclose(label, torch.tensor([999 * 0.25, 999.0], dtype=x.dtype))
            return torch.ones_like(x)

    t = torch.tensor([0.25, 1.0], dtype=torch.float64)
    answer = ProcessScore(One(), LINEAR)(torch.zeros(2, 3, dtype=torch.float64), t)
    alone = -1 / (NOISE * (t + t**2 / 2).sqrt())
    assert torch.allclose(answer[:, 0], alone)
    with_law = ProcessScore(One(), LINEAR, lambda x: 3 - x)(torch.ones(2, 3, dtype=torch.float64), t)
    assert torch.allclose(with_law[:, 0], 2 + alone)


def example() -> object:
    """examples/process.py as a module."""
    file = File(__file__).parents[2] / "examples" / "process.py"
    spec = util.spec_from_file_location("process_example", file)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_double_well_is_not_affine_and_its_boltzmann_law_is_stationary() -> None:
    module = example()
    process = module.double_well()  # type: ignore[attr-defined]
    now = torch.tensor([0.5], dtype=torch.float64)
    f = [float(process.dynamics.drift(torch.tensor([[x]], dtype=torch.float64), now)) for x in (0.0, 0.3, 0.6, 3.0)]
    assert f[0] == 0 < f[1], "the middle repels"
    assert f[3] < 0, "and what is far out comes back"
    assert abs(f[2] - 2 * f[1]) > 1
    count = 5000
    start = module.boltzmann(draws(count), torch.empty(count, 1, dtype=torch.float64))  # type: ignore[attr-defined]
    end = process.simulate(start, torch.ones(count, dtype=torch.float64), draws(count))
    for power in (2, 4):
        first, last = (start**power).mean(), (end**power).mean()
        assert float(last / first) == pytest.approx(1, abs=0.1)
    assert float((end > 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    assert math.isclose(float(start.mean()), 0, abs_tol=0.03)


def test_the_document_s_own_code_runs() -> None:
    text = (File(__file__).parents[2] / "docs" / "families" / "process.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(code, "process.md", "exec"), names)
    samples = names["samples"]
    assert isinstance(samples, Tensor)
    assert samples.shape == (64, 2)
    assert samples.isfinite().all()


@pytest.mark.slow
def test_a_double_well_s_data_comes_back() -> None:
    """Total variation below 0.1 between 4000 samples and the data's law on a 20 × 20 grid; 0.04 is their own noise."""
    result = example().plane(seconds=240, steps=900)  # type: ignore[attr-defined]
    assert result["total_variation"] < 0.1
