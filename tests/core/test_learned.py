"""Learned schedules: V1 and V2, their ends, their starts, and where their parameters live."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from logsnr.denoiser import LABELS, Denoiser
from logsnr.monotone import Monotone, inverse_softplus, softplus
from logsnr.path import Path
from logsnr.prediction import eps
from logsnr.scales import vp
from logsnr.schedules import SCHEDULES, Learned, NoiseSchedule
from logsnr.train.ema import MovingAverages
from logsnr.train.names import named_tensors

T01 = torch.linspace(0, 1, 1001, dtype=torch.float64)
COARSE = torch.linspace(0, 1, 301, dtype=torch.float64)
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def learned(**options: object) -> NoiseSchedule:
    return SCHEDULES["learned"](-10.0, 8.0, width=64, **options)  # type: ignore[arg-type]


def test_vp_in_terms_of_gamma() -> None:
    """V1: σ² = sigmoid(γ), α² = sigmoid(−γ), SNR = exp(−γ)."""
    path = Path(learned(init="cosine"), vp)
    with torch.no_grad():
        level = path.at(T01)
    assert torch.allclose(level.sigma**2, torch.sigmoid(level.gamma), rtol=1e-12)
    assert torch.allclose(level.alpha**2, torch.sigmoid(-level.gamma), rtol=1e-12)
    assert torch.allclose(level.log_snr.exp(), level.alpha**2 / level.sigma**2, rtol=1e-9)


def test_the_network_is_the_paper_s_composition_of_positive_layers() -> None:
    net = Monotone(8).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    w1, b1 = softplus(net.weight1), 0.3
    l1 = w1 * T01 + b1
    v2 = softplus(net.weight2) / w1  # l₂ of l₁(t) has these weights, and these offsets
    c2 = net.bias2 - v2 * b1
    hidden = torch.sigmoid(l1.unsqueeze(1) * v2 + c2)
    paper = l1 + hidden @ (softplus(net.weight3) / 8)
    assert (v2 > 0).all()
    assert torch.allclose(net(T01) + b1, paper, rtol=1e-13)


@pytest.mark.parametrize("ends", ["pinned", "learned"])
@pytest.mark.parametrize("init", ["linear", "beta_linear"])
def test_ends_are_exact_and_gamma_increases_through_any_training(ends: str, init: str) -> None:
    """An optimiser that pulls γ about as hard as it can."""
    schedule = learned(ends=ends, init=init)
    parameters = list(schedule.parameters())
    assert {p.dtype for p in parameters} == {torch.float32}
    optimizer = torch.optim.Adam(parameters, lr=0.3)
    generator = torch.Generator().manual_seed(0)
    for step in range(40):
        gamma = schedule(COARSE)
        low, high = (-10.0, 8.0) if ends == "pinned" else schedule.place(ENDS).tolist()  # type: ignore[operator]
        assert gamma[[0, -1]].tolist() == pytest.approx([low, high], abs=1e-12)
        assert (gamma.diff() > 0).all(), step
        optimizer.zero_grad()
        (gamma * torch.randn(301, dtype=torch.float64, generator=generator)).sum().mul(100).backward()
        optimizer.step()
    moved = abs(float(schedule(ENDS)[0].detach()) + 10)
    assert moved < 1e-12 if ends == "pinned" else moved > 0.1


@pytest.mark.parametrize(
    ("init", "edge", "most"), [("linear", 0.0, 2e-6), ("beta_linear", 0.03, 3e-3), ("cosine", 0.03, 3e-3)]
)
def test_it_starts_in_the_shape_it_is_told(init: str, edge: float, most: float) -> None:
    guide, schedule = SCHEDULES[init](), SCHEDULES["learned"](-10.0, 8.0, init=init)
    gamma = guide(guide.t_min + (1 - guide.t_min) * T01)
    wanted = (gamma - gamma[0]) / (gamma[-1] - gamma[0])
    inside = (edge <= T01) & (1 - edge >= T01)
    found = schedule.shape(T01).detach()  # type: ignore[operator]
    assert (found - wanted)[inside].abs().max() < most
    assert found.diff().max() * 1000 < 64, "no step is too quick to be learned from"


def test_a_line_with_learned_ends() -> None:
    schedule = SCHEDULES["learned_linear"](-6.0, 4.0)
    assert [p.shape for p in schedule.parameters()] == [(2,)]
    with torch.no_grad():
        schedule.shifts.copy_(torch.tensor([0.5, -2.0]))
    low, width = -5.5, math.log1p(math.exp(float(inverse_softplus(torch.tensor(10.0).double())) - 2.0))
    assert torch.allclose(schedule(T01), low + width * T01, rtol=1e-12)
    assert not list(SCHEDULES["learned_linear"](-6.0, 4.0, ends="pinned").parameters())


def test_the_lowest_level_follows_from_the_distance_of_the_data_s_values() -> None:
    def ratio(levels: int) -> float:
        return math.exp(0.5 * float(SCHEDULES["learned"](levels=levels)(ENDS[0]).detach())) * (levels - 1) / 2

    assert float(SCHEDULES["learned"]()(ENDS[0]).detach()) == pytest.approx(-13.3, abs=1e-12)
    assert ratio(17) == pytest.approx(ratio(256), rel=1e-12)
    assert ratio(65536) == pytest.approx(math.exp(-13.3 / 2) * 255 / 2, rel=1e-9)


def test_value_and_slope_together_are_those_apart() -> None:
    path = Path(learned(init="beta_linear"), vp)
    seen: list[Tensor] = []

    def through(value: Tensor) -> Tensor:
        seen.append(value)
        return value

    level, slope = path.moving(T01, through)
    assert torch.allclose(level.gamma, path.at(T01).gamma, rtol=1e-13)
    assert torch.allclose(slope, path.slope(T01).gamma, rtol=1e-11)
    assert torch.allclose(level.gamma, -10 + 18 * seen[0], rtol=1e-12)
    assert torch.allclose(slope, 18 * seen[1], rtol=1e-12)
    fixed = Path(SCHEDULES["cosine"](), vp)
    level, slope = fixed.moving(T01, lambda value: value * torch.nan)
    assert torch.equal(slope, fixed.slope(T01).gamma)
    assert torch.equal(level.gamma, fixed.at(T01).gamma)


def test_a_lower_precision_around_it_changes_nothing() -> None:
    schedule, t = learned(), T01.float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = schedule(t)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, schedule(t))


def test_no_grad_and_inference_mode_give_the_same_numbers() -> None:
    path = Path(learned(init="cosine"), vp)
    expected = [path.at(T01).gamma.detach(), path.slope(T01).gamma.detach(), path.grid(9, "lowest").sigma.detach()]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            found = [path.at(T01).gamma, path.slope(T01).gamma, path.grid(9, "lowest").sigma]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert not any(value.requires_grad for value in found)


def test_its_parameters_are_the_model_s() -> None:
    """Averaged, saved and moved with the rest; the pinned ends are numbers and stay where they are."""
    model = Denoiser(torch.nn.Linear(2, 2), Path(learned(), vp), eps, label=LABELS["gamma"])
    names = {f"path.schedule.interior.{name}" for name in ("weight1", "weight2", "bias2", "weight3")}
    assert {"path.schedule.shifts", *names} < named_tensors(model).keys()
    averages = MovingAverages(model, [10])
    before = model.path.at(0.3).gamma.detach()
    with torch.no_grad():
        model.path.schedule.interior.weight3[:20] += 1  # type: ignore[union-attr, index]
    after = model.path.at(0.3).gamma.detach()
    averages.update(1000, 1)
    with averages.swap():
        between = model.path.at(0.3).gamma.detach()
    assert abs(after - before) > 1e-2
    assert min(before, after) < between < max(before, after)
    half = model.to(torch.float64).path.at(torch.tensor([0.0, 1.0]).double()).gamma
    assert half.tolist() == pytest.approx([-10, 8], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ends": "free"}, "ends='free'.*allowed: ends pinned or learned"),
        ({"init": "cosin"}, "unknown schedule 'cosin'"),
        ({"gamma_min": 6.0}, "gamma_min=6, gamma_max=5.0; allowed: .*gamma_min < gamma_max"),
        ({"width": 1}, "width = 1"),
    ],
)
def test_bad_ones_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SCHEDULES["learned"](**options)  # type: ignore[arg-type]


def test_the_schedule_itself_can_be_any_increasing_module() -> None:
    class Square(torch.nn.Module):
        def forward(self, t: Tensor) -> Tensor:
            return (1 + t) ** 2

    schedule = Learned(Square(), -4.0, 2.0, ends="pinned")
    assert torch.allclose(schedule(T01), -4 + 6 * ((1 + T01) ** 2 - 1) / 3, rtol=1e-12)
