"""Averages: closed forms for parameters at rest and in steady motion, the warm-up criterion, restoring."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from logsnr.train.ema import MovingAverages, decay, lerp
from logsnr.train.names import named_tensors


class Wrapper(nn.Module):
    """Names its content as DistributedDataParallel (`module`) or torch.compile (`_orig_mod`) do."""

    def __init__(self, name: str, content: nn.Module) -> None:
        super().__init__()
        self.add_module(name, content)


class Point(nn.Module):
    """One parameter that the test moves by hand, and a buffer."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def put(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)


def average(averages: MovingAverages, group: str = "ema") -> Tensor:
    return averages.state()[group]["weight"]


@pytest.mark.parametrize("images", [1, 5, 20])
def test_half_of_the_past_is_left_after_one_half_life_whatever_the_batch_size(images: int) -> None:
    point = Point(1.0)
    averages = MovingAverages(point, [100], warmup_ratio=math.inf)
    point.put(0.0)
    for seen in range(images, 101, images):
        averages.update(seen, images)
    assert torch.allclose(average(averages), torch.full((3,), 0.5, dtype=torch.float64), rtol=1e-13)


def test_parameter_at_rest_is_its_own_average_exactly() -> None:
    point = Point(0.1)
    averages = MovingAverages(point, [7, 1000])
    for seen in range(1, 50):
        averages.update(seen, 1)
    assert torch.equal(average(averages), point.weight)
    assert torch.equal(average(averages, "ema-1000"), point.weight)


def test_steady_motion_lags_by_the_geometric_series() -> None:
    """p_k = k from 0: a_k = k − d (1 − d^k) / (1 − d)."""
    point = Point()
    averages = MovingAverages(point, [10], warmup_ratio=math.inf)
    d = 0.5 ** (1 / 10)
    for k in range(1, 200):
        point.put(float(k))
        averages.update(k, 1)
        expected = k - d * (1 - d**k) / (1 - d)
        assert average(averages)[0].item() == pytest.approx(expected, rel=1e-12)


def test_fixed_decay_replays_the_textbook_recurrence() -> None:
    values = torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shadow, expected = values[0].clone(), values[0].clone()
    for value in values[1:]:
        lerp([shadow], [value], 0.99)
        expected = (1 - 0.99) * value + 0.99 * expected
        assert (shadow - expected).abs().max() < 1e-15


@pytest.mark.parametrize("images", [1, 128])
def test_at_step_500_the_warm_average_has_left_the_start(images: int) -> None:
    """Decay 0.9999 is the half-life n ln 2 / −ln 0.9999; without warm-up 95 % of the start is still there."""
    half_life = images * math.log(2) / -math.log(0.9999)
    distance = {}
    for ratio in (0.05, math.inf):
        a = 0.0
        for k in range(1, 501):
            d = decay(k * images, images, half_life_images=half_life, warmup_ratio=ratio)
            a = d * a + (1 - d) * k
        distance[ratio] = (500 - a) / 500
    assert distance[0.05] == pytest.approx(1 / (1 + math.log(2) / 0.05), abs=2e-3)
    assert distance[0.05] < 0.1 < 0.95 < distance[math.inf]


def test_decay_depends_on_images_alone_and_ends_at_the_half_life() -> None:
    assert decay(64, 64, half_life_images=1e6) == pytest.approx(0.5**20)
    assert decay(10**9, 50, half_life_images=100) == 0.5**0.5


def test_swapped_weights_are_the_average_inside_and_bit_identical_outside() -> None:
    point = Point(1.0)
    averages = MovingAverages(point, [4, 8], warmup_ratio=math.inf)
    point.put(3.0)
    averages.update(4, 4)
    raw, memory = point.weight.detach().clone(), point.weight.data_ptr()
    with averages.swap() as module:
        assert module is point
        assert torch.allclose(point.weight, torch.full_like(raw, 2.0))
    with averages.swap(8):
        assert torch.allclose(point.weight, torch.full_like(raw, 3 - 2 * 0.5**0.5))
    with pytest.raises(RuntimeError, match="shapes"), averages.swap(8):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert torch.equal(point.weight, raw)
    assert point.weight.data_ptr() == memory
    assert torch.allclose(average(averages), torch.full_like(raw, 2.0))


def test_state_goes_round_with_current_buffers_and_canonical_names() -> None:
    point = Point(1.0)
    averages = MovingAverages(Wrapper("_orig_mod", point), [4, 8])
    point.put(2.0)
    point.count.fill_(5)
    averages.update(8, 4)
    saved = {group: {n: t.clone() for n, t in tree.items()} for group, tree in averages.state().items()}
    assert list(saved) == ["ema", "ema-8"]
    assert list(saved["ema"]) == ["weight", "count"]
    assert saved["ema"]["count"] == 5
    fresh = MovingAverages(Point(0.0), [4, 8])
    fresh.load_state(saved)
    for group in saved:
        assert torch.equal(average(fresh, group), saved[group]["weight"])
    with pytest.raises(ValueError, match=r"'ema-9'.*ema, ema-8"):
        MovingAverages(Point(), [4, 9]).load_state(saved)


def test_tied_weights_have_one_average_under_both_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    averages = MovingAverages(model, [10], warmup_ratio=math.inf)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.zero_()
    averages.update(10, 10)
    tree = averages.state()["ema"]
    assert tree["0.weight"] is tree["1.weight"]
    assert torch.allclose(tree["0.weight"], start / 2)


@pytest.mark.parametrize("half_lives", [[], [5, 5], [0], [-3]])
def test_senseless_half_lives_are_refused(half_lives: list[int]) -> None:
    with pytest.raises(ValueError, match="half_lives_images"):
        MovingAverages(Point(), half_lives)


def test_half_precision_parameters_are_refused_and_unknown_averages_named() -> None:
    with pytest.raises(ValueError, match=r"torch.bfloat16"):
        MovingAverages(nn.Linear(1, 1).bfloat16(), [5])
    averages = MovingAverages(Point(), [5, 50])
    with pytest.raises(ValueError, match="half-life 7; there are 5, 50"), averages.swap(7):
        pass


def test_wrappers_leave_no_trace_in_names_and_collisions_are_refused() -> None:
    plain = nn.Sequential(nn.Linear(1, 1))
    assert list(named_tensors(Wrapper("module", Wrapper("_orig_mod", plain)))) == ["0.weight", "0.bias"]
    clash = Wrapper("module", nn.Linear(1, 1))
    clash.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="called weight"):
        named_tensors(clash)
