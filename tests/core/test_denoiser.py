"""Denoiser: labels, dtypes, and the change of variables between paths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from logsnr.denoiser import LABELS, Clipped, Denoiser, index_label
from logsnr.level import Level
from logsnr.path import Path
from logsnr.prediction import TARGETS, eps
from logsnr.scales import SCALES
from logsnr.schedules import SCHEDULES, BetaLinear, Linear, geometric, table_of_betas


class Probe(nn.Module):
    """A fixed smooth function of input and label, which remembers what it was shown."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs, self.seen = outputs, ()

    def forward(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
        self.seen = (x, label, condition)
        out = torch.tanh(1.3 * x) + 0.1 * label.reshape(-1, *(1,) * (x.ndim - 1)).sin()
        return torch.cat([out + i for i in range(self.outputs)], 1)


def denoiser(path: Path, target: str = "eps", label: str = "gamma", **options: object) -> Denoiser:
    return Denoiser(Probe(), path, TARGETS[target], label=LABELS[label], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [10, 50, 1000, 4000])
def test_the_index_of_every_knot_is_exact(steps: int) -> None:
    table = Path(table_of_betas(torch.full((steps,), 0.004, dtype=torch.float64)), SCALES["vp"])
    knots = table.at(torch.arange(1, steps + 1, dtype=torch.float64) / steps)
    assert index_label(table, knots).tolist() == list(range(steps))
    foreign = Path(Linear(-20, 20), SCALES["ve"]).at_gamma(knots.gamma)
    assert index_label(table, foreign).tolist() == list(range(steps))
    assert index_label(table, table.grid(steps)[:-1]).tolist() == list(range(steps))[::-1]


def test_a_foreign_level_is_read_between_its_neighbours_and_clamped_beyond_the_ends() -> None:
    table = Path(SCHEDULES["beta_table"](), SCALES["vp"])
    middle = table.schedule(torch.tensor([0.2345], dtype=torch.float64))
    far = torch.tensor([-40.0, 40.0], dtype=torch.float64)
    foreign = Path(Linear(-50, 50), SCALES["ve"]).at_gamma(torch.cat([middle, far]))
    assert index_label(table, foreign).tolist() == pytest.approx([233.5, 0, 999], abs=1e-6)


def test_other_labels() -> None:
    path = Path(BetaLinear(), SCALES["vp"])
    level = path.at(torch.tensor([0.2, 1.0], dtype=torch.float64))
    assert LABELS["time"](path, level).tolist() == pytest.approx([199.8, 999])
    assert torch.equal(LABELS["gamma"](path, level), level.gamma)
    ve = Path(geometric(), SCALES["ve"])
    assert torch.allclose(LABELS["log_sigma"](ve, ve.at(level.t)), 0.25 * ve.at(level.t).log_sigma)
    with pytest.raises(ValueError, match="allowed here: time, gamma, log_sigma"):
        index_label(path, level)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("own", SCALES)
@pytest.mark.parametrize("other", SCALES)
def test_the_same_network_read_in_other_units_says_the_same(target: str, own: str, other: str) -> None:
    model = denoiser(Path(Linear(-9, 9), SCALES[own]), target)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(7, 3, 2, dtype=torch.float64, generator=generator)
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    here, there = model.path.at(t), Path(Linear(-9, 9), SCALES[other]).at(t)
    # the state of the other path at the same γ: x/α is the same
    y = x * ((there.alpha / here.alpha).reshape(-1, 1, 1))
    a, b = model(x, here), model(y, there)
    assert torch.allclose(a.x0, b.x0, rtol=1e-12, atol=1e-12 / float(here.alpha.min()))
    assert torch.allclose(a.eps, b.eps, rtol=1e-12, atol=1e-10)


def test_a_level_of_pure_noise_is_rescaled_by_the_noise() -> None:
    noise = Level(*(torch.tensor(v, dtype=torch.float64) for v in (1.0, torch.inf, -torch.inf, 0.0)))
    model = denoiser(Path(Linear(-9, 9), SCALES["vp"]), "v", "time")
    x = torch.ones(2, 3, dtype=torch.float64)
    assert torch.equal(model(x, noise).eps, x)
    assert torch.equal(model.network.seen[0], x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_stay_float64_and_the_network_sees_the_dtype_of_the_data(dtype: torch.dtype) -> None:
    model = denoiser(Path(SCHEDULES["beta_table"](), SCALES["vp"]), label="index")
    level, x = model.path.at(torch.tensor([0.3, 0.7], dtype=torch.float64)), torch.ones(2, 3, dtype=dtype)
    prediction = model(x, level, classes=torch.tensor([4, 5]))
    seen, label, condition = model.network.seen
    assert (level.gamma.dtype, seen.dtype, label.dtype) == (torch.float64, dtype, dtype)
    assert prediction.x0.dtype == prediction.eps.dtype == dtype
    assert label.tolist() == [299, 699]
    assert condition["classes"].tolist() == [4, 5]
    model(x, model.path.at(0.5))
    assert model.network.seen[1].tolist() == [499, 499]


def test_inputs_multiply_what_the_network_sees_and_nothing_else() -> None:
    path = Path(Linear(-4, 4), SCALES["ve"])
    model = denoiser(path, inputs=lambda level: 1 / (1 + level.sigma**2).sqrt())
    level, x = path.at(0.8), torch.full((2, 2), 3.0, dtype=torch.float64)
    prediction = model(x, level)
    assert torch.allclose(model.network.seen[0], x / (1 + level.sigma**2).sqrt())
    assert torch.equal(prediction.x, x)


def test_spread_is_the_second_half_of_the_channels() -> None:
    path = Path(Linear(-4, 4), SCALES["vp"])
    x, level = torch.zeros(2, 3, dtype=torch.float64), path.at(0.5)
    prediction = Denoiser(Probe(2), path, eps, label=LABELS["gamma"], spread=True)(x, level)
    assert prediction.spread is not None
    assert prediction.value.shape == x.shape
    assert torch.equal(prediction.spread, prediction.value + 1)
    assert denoiser(path)(x, level).spread is None


def test_autocast_is_for_the_network_alone() -> None:
    path = Path(Linear(-4, 4), SCALES["vp"])
    network = nn.Linear(3, 3)
    wrapped = Denoiser(_Unlabelled(network), path, eps, label=LABELS["gamma"], autocast=torch.bfloat16)
    x, level = torch.randn(2, 3), path.at(0.5)
    prediction = wrapped(x, level)
    assert prediction.value.dtype == torch.float32
    assert torch.equal(prediction.value, prediction.value.bfloat16().float())
    assert torch.equal(prediction.x, x)


class _Unlabelled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.network(x)
        return out


def test_clipped_model() -> None:
    path = Path(Linear(-4, 4), SCALES["vp"])
    x, level = torch.full((2, 3), 9.0), path.at(0.3)
    assert (Clipped(denoiser(path), -1, 1)(x, level).x0 == 1).all()
