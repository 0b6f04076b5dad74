from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logsnr.nets import (
    NETWORKS,
    SIZES,
    DiTOptions,
    NCSNppOptions,
    RefineNetOptions,
    UNetOptions,
    build,
    configure,
    construct,
    default_size,
)

OPTIONS = {"unet": UNetOptions, "ncsnpp": NCSNppOptions, "refinenet": RefineNetOptions, "dit": DiTOptions}


@pytest.mark.parametrize("name", SIZES)
def test_a_configuration_survives_json_and_rebuilds_the_network(name: str) -> None:
    shape = (5,) if name.startswith("mlp-") else (3, 32, 32)
    config = json.loads(json.dumps(configure(name, shape, num_classes=10, out_channels=6)))
    with torch.device("meta"):
        first, second = build(name, shape, num_classes=10, out_channels=6), construct(config)
    assert str(first) == str(second)
    assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]


@pytest.mark.parametrize("name", [name for name in SIZES if SIZES[name]["network"] in OPTIONS])
def test_every_option_of_a_size_is_spelt_out(name: str) -> None:
    assert set(SIZES[name]) == {"network", *(field.name for field in fields(OPTIONS[SIZES[name]["network"]]))}


SHAPES = [(1,), (64,), (1, 100), (1, 8, 8), (3, 32, 32), (3, 96, 96), (1, 256, 256), (1, 9, 9, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_default_size_builds(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        build(default_size(shape), shape)


def test_a_vector_takes_the_mlp_of_that_name() -> None:
    assert configure("small", (2,)) == configure("mlp-small", (2,))
    assert configure("small", (2, 8)) != configure("mlp-small", (2, 8))


def test_overrides_win() -> None:
    assert configure("small", (1, 8, 8), channels=24)["channels"] == 24


def test_unknown_names_say_what_is_known() -> None:
    with pytest.raises(ValueError, match="unknown network 'smal'; known: .*small.*, unet, mlp"):
        build("smal", (1, 8, 8))
    with pytest.raises(ValueError, match="unknown option 'chanels' of network 'small'; known: channels, "):
        build("small", (1, 8, 8), chanels=8)
    with pytest.raises(ValueError, match="unknown option 'network'"):
        build("small", (1, 8, 8), network="mlp")
    with pytest.raises(ValueError, match="unknown network 'gone'; known: unet, mlp"):
        construct({"network": "gone", "shape": [2]})


def test_a_network_of_ones_own_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scale(nn.Module):
        def __init__(self, shape: list[int], *, num_classes: int, out_channels: int, factor: float = 1.0) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor, label: Tensor, **condition: Any) -> Tensor:
            return self.factor * x

    monkeypatch.setitem(NETWORKS, "mine", Scale)
    network = construct(json.loads(json.dumps(configure("mine", (2,), factor=3.0))))
    assert torch.equal(network(torch.ones(1, 2), torch.ones(1)), torch.full((1, 2), 3.0))
