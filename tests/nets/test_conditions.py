"""Classes, vectors and images in every network: they are heard, a row hears its own, and none given is one thing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from logsnr.nets import NETWORKS, Concatenated, Conditioning, build

Awaken = Callable[[nn.Module], nn.Module]
B, K, F, C = 5, 3, 2, 1


def network_of(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    from logsnr.nets import SIZES

    name = next((n for n, options in SIZES.items() if options["network"] == kind and "tiny" in n), None)
    name = name or next((n for n, options in SIZES.items() if options["network"] == kind), kind)
    shape = (2,) if kind == "mlp" else (1, 8, 8)
    return build(name, shape, num_classes=K, vector_features=F, condition_channels=C), shape


def conditions(shape: tuple[int, ...]) -> dict[str, Tensor]:
    return {
        "classes": torch.tensor([0, 1, 2, 0, 1]),
        "vector": torch.cat([torch.randn(B, F), torch.ones(B, 1)], 1),
        "image": torch.cat([torch.randn(B, C, *shape[1:]), torch.ones(B, 1, *shape[1:])], 1),
    }


NONE = {"classes": K, "vector": 0.0, "image": 0.0}


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_condition_reaches_its_own_row_and_none_is_silence(kind: str, awaken: Awaken) -> None:
    made, shape = network_of(kind)
    network = awaken(made)
    x, label, given = torch.randn(B, *shape), torch.full((B,), 3.0), conditions(shape)
    with torch.inference_mode():
        base = network(x, label, **given)
        assert base.shape == x.shape
        for name, value in given.items():
            fewer = {key: value for key, value in given.items() if key != name}
            none = torch.full_like(value, NONE[name])
            assert torch.equal(network(x, label, **fewer), network(x, label, **fewer, **{name: none}))
            changed = value.clone()
            changed[1] = none[1]
            heard = network(x, label, **{**given, name: changed})
            assert torch.equal(heard[[0, 2, 3, 4]], base[[0, 2, 3, 4]])
            assert (heard[1] - base[1]).abs().max() > 1e-4, f"{kind} does not hear {name}"
        rolled = network(x.roll(2, 0), label, **{name: value.roll(2, 0) for name, value in given.items()})
        assert torch.equal(rolled.roll(-2, 0), base), "a row is the same in every slot"


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_parameter_of_a_condition_learns(kind: str, awaken: Awaken) -> None:
    made, shape = network_of(kind)
    network = awaken(made).train()
    network(torch.randn(B, *shape), torch.full((B,), 3.0), **conditions(shape)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in silent if "classes" in name or "vector" in name or "stem" in name]


def test_a_given_zero_is_not_none_given() -> None:
    conditioning, label = Conditioning(8, 16, vector_features=2), torch.ones(1)
    zero = torch.tensor([[0.0, 0.0, 1.0]])
    assert not torch.allclose(conditioning(label, vector=zero), conditioning(label))
    step = conditioning(label, vector=zero + torch.tensor([[0.0, 2.0, 0.0]])) - conditioning(label, vector=zero)
    assert conditioning.vector is not None
    assert torch.allclose(step[0], 2 * conditioning.vector.weight[:, 1], atol=1e-6)


def test_a_network_of_ones_own_gets_vectors_as_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sum(nn.Module):
        def __init__(self, shape: list[int], *, num_classes: int, out_channels: int) -> None:
            super().__init__()
            self.channels = shape[0]

        def forward(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
            assert x.shape[1] == self.channels
            return x.sum(1, keepdim=True)

    monkeypatch.setitem(NETWORKS, "mine", Sum)
    network = build("mine", (1, 2, 2), vector_features=F, condition_channels=C)
    x, given = torch.randn(B, 1, 2, 2), conditions((1, 2, 2))
    expected = x[:, 0] + given["vector"].sum(1).reshape(-1, 1, 1) + given["image"].sum(1)
    answer = network(x, torch.ones(B), vector=given["vector"], image=given["image"])
    assert torch.allclose(answer[:, 0], expected, atol=1e-6)
    assert torch.equal(network(x, torch.ones(B)), x)


def test_wrong_shapes_are_named() -> None:
    network = Concatenated(nn.Identity(), channels=1)
    with pytest.raises(ValueError, match=r"image of shape \(2, 1, 4, 4\) beside x of shape \(2, 3, 4, 4\)"):
        network(torch.zeros(2, 3, 4, 4), torch.ones(2), image=torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="takes no vector"):
        Conditioning(8, 16)(torch.ones(2), vector=torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"shape \(2, 2\); allowed: \(2, 3\)"):
        Conditioning(8, 16, vector_features=2)(torch.ones(2), vector=torch.zeros(2, 2))


def test_the_base_measure_of_vdm_is_x_alone_beside_a_condition_image() -> None:
    """Fresh, the network answers 0: x for the noise, and 0 for a spread, whatever the condition is."""
    network = build("vdm-tiny", (1, 8, 8), condition_channels=C, out_channels=2)
    x, given = torch.randn(B, 1, 8, 8), conditions((1, 8, 8))["image"]
    answer = network(x, torch.zeros(B), image=given)
    assert torch.equal(answer[:, :1], x)
    assert not answer[:, 1:].any()
