"""Passes and products that take other roads to the same numbers: against PyTorch's own, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr import nets
from logsnr.nets import native, norm_silu
from logsnr.nets.blocks import Attention, attend_as_one, mix
from logsnr.nets.layers import normalised
from logsnr.nets.resample import doubled_then_convolved

compiled = pytest.mark.skipif(native.library() is None, reason="no C compiler here")
BF16 = 2.0**-8  # twice the rounding of one number


def innermost(*shape: int, seed: int = 0) -> Tensor:
    x = 1 + 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


def plain(x: Tensor, gain: Tensor, offset: Tensor, e: Tensor | None, groups: int, silu: bool) -> Tensor:
    z = F.group_norm(x if e is None else x + e[..., None, None], groups, eps=1e-5)
    z = z * gain[..., None, None] + offset[..., None, None]
    return F.silu(z) if silu else z


@compiled
@pytest.mark.parametrize(("channels", "size", "groups"), [(64, 8, 16), (48, 9, 4), (7, 3, 1), (40, 5, 40)])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_passes_give_pytorchs_values_and_gradients(
    channels: int, size: int, groups: int, silu: bool, shared: bool
) -> None:
    x = innermost(3, channels, size, size).requires_grad_()
    rows = 1 if shared else 3
    gain, offset = (torch.randn(rows, channels).requires_grad_() for _ in range(2))
    e = None if shared else torch.randn(3, channels).requires_grad_()
    given = [t for t in (x, gain, offset, e) if t is not None]
    dy = innermost(3, channels, size, size, seed=1)
    y = norm_silu.norm_silu(x, gain, offset, e, groups=groups, eps=1e-5, silu=silu)
    found = torch.autograd.grad(y, given, dy)

    wide = [t.detach().float().requires_grad_() for t in given]
    expected = plain(*wide, *[None] * (4 - len(wide)), groups, silu)
    wanted = torch.autograd.grad(expected, wide, dy.float())
    assert (y - expected).abs().le(BF16 * expected.abs() + 1e-5).all()
    for one, other in zip(found, wanted, strict=True):
        bar = BF16 if one.dtype == torch.bfloat16 else 2e-5
        assert (one - other).abs().max() < bar * other.abs().max() + 1e-4


@compiled
def test_the_gradient_of_a_gradient_is_pytorchs() -> None:
    x, dy = innermost(2, 16, 4, 4).requires_grad_(), innermost(2, 16, 4, 4, seed=1)
    gain, offset = torch.randn(1, 16).requires_grad_(), torch.randn(1, 16).requires_grad_()
    second = []
    for wide in (False, True):
        value = x.float() if wide else x
        y = (
            plain(value, gain, offset, None, 4, True)
            if wide
            else norm_silu.norm_silu(value, gain, offset, groups=4, eps=1e-5)
        )
        (dx,) = torch.autograd.grad(y, x, dy.to(y), create_graph=True)
        second.append(torch.autograd.grad(dx.float().square().sum(), gain)[0])
    assert (second[0] - second[1]).abs().max() < 0.02 * second[1].abs().max()


@compiled
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_a_large_mean_costs_no_digit(mean: float) -> None:
    torch.manual_seed(0)
    x = (mean + 0.5 * torch.randn(2, 32, 16, 16)).bfloat16().contiguous(memory_format=torch.channels_last)
    given = [x.requires_grad_(), torch.randn(1, 32).requires_grad_(), torch.randn(1, 32).requires_grad_()]
    dy = innermost(2, 32, 16, 16, seed=1)
    y = norm_silu.norm_silu(*given, groups=8, eps=1e-5)
    wide = [t.detach().double().requires_grad_() for t in given]
    expected = plain(*wide, None, 8, True)
    assert ((y - expected).norm() / expected.norm()) < BF16
    for one, other in zip(
        torch.autograd.grad(y, given, dy), torch.autograd.grad(expected, wide, dy.double()), strict=True
    ):
        assert ((one - other).norm() / other.norm()) < BF16


@compiled
def test_an_embedding_of_one_row_is_every_rows() -> None:
    x, norm, e = innermost(4, 32, 6, 6), nn.GroupNorm(8, 32), torch.randn(1, 32)
    assert normalised(norm, x, e=e).equal(normalised(norm, x, e=e.expand(4, -1)))
    with pytest.raises(RuntimeError):
        normalised(norm, x, scale=torch.randn(2, 32), shift=torch.randn(2, 32))


@compiled
def test_a_gain_made_of_the_features_has_its_gradient_once() -> None:
    x = innermost(2, 16, 4, 4)
    gain = torch.ones(1, 16).requires_grad_()
    answers = []
    for graph in (False, True):
        y = norm_silu.norm_silu(
            x * (1 + gain[..., None, None]).bfloat16(), gain, torch.zeros(1, 16), groups=4, eps=1e-5
        )
        answers.append(torch.autograd.grad(y.float().square().sum(), gain, create_graph=graph)[0])
    assert (answers[0] - answers[1]).norm() < 0.02 * answers[0].norm()


@compiled
def test_not_a_number_stays_none() -> None:
    x = innermost(1, 16, 4, 4)
    offset = torch.full((1, 16), 0x7FFFFFFF, dtype=torch.int32).view(torch.float32)
    assert norm_silu.norm_silu(x, torch.ones(1, 16), offset, groups=4, eps=1e-5).isnan().all()


@compiled
def test_a_cache_that_others_may_write_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    try:
        (tmp_path / "logsnr").mkdir()
        (tmp_path / "logsnr").chmod(0o777)
        assert native.library() is None
        (tmp_path / "logsnr").chmod(0o700)
        native.library.cache_clear()
        assert native.library() is not None
    finally:
        native.library.cache_clear()


@compiled
def test_a_row_does_not_know_its_neighbours() -> None:
    x, norm = innermost(6, 64, 8, 8), nn.GroupNorm(16, 64)
    assert norm_silu.suits(x)
    whole, shifted = normalised(norm, x), normalised(norm, x.roll(2, 0).contiguous(memory_format=torch.channels_last))
    assert whole.equal(shifted.roll(-2, 0))


@compiled
def test_a_network_in_bfloat16_is_the_same_function_with_the_passes() -> None:
    options = {"channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": [2], "scale_shift": True}
    torch.manual_seed(0)
    network = nets.build("unet", (3, 16, 16), **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05) if parameter.ndim > 1 else None
    x, label = torch.randn(4, 3, 16, 16), torch.rand(4)
    answers = []
    for form in (None, torch.contiguous_format, torch.channels_last):
        if form is not None:
            network.to(memory_format=form)
        with torch.autocast("cpu", torch.bfloat16, enabled=form is not None):
            y = network(x, label)
        gradients = torch.autograd.grad(y.float().square().mean(), list(network.parameters()), allow_unused=True)
        answers.append((y, torch.cat([g.flatten() for g in gradients if g is not None])))
    exact, *narrow = answers
    ours, theirs = ([((a - b).norm() / b.norm()).item() for a, b in zip(n, exact, strict=True)] for n in narrow[::-1])
    for error, usual in zip(ours, theirs, strict=True):  # of the answer and of the gradient
        assert error < 1.2 * usual < 0.05


def test_without_a_compiler_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    x, norm = innermost(2, 16, 4, 4), nn.GroupNorm(4, 16)
    expected = F.silu(norm(x.float()))
    monkeypatch.setattr(native, "library", lambda: None)
    with torch.autocast("cpu", torch.bfloat16):
        assert (normalised(norm, x) - expected).abs().max() < 0.02


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 2)])
def test_the_convolution_of_a_repeated_picture_by_phases(size: tuple[int, int]) -> None:
    x, weight, bias = torch.randn(2, 5, *size), torch.randn(4, 5, 3, 3), torch.randn(4)
    given = [t.double().requires_grad_() for t in (x, weight, bias)]

    def slow(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)

    expected = slow(*given)
    dy = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, given, dy)
    single = [t.detach().float().requires_grad_() for t in given]
    y = doubled_then_convolved(*single)
    assert (y - expected).abs().max() < 1e-4
    for one, other in zip(torch.autograd.grad(y, single, dy.float()), wanted, strict=True):
        assert (one - other).abs().max() < 1e-4 * (1 + other.abs().max())


def test_one_head_by_two_maps() -> None:
    block = Attention(16, 1)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, 10, 16)
    expected = block.out(mix(block.qkv(x), 1, training=True))
    y = attend_as_one(x, block.qkv, block.out)
    assert (y - expected).abs().max() < 1e-4
    dy, parameters = torch.randn_like(y), [*block.qkv.parameters(), *block.out.parameters()]
    wanted = torch.autograd.grad(expected, parameters, dy)
    for one, other in zip(torch.autograd.grad(y, parameters, dy), wanted, strict=True):
        assert (one - other).abs().max() < 1e-3 * (1 + other.abs().max())
