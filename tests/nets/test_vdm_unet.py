from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logsnr.config import resolve
from logsnr.data.transform import Transform
from logsnr.nets import VDMUNet, build, fourier_features, positional
from logsnr.run import build as run_build

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([-9.0, 3.0])
AUTO = {"network": "vdm-auto"}
SMALL: dict[str, Any] = {"channels": 8, "depth": 2}


def test_a_new_network_says_that_all_of_it_is_noise() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(VDMUNet((3, 8, 8), **SMALL)(x, LABEL), x)
    assert not VDMUNet((3, 8, 8), base_measure=False, **SMALL)(x, LABEL).any()
    doubled = VDMUNet((3, 8, 8), out_channels=6, **SMALL)(x, LABEL)
    assert torch.equal(doubled, torch.cat([x, torch.zeros_like(x)], 1))


@pytest.mark.parametrize("sizes", [(13,), (8, 8), (7, 5), (3, 4, 5), (1, 1)])
def test_the_resolution_never_changes(awaken: Awaken, sizes: tuple[int, ...]) -> None:
    network = awaken(VDMUNet((2, *sizes), fourier=[3, 4], **SMALL))
    seen: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            module.register_forward_hook(lambda _, inputs, y: seen.append(tuple(y.shape[2:])))
    y = network(torch.randn(2, 2, *sizes), LABEL)
    assert y.shape == (2, 2, *sizes)
    assert set(seen) == {sizes}


def test_each_way_up_sees_its_own_way_down(awaken: Awaken) -> None:
    """depth + 1 blocks up, each given what is on top of the pile: the last is given the stem's."""
    network = awaken(VDMUNet((1, 4, 4), **SMALL))
    made: list[Tensor] = []
    given: list[Tensor] = []
    for block in (network.stem, *network.down):  # type: ignore[misc]
        block.register_forward_hook(lambda _, inputs, y: made.append(y))
    for block in network.up:  # type: ignore[union-attr]
        block.register_forward_hook(lambda _, inputs, y: given.append(inputs[0][:, 8:]))
    network(torch.randn(2, 1, 4, 4), LABEL)
    assert len(given) == 3
    assert all(torch.equal(a, b) for a, b in zip(given, reversed(made), strict=True))


def test_cifar10_has_the_paper_s_depth_and_width() -> None:
    with torch.device("meta"):
        network = build("vdm-cifar10", (3, 32, 32), fourier=[7, 8])
    assert (len(network.down), len(network.up)) == (32, 33)  # type: ignore[arg-type]
    assert network.stem.weight.shape == (128, 3 * 5, 3, 3)  # type: ignore[union-attr]
    resnet = 2 * (9 * 128**2 + 128) + 512 * 128 + 128 + 4 * 128
    up = resnet + 128 * (9 * 128 + 2) + 256 * 128 + 128
    ends = 15 * 9 * 128 + 128 + 256 + 3 * 9 * 128 + 3
    embedding, attention = 128 * 512 + 512 + 512**2 + 512, 4 * (128**2 + 128) + 256
    total = 34 * resnet + 33 * up + ends + embedding + attention
    assert sum(p.numel() for p in network.parameters()) == total


def test_fourier_features_have_periods_of_two_values_and_one(awaken: Awaken) -> None:
    """V11 at n = 3, 4 on 17 values: sin 8πz and cos 8πz repeat every second value, those of 16πz at every one."""
    values = torch.linspace(-1, 1, 17, dtype=torch.float64).reshape(1, 1, 17)
    sin3, sin4, cos3, cos4 = fourier_features(values + 0.02, [3, 4])[0]
    assert torch.allclose(sin3, torch.sin(8 * math.pi * (values[0, 0] + 0.02)))
    assert torch.allclose(cos4, torch.cos(16 * math.pi * (values[0, 0] + 0.02)))
    for one, two in ((sin4, sin3), (cos4, cos3)):
        assert torch.allclose(one, one[:1].expand(17), atol=1e-12)
        assert torch.allclose(two[2:], two[:-2], atol=1e-12)
        assert torch.allclose(two[1:], -two[:-1], atol=1e-12)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    features = fourier_features(x, [0, 1])
    assert features.shape == (2, 12, 4, 5)
    assert torch.allclose(features[:, 3], torch.sin(2 * math.pi * x[:, 1]))
    assert torch.allclose(features[:, 10], torch.cos(math.pi * x[:, 2]))
    network = awaken(VDMUNet((1, 4, 4), fourier=[0], **SMALL))
    whole = network(x[:, :1, :, :4].float(), LABEL)
    with torch.no_grad():
        network.stem.weight[:, 1:] = 0  # type: ignore[union-attr]
    assert not torch.allclose(network(x[:, :1, :, :4].float(), LABEL), whole)


