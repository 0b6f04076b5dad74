from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from logsnr.nets import MLP

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([0.5, 2.0, 900.0])


@pytest.mark.parametrize("features", [1, 2, 13])
def test_a_new_network_answers_exactly_zero(features: int) -> None:
    y = MLP((features,), out_channels=2 * features, width=16)(torch.randn(3, features), LABEL)
    assert y.shape == (3, 2 * features)
    assert not y.any()


def test_new_blocks_are_the_identity(awaken: Awaken) -> None:
    network, x = awaken(MLP((2,), width=16)), torch.randn(3, 2)
    for block in network.get_submodule("blocks").children():
        nn.init.zeros_(block.get_submodule("second").weight)
        nn.init.zeros_(block.get_submodule("second").bias)
    expected = network.get_submodule("head")(nn.functional.silu(network.get_submodule("stem")(x)))
    torch.testing.assert_close(network(x, LABEL), expected)


def test_label_and_class_reach_their_own_row_only(awaken: Awaken) -> None:
    network, x = awaken(MLP((2,), num_classes=3, width=32)), torch.randn(3, 2)
    classes = torch.tensor([0, 1, 2])
    base = network(x, LABEL, classes=classes)
    for changed in (
        network(x, LABEL + torch.tensor([0.0, 0.0, 1.0]), classes=classes),
        network(x, LABEL, classes=torch.tensor([0, 1, 3])),
    ):
        assert torch.equal(base[:2], changed[:2])
        assert not torch.allclose(base[2], changed[2])
    assert torch.equal(network(x, LABEL), network(x, LABEL, classes=torch.full((3,), 3)))


def test_every_parameter_learns(awaken: Awaken) -> None:
    network = awaken(MLP((3,), num_classes=2, width=16, dropout=0.1)).train()
    network(torch.randn(3, 3), LABEL, classes=torch.tensor([0, 1, 2])).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_foreign_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors \(D,\)"):
        MLP((3, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(B, 2\); got \(3, 4\)"):
        MLP((2,), width=8)(torch.zeros(3, 4), LABEL)
