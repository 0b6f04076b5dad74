"""Convolutions by tiles: against float64, beside what the plain convolution in bfloat16 loses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.nets import native, winograd
from logsnr.nets.layers import Conv2d

kernels = native.library()
pytestmark = pytest.mark.skipif(kernels is None or not kernels.convolves(), reason="no products in bfloat16 here")


def made(batch: int, channels: int, out: int, size: tuple[int, int], *, bias: bool = True) -> tuple[Conv2d, Tensor]:
    torch.manual_seed(0)
    layer = Conv2d(channels, out, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    return layer, innermost(torch.randn(batch, channels, *size))


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def innermost(x: Tensor) -> Tensor:
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


def exact_of(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(x, weight, bias, padding=1)


def error(found: Tensor, exact: Tensor) -> float:
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 2), (2, 9)])
@pytest.mark.parametrize(("channels", "out"), [(64, 128), (16, 48), (80, 16)])
def test_it_is_the_convolution_and_its_gradients(channels: int, out: int, size: tuple[int, int]) -> None:
    layer, x = made(3, channels, out, size)
    assert winograd.suits(x, layer)
    given = [x.requires_grad_(), layer.weight, layer.bias]
    wide = [t.detach().double().requires_grad_() for t in given]
    narrow = [t.detach().bfloat16().requires_grad_() for t in given]
    dy = innermost(torch.randn(3, out, *size))
    y, exact, plain = layer(x), exact_of(*wide), F.conv2d(*narrow, padding=1)
    assert error(y, exact) < 2.2 * error(plain, exact)
    exact_gradients = torch.autograd.grad(exact, wide, dy.double())
    plain_gradients = torch.autograd.grad(plain, narrow, dy)
    (dx, dweight, dbias), (plain_dx, plain_dweight, _) = torch.autograd.grad(y, given, dy), plain_gradients
    assert error(dx, exact_gradients[0]) < 2.2 * error(plain_dx, exact_gradients[0])
    assert error(dweight, exact_gradients[1]) < 3 * error(plain_dweight, exact_gradients[1])
    assert error(dbias, exact_gradients[2]) < 1e-6


def test_numbers_that_bfloat16_holds_come_out_exactly() -> None:
    layer, _ = made(1, 32, 16, (6, 6))
    x = innermost(torch.randint(-4, 5, (2, 32, 6, 6)).float())
    with torch.no_grad():
        layer.weight.copy_(4 * torch.randint(-1, 2, layer.weight.shape))
        layer.bias.zero_()
    y = layer(x)
    exact = exact_of(x.float(), layer.weight)
    assert y.equal(exact.bfloat16())


def test_without_a_bias_and_without_a_gradient_of_the_input() -> None:
    layer, x = made(2, 16, 16, (4, 4), bias=False)
    (dweight,) = torch.autograd.grad(layer(x).float().sum(), layer.parameters())
    wide = layer.weight.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(exact_of(x.double(), wide).sum(), wide)
    assert error(dweight, exact) < 0.01


def test_a_row_knows_neither_its_neighbours_nor_the_number_of_threads() -> None:
    layer, x = made(7, 32, 64, (5, 6))
    y = layer(x)
    assert layer(innermost(x[2:3])).equal(y[2:3])
    assert layer(innermost(x.roll(3, 0))).equal(y.roll(3, 0))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert layer(x).equal(y)
    finally:
        torch.set_num_threads(threads)


def test_the_gradient_of_a_gradient() -> None:
    layer, x = made(2, 16, 32, (4, 4))
    dy, second = torch.randn(2, 32, 4, 4, dtype=torch.float64), []
    for wide in (False, True):
        given = (x.detach().double() if wide else x.detach()).requires_grad_()
        weight = layer.weight.detach().double().requires_grad_() if wide else layer.weight
        y = exact_of(given, weight) if wide else layer(given)
        (dx,) = torch.autograd.grad(y.double(), given, dy, create_graph=True)
        second.append(torch.autograd.grad(dx.double().square().sum(), weight)[0])
    assert error(second[0], second[1]) < 0.01


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(16, 16, 3, padding=1, stride=2),
        Conv2d(16, 16, 3, padding=0),
        Conv2d(16, 16, 3, padding=1, dilation=2),
        Conv2d(16, 16, 3, padding=1, groups=2),
        Conv2d(16, 16, 1),
        Conv2d(16, 24, 3, padding=1),
        Conv2d(16, 16, 3, padding=1).bfloat16(),
        Conv2d(16, 16, 3, padding=1, padding_mode="circular"),
    ],
)
def test_it_leaves_alone_what_it_is_not_for(layer: Conv2d) -> None:
    layer, x = layer.to(memory_format=torch.channels_last), innermost(torch.randn(2, 16, 8, 8))
    assert not winograd.suits(x, layer)
    assert layer(x).equal(nn.Conv2d.forward(layer, x))


def test_what_pytorch_refuses_is_refused() -> None:
    layer, x = made(2, 16, 32, (4, 4))
    with pytest.raises(RuntimeError, match="channels"):
        layer(innermost(torch.randn(2, 32, 4, 4)))
    with torch.autocast("cpu", enabled=False), pytest.raises(RuntimeError, match="same"):
        layer(x)


def test_one_convolution_twice_has_the_gradient_of_both() -> None:
    layer, x = made(2, 16, 16, (6, 6))
    once, again = (
        torch.autograd.grad(layer(layer(x)).double().square().sum(), layer.weight, create_graph=graph)[0]
        for graph in (False, True)
    )
    assert error(again, once.double()) < 0.02
