"""What holds for every network on a grid, whatever it is inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.nets import NETWORKS
from logsnr.nets.layers import margins

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([1.0, 3.0])

_NCSNPP: dict[str, Any] = {"channels": 8, "multipliers": [1, 2, 1], "blocks": 1, "attention": [2], "fourier_scale": 0.3}
_REFINENET: dict[str, Any] = {"channels": 8, "multipliers": [1, 2, 2], "dilations": [1, 1, 2]}
_DIT: dict[str, Any] = {"width": 12, "depth": 2, "heads": 2, "frequencies": 8}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"channels": 8, "multipliers": [1, 2, 1], "blocks": 1, "attention": [2]}),
    "ncsnpp": ("ncsnpp", _NCSNPP),
    "ncsnpp-skips": ("ncsnpp", _NCSNPP | {"progressive_input": "skip", "progressive_output": "skip"}),
    "ncsnpp-cat": ("ncsnpp", _NCSNPP | {"progressive_input": "skip", "combine": "cat", "rescale": False}),
    "ncsnpp-residual": ("ncsnpp", _NCSNPP | {"progressive_output": "residual", "embedding": "positional"}),
    "ddpmpp": ("ncsnpp", _NCSNPP | {"resample": "box", "progressive_input": "none", "embedding": "positional"}),
    "refinenet": ("refinenet", _REFINENET),
    "refinenet-levels": ("refinenet", _REFINENET | {"levels": 5, "norm": "everywhere", "pool": "average"}),
    "dit": ("dit", _DIT),
    "dit-3": ("dit", _DIT | {"patch": 3}),
}
MULTIPLE = {"unet": 4, "ncsnpp": 4, "refinenet": 2, "dit": 2}
every = pytest.mark.parametrize("case", CASES)


def make(case: str, shape: tuple[int, ...], **options: Any) -> nn.Module:
    name, known = CASES[case]
    return NETWORKS[name](shape, **{**known, **options})


@every
def test_a_new_network_answers_exactly_zero(case: str) -> None:
    network = make(case, (2, 8, 8), out_channels=3, num_classes=2)
    y = network(torch.randn(2, 2, 8, 8), LABEL)
    assert y.shape == (2, 3, 8, 8)
    assert not y.any()


@every
@pytest.mark.parametrize("sizes", [(13,), (12, 8), (7, 5), (5, 2, 6), (1, 1)])
def test_any_size_is_the_crop_of_the_padded_run(awaken: Awaken, case: str, sizes: tuple[int, ...]) -> None:
    network = awaken(make(case, (3, *sizes), out_channels=5))
    x = torch.randn(2, 3, *sizes)
    edges = margins(sizes, CASES[case][1].get("patch", MULTIPLE[CASES[case][0]]))
    padded = F.pad(x, [n for edge in reversed(edges) for n in edge])
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(sizes, edges, strict=True))
    y = network(x, LABEL)
    assert y.shape == (2, 5, *sizes)
    assert torch.equal(y, network(padded, LABEL)[(..., *inside)])


@every
def test_label_and_class_reach_their_own_row_only(awaken: Awaken, case: str) -> None:
    network = awaken(make(case, (1, 8, 8), num_classes=3))
    x, classes = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    base = network(x, LABEL, classes=classes)
    with_level = network(x, torch.tensor([1.0, 2.0]), classes=classes)
    with_class = network(x, LABEL, classes=torch.tensor([0, 2]))
    assert torch.equal(base[0], with_level[0])
    assert torch.equal(base[0], with_class[0])
    assert not torch.allclose(base[1], with_class[1])
    assert torch.allclose(base[1], with_level[1]) == (case == "refinenet"), "NCSNv2 knows no level, all others do"


@every
def test_no_class_is_the_class_after_the_last(awaken: Awaken, case: str) -> None:
    network, x = awaken(make(case, (1, 8, 8), num_classes=3)), torch.randn(2, 1, 8, 8)
    assert torch.equal(network(x, LABEL), network(x, LABEL, classes=torch.tensor([3, 3])))
    assert not torch.allclose(network(x, LABEL), network(x, LABEL, classes=torch.tensor([2, 2])))
    with pytest.raises(ValueError, match="num_classes = 0"):
        make(case, (1, 8, 8))(x, LABEL, classes=torch.tensor([0, 1]))


@every
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_learns(awaken: Awaken, case: str, checkpointing: bool) -> None:
    network = awaken(make(case, (2, 8, 8), num_classes=1, checkpointing=checkpointing)).train()
    network(torch.randn(2, 2, 8, 8), LABEL, classes=torch.tensor([0, 1])).square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@every
def test_checkpointing_gives_bit_equal_gradients(awaken: Awaken, case: str) -> None:
    dropout = {} if case.startswith("refinenet") else {"dropout": 0.3}

    def gradients(checkpointing: bool) -> list[Tensor]:
        torch.manual_seed(0)  # the random frequencies of a label are not parameters
        network = awaken(make(case, (2, 8, 8), checkpointing=checkpointing, **dropout)).train()
        x = torch.linspace(-1, 1, 256).reshape(2, 2, 8, 8).requires_grad_()
        torch.manual_seed(1)
        return list(torch.autograd.grad(network(x, LABEL).square().mean(), [x, *network.parameters()]))

    plain, recomputed = gradients(False), gradients(True)
    assert all(map(torch.equal, plain, recomputed))
    assert plain[0].any()


@every
def test_gradients_are_those_of_the_function(awaken: Awaken, case: str) -> None:
    """First and second derivatives with respect to x: what sliced score matching and energies need."""
    network = awaken(make(case, (1, 4, 4))).double()
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn_like(x)

    def gradient(x: Tensor) -> Tensor:
        return torch.autograd.grad(first(x), x, create_graph=True)[0]

    def first(x: Tensor) -> Tensor:
        return (network(x, LABEL.double()) * v).sum()

    def second(x: Tensor) -> Tensor:
        return (gradient(x) * v).sum()

    for function in (first, second):
        (exact,) = torch.autograd.grad(function(x), x)
        w, h = torch.randn_like(x), 1e-5
        slope = (function(x + h * w) - function(x - h * w)) / (2 * h)
        torch.testing.assert_close((exact * w).sum(), slope, rtol=1e-4, atol=1e-6)


@every
def test_training_and_evaluation_are_one_function(awaken: Awaken, case: str) -> None:
    network, x = awaken(make(case, (1, 8, 8))), torch.randn(2, 1, 8, 8)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(network.eval()(x, LABEL), network.train()(x, LABEL), rtol=1e-4, atol=1e-5)


@every
def test_autocast_is_near_float32_and_gives_the_precision_of_x(awaken: Awaken, case: str) -> None:
    network, x = awaken(make(case, (1, 8, 8))), torch.randn(2, 1, 8, 8)
    exact = network(x, LABEL)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x, LABEL)
    assert half.dtype == torch.float32
    assert (half - exact).square().mean() < 0.05**2 * exact.square().mean()


@every
@pytest.mark.parametrize("channels", [4, 6, 7, 10, 12])
def test_any_channel_count_of_the_data(case: str, channels: int) -> None:
    y = make(case, (channels, 6, 4), num_classes=1)(torch.randn(2, channels, 6, 4), LABEL)
    assert y.shape == (2, channels, 6, 4)


@pytest.mark.parametrize("width", [4, 9, 12, 20, 33])
@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("dit")])
def test_any_width(case: str, width: int) -> None:
    assert make(case, (1, 4, 4), channels=width)(torch.randn(2, 1, 4, 4), LABEL).shape == (2, 1, 4, 4)


@every
def test_foreign_shapes_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match=r"takes x of shape \(B, 3, \*, \*\); got \(2, 1, 8, 8\)"):
        make(case, (3, 8, 8))(torch.zeros(2, 1, 8, 8), LABEL)
    for shape in ((3,), (1, 2, 2, 2, 2)):
        with pytest.raises(ValueError, match="1 to 3 spatial axes"):
            make(case, shape)
    name, _ = CASES[case]
    with pytest.raises(ValueError, match=f"unknown option 'chanels' of {name}; known: "):
        make(case, (1, 8, 8), chanels=8)
