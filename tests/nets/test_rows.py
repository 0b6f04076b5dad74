"""A row's output is the same to the last bit in every slot of a batch of one width, beside any other rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from logsnr.nets import build

Awaken = Callable[[nn.Module], nn.Module]
CASES: list[tuple[str, tuple[int, ...], int, dict[str, Any]]] = [
    ("small", (3, 32, 32), 5, {"attention": [2, 4], "head_width": 16}),
    ("digits", (1, 8, 8), 16, {}),
    ("digits", (1, 8, 8), 7, {"attention": [1, 2], "heads": 4, "resample": "resnet"}),
    ("tiny", (3, 28, 28), 3, {"channels": 20, "scale_shift": False}),
    ("tiny", (2, 37), 6, {"channels": 9}),
    ("tiny", (1, 5, 6, 7), 3, {}),
    ("ncsnpp-tiny", (3, 28, 28), 5, {"attention": [2], "channels": 20}),
    ("ncsnpp-digits", (1, 8, 8), 16, {}),
    ("ncsnpp-digits", (1, 7, 9), 7, {"channels": 9, "progressive_input": "skip", "progressive_output": "skip"}),
    ("ncsnpp-tiny", (1, 6, 6), 3, {"combine": "cat", "progressive_input": "skip", "progressive_output": "residual"}),
    ("ncsnpp-tiny", (2, 37), 6, {"channels": 9}),
    ("ncsnpp-tiny", (1, 5, 6, 7), 3, {"embedding": "positional", "rescale": False}),
    ("ncsnpp-tiny", (1, 13, 13), 5, {"embedding": "positional", "resample": "box", "progressive_input": "none"}),
    ("refinenet-digits", (1, 8, 8), 16, {}),
    ("refinenet-tiny", (3, 28, 28), 5, {"channels": 11}),
    ("refinenet-digits", (1, 7, 9), 7, {"channels": 9, "levels": 100, "norm": "everywhere", "pool": "average"}),
    ("refinenet-tiny", (2, 37), 6, {"channels": 9}),
    ("refinenet-tiny", (1, 5, 6, 7), 3, {"pool": "average"}),
    ("dit-digits", (1, 8, 8), 16, {}),
    ("dit-tiny", (1, 9, 9), 7, {"patch": 3, "width": 33, "heads": 3}),
    ("dit-tiny", (3, 28, 28), 5, {"width": 36}),
    ("dit-tiny", (2, 37), 6, {"width": 18}),
    ("dit-tiny", (1, 5, 6, 7), 3, {}),
    ("vdm-tiny", (1, 8, 8), 16, {"fourier": [3, 4]}),
    ("vdm-digits", (3, 7, 5), 5, {"fourier": [7, 8], "channels": 12}),
    ("vdm-tiny", (2, 13), 6, {"fourier": [0], "base_measure": False}),
    ("mlp-small", (2,), 16, {}),
    ("mlp-small", (1,), 9, {"width": 33}),
    ("mlp-small", (13,), 50, {"width": 48}),
    ("digits", (1, 8, 8), 16, {"output": "energy"}),
    ("tiny", (3, 12, 12), 5, {"output": "energy", "attention": [1, 2], "heads": 2}),
    ("mlp-small", (5,), 9, {"output": "energy"}),
]


@pytest.fixture(params=[1, 2], ids="threads={}".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("name", "shape", "width", "options"), CASES)
def test_rows(
    awaken: Awaken, name: str, shape: tuple[int, ...], width: int, options: dict[str, Any], bf16: bool
) -> None:
    check(awaken(build(name, shape, num_classes=3, **options)), shape, width, bf16)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiny", {"channels": 8}),
        ("ncsnpp-tiny", {"channels": 8}),
        ("refinenet-tiny", {"channels": 8}),
        ("dit-tiny", {"patch": 7, "depth": 1}),
    ],
)
def test_rows_however_the_work_is_split(awaken: Awaken, name: str, options: dict[str, Any]) -> None:
    # 5 x 8 x 49 x 49 elements, enough to be shared out, at boundaries that are no multiple of a vector.
    check(awaken(build(name, (1, 49, 49), num_classes=3, **options)), (1, 49, 49), 5, bf16=False)


def check(network: nn.Module, shape: tuple[int, ...], width: int, bf16: bool) -> None:
    x, label, classes = torch.randn(width, *shape), torch.rand(width) * 999, torch.randint(4, (width,))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = network(x, label, classes=classes)
        for shift in (1, width // 2, width - 1):
            moved = network(x.roll(shift, 0), label.roll(shift), classes=classes.roll(shift))
            assert torch.equal(moved.roll(-shift, 0), y)
        for slot in (0, width - 1):
            others, noise = torch.randn_like(x) * 3, torch.rand(width) * 999
            others[slot], noise[slot] = x[0], label[0]
            among = network(others, noise, classes=classes[:1].expand(width))
            assert torch.equal(among[slot], y[0])