@pytest.mark.parametrize(
    ("levels", "octaves"), [(256, [7, 8]), (17, [3, 4]), (65536, [15, 16]), (2, [-1, 0]), (None, [])]
)
def test_the_features_follow_from_the_data(levels: int | None, octaves: list[int]) -> None:
    transform = Transform((1, 8, 8), levels, mean=() if levels else (0.0,), std=() if levels else (1.0,))
    record = run_build.network_record(resolve("vdm", [AUTO]), (1, 8, 8), transform.lattice)
    assert record["network"] == "vdm_unet"
    assert record["fourier"] == octaves
    chosen = run_build.network_record(resolve("vdm", [{"network": {"name": "vdm-tiny", "fourier": [2]}}]), (1, 8, 8))
    assert chosen["fourier"] == [2]
    assert run_build.network_name(resolve("vdm", [AUTO]), (2,)) == "mlp-small"


def test_positional_embedding_is_that_of_ddpm_s_program() -> None:
    label = torch.tensor([0.0, 1.0, 500.0], dtype=torch.float64)
    found = positional(label, 9)
    frequency = 10_000.0 ** -(torch.arange(4).double() / 3)
    assert torch.allclose(found[:, :4], torch.sin(label.unsqueeze(1) * frequency))
    assert torch.allclose(found[:, 4:8], torch.cos(label.unsqueeze(1) * frequency))
    assert not found[:, 8].any()


def test_the_label_s_range_becomes_0_to_1000(awaken: Awaken) -> None:
    wide, narrow = (awaken(VDMUNet((1, 4, 4), label_range=r, **SMALL)) for r in ([-10.0, 10.0], [0.0, 1.0]))
    x = torch.randn(2, 1, 4, 4)
    y = wide(x, torch.tensor([-10.0, 5.0]))
    assert torch.allclose(y, narrow(x, torch.tensor([0.0, 0.75])), atol=1e-5)
    assert not torch.allclose(y[1], wide(x, torch.tensor([-10.0, 5.02]))[1])


def test_classes_and_recomputation(awaken: Awaken) -> None:
    x, classes = torch.randn(2, 1, 4, 4), torch.tensor([0, 3])
    kept, recomputed = (awaken(VDMUNet((1, 4, 4), num_classes=4, checkpointing=c, **SMALL)) for c in (False, True))
    assert torch.equal(kept(x, LABEL, classes), recomputed(x, LABEL, classes))
    assert not torch.allclose(kept(x, LABEL, classes), kept(x, LABEL))
    grads = []
    for network in (kept, recomputed):
        network(x, LABEL, classes).square().sum().backward()
        grads.append(network.down[0][0].conv1.weight.grad)  # type: ignore[union-attr, index]
    assert torch.allclose(grads[0], grads[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((5,), {}, "1 to 3 spatial axes"),
        ((1, 8, 8), {"depth": 0}, "depth 0"),
        ((1, 8, 8), {"fourier": "some"}, "fourier = 'some'"),
        ((1, 8, 8), {"label_range": [1, 1]}, "low < high"),
    ],
)
def test_bad_options_are_refused(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VDMUNet(shape, **options)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes x of shape \(B, 1, \*, \*\); got \(2, 1, 4\)"):
        VDMUNet((1, 8, 8), **SMALL)(torch.zeros(2, 1, 4), LABEL)
