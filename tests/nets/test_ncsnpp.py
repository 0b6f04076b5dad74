from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from logsnr.nets import NCSNpp, build
from logsnr.nets.progressive import InputResidual, InputSkip, OutputResidual, OutputSkip

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([-2.0, 1.5])
SMALL: dict[str, Any] = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "fourier_scale": 0.3}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def closed_form(n: int, multipliers: list[int], blocks: int, *, fourier: bool, residual: bool) -> int:
    """Parameters of the networks of Score SDE for 32 × 32 pictures with attention at 16 × 16, added up by hand."""

    def conv(a: int, b: int, k: int = 9) -> int:
        return k * a * b + b

    def block(a: int, b: int, *, change: bool = False) -> int:
        shortcut = conv(a, b, 1) if a != b or change else 0
        return 2 * a + conv(a, b) + conv(4 * n, b, 1) + 2 * b + conv(b, b) + shortcut

    def attention(a: int) -> int:
        return 2 * a + 4 * conv(a, a, 1)

    widths = [n * m for m in multipliers]
    total = conv(2 * n if fourier else n, 4 * n, 1) + conv(4 * n, 4 * n, 1) + conv(3, n)
    kept, a, seen = [n], n, 3
    for level, b in enumerate(widths):
        for _ in range(blocks):
            total += block(a, b) + (attention(b) if level == 1 else 0)
            kept, a = [*kept, b], b
        if b is not widths[-1] or level < len(widths) - 1:
            total += block(b, b, change=True) + (conv(seen, b) if residual else 0)
            kept, seen = [*kept, b], b
    total += 2 * block(a, a) + attention(a)
    for level, b in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            total += block(a + kept.pop(), b)
            a = b
        total += (attention(b) if level == 1 else 0) + (block(b, b, change=True) if level else 0)
    return total + 2 * n + conv(n, 3)


@pytest.mark.parametrize(
    ("name", "blocks", "fourier", "millions"),
    [
        ("ncsnpp-cifar10", 4, True, 62.8),
        ("ncsnpp-cifar10-deep", 8, True, 107.6),
        ("ddpmpp-cifar10", 4, False, 61.8),
        ("ddpmpp-cifar10-deep", 8, False, 106.6),
    ],
)
def test_the_papers_networks_have_their_parameters(name: str, blocks: int, fourier: bool, millions: float) -> None:
    with torch.device("meta"):
        count = parameters(build(name, (3, 32, 32)))
    assert count == closed_form(128, [1, 2, 2, 2], blocks, fourier=fourier, residual=fourier)
    assert round(count / 1e6, 1) == millions


def test_the_way_down_and_up_of_a_new_network_keep_the_size_of_the_features() -> None:
    """With every branch silent and sums over √2, three blocks on the way down and two in the middle leave 2^(−5/2)."""
    network = NCSNpp((1, 8, 8), **{**SMALL, "multipliers": [1], "blocks": 3, "progressive_input": "none"}).eval()
    x = torch.randn(2, 1, 8, 8)
    seen: list[torch.Tensor] = []
    network.get_submodule("middle").register_forward_hook(lambda module, given, result: seen.append(result))
    network(x, LABEL)
    torch.testing.assert_close(seen[0], 2 ** (-5 / 2) * network.stem(x))


def test_a_skip_shows_the_halved_picture(awaken: Awaken) -> None:
    picture, h = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    for combine in ("sum", "cat"):
        joined = awaken(InputSkip(2, 3, 5, kind="box", combine=combine))
        conv = joined.get_submodule("conv")
        expected = conv(F.avg_pool2d(picture, 2))
        features, smaller = joined(h, picture)
        torch.testing.assert_close(smaller, F.avg_pool2d(picture, 2))
        torch.testing.assert_close(features, expected + h if combine == "sum" else torch.cat([expected, h], 1))


def test_the_output_is_the_sum_of_what_each_level_says(awaken: Awaken) -> None:
    coarse, fine = (awaken(OutputSkip(2, 8, 3, kind="box")) for _ in range(2))
    small, large = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 8, 8)
    _, picture = coarse(small, None)
    torch.testing.assert_close(picture, coarse.get_submodule("read")(small))
    kept, picture_ = fine(large, picture)
    assert kept is large
    doubled = F.interpolate(picture, scale_factor=2.0)
    torch.testing.assert_close(picture_, doubled + fine.get_submodule("read")(large))


@pytest.mark.parametrize("way", [InputResidual, OutputResidual])
def test_a_residual_picture_replaces_the_features(awaken: Awaken, way: type[nn.Module]) -> None:
    part = awaken(way(2, 3, 5, kind="fir", gain=0.5))  # type: ignore[call-arg]
    h = torch.randn(2, 5, 4, 4)
    before = torch.randn(2, 3, *((8, 8) if way is InputResidual else (2, 2)))
    change = part.get_submodule("shrink" if way is InputResidual else "grow")
    features, picture = part(h, before)
    assert features is picture
    torch.testing.assert_close(features, 0.5 * (change(before) + h))


@pytest.mark.parametrize("given", ["progressive_input", "progressive_output"])
@pytest.mark.parametrize("way", ["skip", "residual"])
def test_the_picture_reaches_the_output_past_silent_features(given: str, way: str, awaken: Awaken) -> None:
    """Every residual block cut off from its input: only the progressive way is left."""
    network = awaken(NCSNpp((1, 8, 8), **{**SMALL, "progressive_input": "none", given: way}))
    x = torch.randn(2, 1, 8, 8)
    y = network(x, LABEL)
    parts = [m for m in network.modules() if type(m).__name__ in ("InputSkip", "InputResidual", "OutputSkip")]
    parts += [m for m in network.modules() if type(m).__name__ in ("FirstResidual", "OutputResidual")]
    assert parts
    with torch.no_grad():
        for parameter in parts[0].parameters():
            parameter.zero_()
    assert not torch.allclose(network(x, LABEL), y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": "conv"}, "unknown resample 'conv'; known: box, fir"),
        ({"progressive_input": "cat"}, "unknown progressive_input 'cat'; known: none, skip, residual"),
        ({"progressive_output": "sum"}, "unknown progressive_output 'sum'; known: none, skip, residual"),
        ({"combine": "mean"}, "unknown combine 'mean'; known: sum, cat"),
        ({"embedding": "learned"}, "unknown embedding 'learned'; known: fourier, positional"),
        ({"attention": [8]}, r"attention factors \[8\] not all among the levels' \[1, 2\]"),
        ({"channels": 0}, "positive integers"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NCSNpp((1, 8, 8), **{**SMALL, **options})
