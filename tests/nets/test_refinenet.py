from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.nets import InstanceNorm, RefineNet, build
from logsnr.nets.refine import POOLS, ChainedPooling, Fusion, Refinement, Residual, Unit

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([1.0, 3.0])
ROWS = torch.tensor([[0, 0], [2, 0]])
SMALL: dict[str, Any] = {"channels": 8, "multipliers": [1, 2, 2], "dilations": [1, 1, 2]}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def closed_form(n: int, levels: int, *, everywhere: bool) -> int:
    """Parameters of NCSN and NCSNv2 for 32 × 32 pictures, widths n, 2n, 2n, 2n, added up by hand."""
    row = 3 * max(1, levels)

    def norm(a: int) -> int:
        return row * a

    def inner(a: int) -> int:
        return norm(a) if everywhere else 0

    def conv(a: int, b: int, k: int = 9) -> int:
        return k * a * b + b

    def same(a: int) -> int:
        return 2 * norm(a) + 2 * conv(a, a)

    def unit(a: int) -> int:
        return 2 * (inner(a) + 9 * a * a)

    def refine(inputs: list[int], b: int, units: int) -> int:
        fusion = sum(inner(a) + conv(a, b) for a in inputs) if len(inputs) > 1 else 0
        return sum(2 * unit(a) for a in inputs) + fusion + 2 * (inner(b) + 9 * b * b) + units * unit(b)

    w = 2 * n
    halve = 2 * norm(n) + conv(n, n) + conv(n, w) + conv(n, w, 1)
    dilate = 2 * norm(w) + 3 * conv(w, w)
    stages = 2 * same(n) + halve + same(w) + 2 * (dilate + same(w))
    refinements = refine([w], w, 1) + refine([w, w], w, 1) + refine([w, w], n, 1) + refine([n, n], n, 3)
    return conv(3, n) + stages + refinements + norm(n) + conv(n, 3)


def test_ncsnv2_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        count = parameters(build("refinenet-cifar10", (3, 32, 32)))
        told = parameters(build("refinenet-cifar10-levels", (3, 32, 32)))
    assert count == closed_form(128, 0, everywhere=False)
    assert told == closed_form(128, 10, everywhere=True)
    assert round(count / 1e6, 1) == 29.7


@pytest.mark.parametrize("sizes", [(9,), (5, 4), (3, 2, 4)])
def test_instance_norm_is_its_formula(awaken: Awaken, sizes: tuple[int, ...]) -> None:
    norm = awaken(InstanceNorm(5, levels=3, num_classes=2)).double()
    x, rows = 3 + torch.randn(2, 5, *sizes).double(), torch.tensor([[0, 2], [2, 1]])
    table = norm.get_submodule("levels").weight[rows[:, 0]] + norm.get_submodule("classes").weight[rows[:, 1]]
    y = norm(x, rows)
    for b in range(2):
        mu = [x[b, k].mean() for k in range(5)]
        m = sum(mu) / 5
        v = (sum((u - m) ** 2 for u in mu) / 5 + 1e-5).sqrt()
        for k in range(5):
            gamma, beta, alpha = (table[b, part * 5 + k] for part in range(3))
            s = ((x[b, k] - mu[k]).square().mean() + 1e-5).sqrt()
            torch.testing.assert_close(y[b, k], gamma * (x[b, k] - mu[k]) / s + beta + alpha * (mu[k] - m) / v)


def test_instance_norm_drops_a_shift_of_all_channels_and_shows_that_of_one() -> None:
    norm, rows = InstanceNorm(4), torch.zeros(2, 2, dtype=torch.int64)
    nn.init.ones_(norm.levels.weight[:, 8:])
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(norm(x + 5.0, rows), norm(x, rows), rtol=1e-3, atol=1e-3)
    tinted = x.clone()
    tinted[:, 0] += 1e4  # means 1, 0, 0, 0 times 1e4: minus their mean over their deviation, 3/√3 and −1/√3
    shown = norm(tinted, rows).mean(dim=(2, 3))
    torch.testing.assert_close(shown, torch.tensor([3.0, -1, -1, -1]).expand(2, 4) / 3**0.5, rtol=0, atol=2e-3)


def test_new_rows_are_near_one_near_one_and_zero() -> None:
    gamma, beta, alpha = InstanceNorm(64, levels=100).levels.weight.chunk(3, dim=1)
    assert not beta.any()
    for part in (gamma, alpha):
        assert abs(part.mean() - 1) < 0.002
        assert part.std().item() == pytest.approx(0.02, rel=0.05)


