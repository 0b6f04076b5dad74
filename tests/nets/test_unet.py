from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.nets import UNet, build
from logsnr.nets.layers import margins

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([3.0, 700.0])
SMALL: dict[str, Any] = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [2]}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_ddpm_cifar10_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        assert parameters(build("ddpm-cifar10", (3, 32, 32))) == 35_746_307


def test_a_new_network_answers_exactly_zero() -> None:
    network = UNet((1, 8, 8), **SMALL)
    assert not network(torch.randn(2, 1, 8, 8), LABEL).any()


@pytest.mark.parametrize("sizes", [(100,), (28, 28), (37, 53), (5, 6, 7), (1,), (1, 1)])
@pytest.mark.parametrize("resample", ["conv", "resnet"])
def test_any_size_is_the_crop_of_the_padded_run(awaken: Awaken, sizes: tuple[int, ...], resample: str) -> None:
    options = {**SMALL, "multipliers": [1, 1, 2], "resample": resample}
    network = awaken(UNet((3, *sizes), out_channels=5, **options))
    x = torch.randn(2, 3, *sizes)
    edges = margins(sizes, 4)
    padded = F.pad(x, [n for edge in reversed(edges) for n in edge])
    assert all(size % 4 == 0 for size in padded.shape[2:])
    inside = tuple(slice(before, before + size) for size, (before, _) in zip(sizes, edges, strict=True))
    y = network(x, LABEL)
    assert y.shape == (2, 5, *sizes)
    assert torch.equal(y, network(padded, LABEL)[(..., *inside)])


def test_the_label_reaches_the_output_and_only_its_own_row(awaken: Awaken) -> None:
    network = awaken(UNet((1, 8, 8), **SMALL))
    x = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1)
    before, after = network(x, LABEL), network(x, torch.tensor([3.0, 701.0]))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert not torch.allclose(before[0], before[1])


@pytest.mark.parametrize("scale_shift", [False, True])
def test_the_class_acts_through_its_embedding_alone(awaken: Awaken, scale_shift: bool) -> None:
    network = awaken(UNet((1, 8, 8), num_classes=4, scale_shift=scale_shift, **SMALL))
    x = torch.randn(2, 1, 8, 8)

    def run(first: int, second: int) -> Tensor:
        return network(x, LABEL, classes=torch.tensor([first, second]))

    assert torch.equal(run(0, 1)[0], run(0, 2)[0])
    assert not torch.allclose(run(0, 1)[1], run(0, 2)[1])
    assert torch.equal(network(x, LABEL), run(4, 4))
    nn.init.zeros_(network.get_submodule("embedding.classes").weight)
    assert torch.equal(run(0, 1), run(2, 3))


def test_dropout_acts_in_training_only(awaken: Awaken) -> None:
    network = awaken(UNet((1, 8, 8), dropout=0.5, **SMALL))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(x, LABEL), network(x, LABEL))
    network.train()
    assert not torch.equal(network(x, LABEL), network(x, LABEL))


def test_checkpointing_gives_bit_equal_gradients(awaken: Awaken) -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        network = awaken(UNet((2, 8, 8), dropout=0.3, checkpointing=checkpointing, num_classes=2, **SMALL)).train()
        x = torch.linspace(-1, 1, 256).reshape(2, 2, 8, 8).requires_grad_()
        torch.manual_seed(1)
        loss = network(x, LABEL, classes=torch.tensor([0, 1])).square().mean()
        return list(torch.autograd.grad(loss, [x, *network.parameters()]))

    for plain, recomputed in zip(gradients(False), gradients(True), strict=True):
        assert plain.abs().max() > 0
        assert torch.equal(plain, recomputed)


def test_every_parameter_of_every_option_learns(awaken: Awaken) -> None:
    options = {**SMALL, "head_width": 4, "resample": "resnet", "scale_shift": True}
    network = awaken(UNet((3, 8, 8), num_classes=2, out_channels=6, **options))
    network(torch.randn(2, 3, 8, 8), LABEL, classes=torch.tensor([0, 1])).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_attention_lets_far_pixels_meet(awaken: Awaken) -> None:
    def reach(attention: list[int]) -> bool:
        network = awaken(UNet((1, 64), channels=8, multipliers=[1], blocks=1, attention=attention))
        # GroupNorm couples all positions; without it only attention does.
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, nn.Identity())
        x = torch.zeros(1, 1, 64)
        moved = x.clone()
        moved[..., 0] = 1
        return not torch.equal(network(x, LABEL[:1])[..., -1], network(moved, LABEL[:1])[..., -1])

    assert reach([1])
    assert not reach([])


@pytest.mark.parametrize("channels", [8, 9, 12, 20, 33, 48])
def test_any_channel_count_builds_and_runs(channels: int) -> None:
    network = UNet((1, 4, 4), **{**SMALL, "channels": channels})
    assert network(torch.randn(2, 1, 4, 4), LABEL).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chanels": 8}, "unknown option 'chanels' of unet; known: channels, multipliers"),
        ({"resample": "fir"}, "unknown resample 'fir'; known: conv, resnet"),
        ({"attention": [16]}, r"attention factors \[16\] not all among the levels' \[1, 2, 4, 8\]"),
        ({"channels": 0}, "positive integers"),
        ({"multipliers": []}, "positive integers"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet((1, 8, 8), **options)


def test_a_foreign_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes x of shape \(B, 3, \*, \*\); got \(2, 1, 8, 8\)"):
        UNet((3, 8, 8), **SMALL)(torch.zeros(2, 1, 8, 8), LABEL)
    with pytest.raises(ValueError, match="1 to 3 spatial axes"):
        UNet((3,), **SMALL)