def test_pooling_is_the_mean_or_the_maximum_of_a_window_of_five() -> None:
    x = torch.randn(2, 3, 7)
    windows = F.pad(x, (2, 2)).unfold(-1, 5, 1)
    torch.testing.assert_close(POOLS["average"](x), windows.mean(dim=-1))
    infinite = F.pad(x, (2, 2), value=-torch.inf).unfold(-1, 5, 1)
    torch.testing.assert_close(POOLS["max"](x), infinite.amax(dim=-1))


def test_a_unit_adds_two_convolutions_and_chained_pooling_adds_its_chain(awaken: Awaken) -> None:
    x = torch.randn(2, 4, 6, 5)
    unit = awaken(Unit(2, 4, None))
    first, second = unit.get_submodule("convs").children()
    torch.testing.assert_close(unit(x, ROWS), x + second(F.elu(first(F.elu(x)))))
    chained = awaken(ChainedPooling(2, 4, norm=None, pool="max"))
    first, second = chained.get_submodule("convs").children()
    one = first(F.max_pool2d(F.elu(x), 5, 1, 2))
    torch.testing.assert_close(chained(x, ROWS), F.elu(x) + one + second(F.max_pool2d(one, 5, 1, 2)))


def test_fusion_is_linear_interpolation_that_keeps_the_corners(awaken: Awaken) -> None:
    fusion = awaken(Fusion(1, [1, 1], 1, None))
    with torch.no_grad():
        for conv in fusion.get_submodule("convs").children():
            conv.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
            conv.bias.zero_()
    coarse = torch.tensor([0.0, 7.0]).reshape(1, 1, 2)
    fused = fusion([torch.ones(1, 1, 8), coarse], ROWS[:1])
    torch.testing.assert_close(fused.flatten(), 1 + torch.arange(8.0))


def test_a_stage_halves_or_dilates(awaken: Awaken) -> None:
    def norm(channels: int) -> nn.Module:
        return InstanceNorm(channels)

    x, rows = torch.randn(2, 4, 8, 8), torch.zeros(2, 2, dtype=torch.int64)
    halve = awaken(Residual(2, 4, 6, norm=norm, dilation=1, way="halve"))
    full = halve.conv2(F.elu(halve.norm2(halve.conv1(F.elu(halve.norm1(x, rows))), rows)))
    expected = F.avg_pool2d(full, 2) + F.avg_pool2d(halve.shortcut(x), 2)
    torch.testing.assert_close(halve(x, rows), expected)
    dilate = awaken(Residual(2, 4, 6, norm=norm, dilation=4, way="dilate"))
    assert dilate(x, rows).shape == (2, 6, 8, 8)
    assert [conv.dilation for conv in (dilate.conv1, dilate.conv2, dilate.shortcut)] == [(4, 4)] * 3


def test_a_refinement_has_the_size_of_its_finest_input() -> None:
    refinement = Refinement(2, [4, 6], 5, units=3, norm=None, pool="max")
    assert refinement(torch.randn(2, 4, 8, 6), torch.randn(2, 6, 4, 3), ROWS).shape == (2, 5, 8, 6)


def test_every_level_has_its_own_function_and_labels_are_rounded_and_held(awaken: Awaken) -> None:
    network = awaken(RefineNet((1, 8, 8), levels=4, norm="everywhere", **SMALL))
    x = torch.randn(1, 1, 8, 8)

    def at(label: float) -> Tensor:
        return network(x, torch.tensor([label]))

    answers = [at(float(level)) for level in range(4)]
    assert all(not torch.allclose(a, b) for k, a in enumerate(answers) for b in answers[:k])
    assert torch.equal(at(1.9999), at(2.0))
    assert torch.equal(at(-3.0), at(0.0))
    assert torch.equal(at(12.0), at(3.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "mean"}, "unknown pool 'mean'; known: max, average"),
        ({"norm": "batch"}, "unknown norm 'batch'; known: stages, everywhere"),
        ({"dilations": [1, 1]}, r"one dilation a multiplier; got \[1, 1\] for \[1, 2, 2\]"),
        ({"levels": -1}, "levels at least 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RefineNet((1, 8, 8), **{**SMALL, **options})
