from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from logsnr.nets.blocks import Attention, ResBlock, mix
from logsnr.nets.layers import ELU, GELU, Linear, SiLU, group_norm, margins
from logsnr.nets.resample import RESAMPLERS


@pytest.mark.parametrize("channels", [*range(1, 49), 96, 128, 384])
def test_groups_divide_the_channels_and_hold_at_least_four(channels: int) -> None:
    groups = group_norm(channels).num_groups
    assert channels % groups == 0
    assert groups <= 32
    assert groups == 1 or channels // groups >= 4


def test_wide_layers_have_the_papers_32_groups() -> None:
    assert [group_norm(c).num_groups for c in (128, 256, 384, 512)] == [32] * 4


def test_silu_is_x_times_sigmoid_in_both_modes_and_at_both_ends() -> None:
    x = torch.linspace(-200, 200, 4001)
    exact = x.double() * torch.sigmoid(x.double())
    for silu in (SiLU().train(), SiLU().eval()):
        torch.testing.assert_close(silu(x).double(), exact, rtol=3e-7, atol=1e-12)


def test_elu_and_gelu_are_their_formulas_in_both_modes() -> None:
    x = torch.linspace(-30, 30, 4001)
    wide = x.double()
    elu = torch.where(wide > 0, wide, torch.expm1(wide))
    gelu = 0.5 * wide * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (wide + 0.044715 * wide**3)))
    for training in (True, False):
        torch.testing.assert_close(ELU().train(training)(x).double(), elu, rtol=3e-7, atol=1e-12)
        torch.testing.assert_close(GELU().train(training)(x).double(), gelu, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", [SiLU, ELU, GELU])
def test_an_activation_does_not_know_how_long_the_row_is(activation: type[nn.Module]) -> None:
    x, layer = 3 * torch.randn(67), activation().eval()
    assert all(torch.equal(layer(x[:n]), layer(x)[:n]) for n in range(1, 67))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("width", "features"), [(8, 1), (33, 3), (16, 16), (7, 33)])
@pytest.mark.parametrize("rows", [(5,), (16,), (3, 7)])
def test_linear_is_a_linear_map_in_both_modes(rows: tuple[int, ...], width: int, features: int, training: bool) -> None:
    linear, x = Linear(width, features).train(training), torch.randn(*rows, width)
    torch.testing.assert_close(linear(x), x @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "features"), [(33, 33), (33, 1), (2, 64), (64, 64), (256, 96)])
def test_a_row_of_linear_does_not_know_its_place(width: int, features: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        linear = Linear(width, features).eval()
        for rows in (2, 3, 5, 9, 17, 50, 64):
            x = torch.randn(rows, width)
            y = linear(x)
            assert all(torch.equal(linear(x.roll(s, 0)).roll(-s, 0), y) for s in range(1, rows))
    finally:
        torch.set_num_threads(before)


def test_margins_reach_the_next_multiple_on_both_sides() -> None:
    assert margins((28, 37, 53, 100, 8), 8) == [(2, 2), (1, 2), (1, 2), (2, 2), (0, 0)]


def test_attention_is_softmax_attention_over_all_positions() -> None:
    attention, x = Attention(8, heads=2), torch.randn(3, 8, 4, 5)
    nn.init.normal_(attention.out.weight)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    expected = x + attention.out(mixed).transpose(1, 2).unflatten(2, (4, 5))
    torch.testing.assert_close(attention(x, x), expected)


@pytest.mark.parametrize("features", [1, 3, 8, 11, 16])
@pytest.mark.parametrize("tokens", [1, 5, 9, 18, 49, 64])
def test_a_row_of_attention_does_not_know_its_place(tokens: int, features: int) -> None:
    qkv = torch.randn(7, tokens, 3 * 3 * features)
    y = mix(qkv, 3, training=False)
    torch.testing.assert_close(y, mix(qkv, 3, training=True))
    assert all(torch.equal(mix(qkv.roll(s, 0), 3, training=False).roll(-s, 0), y) for s in range(1, 7))


def test_attention_commutes_with_a_permutation_of_positions() -> None:
    attention, x, order = Attention(8, heads=4), torch.randn(2, 8, 10), torch.randperm(10)
    nn.init.normal_(attention.out.weight)
    torch.testing.assert_close(attention(x, x)[..., order], attention(x[..., order], x))


def test_attention_under_autocast_is_near_float32() -> None:
    attention, x = Attention(16, heads=2), torch.randn(2, 16, 8, 8)
    nn.init.normal_(attention.out.weight, std=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        half = attention(x, x)
    assert (half - attention(x, x)).abs().max() < 0.05


def test_attention_has_a_second_derivative() -> None:
    attention = Attention(4, heads=1).double()
    nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: attention(x, x), x)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads, 8 channels"):
        Attention(8, heads=5)


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_new_residual_block_is_its_shortcut(scale_shift: bool) -> None:
    block = ResBlock(8, 8, rank=2, embedding=16, scale_shift=scale_shift)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x, torch.randn(2, 16)), x)


@pytest.mark.parametrize("kind", RESAMPLERS)
@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_block_changes_the_size_of_both_branches(kind: str, direction: str) -> None:
    change = RESAMPLERS[kind](2, direction)  # type: ignore[arg-type]
    block = ResBlock(8, 8, rank=2, embedding=4, resample=change, gain=0.5).eval()
    nn.init.normal_(block.conv2.weight)
    x, e = torch.randn(2, 8, 6, 4), torch.randn(2, 4)
    h = block.conv1(change(F.silu(block.norm1(x)))) + block.embed(F.silu(e)).reshape(2, 8, 1, 1)
    torch.testing.assert_close(block(x, e), 0.5 * (change(x) + block.conv2(F.silu(block.norm2(h)))))


def test_the_gain_of_attention_is_of_the_sum() -> None:
    attention, x = Attention(64, heads=1, gain=0.5**0.5), torch.randn(4, 64, 16)
    assert torch.equal(attention(x, x), 0.5**0.5 * x), "a new branch is silent"


def test_scale_and_shift_act_on_the_normalised_features() -> None:
    block = ResBlock(8, 8, rank=1, embedding=4, scale_shift=True).eval()
    nn.init.normal_(block.conv2.weight)
    nn.init.zeros_(block.embed.weight)
    scale, shift = torch.randn(8, 1), torch.randn(8, 1)
    with torch.no_grad():
        block.embed.bias.copy_(torch.cat([scale, shift]).flatten())
    x = torch.randn(3, 8, 16)
    h = block.norm2(block.conv1(F.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, torch.randn(3, 4)), x + block.conv2(F.silu(h)))


def test_the_gradient_of_silu_is_finite_at_both_ends_in_both_modes() -> None:
    """Energies, guidance and divergences differentiate a network in eval mode, wherever x has gone."""
    x = torch.linspace(-300, 300, 6001, dtype=torch.float64)
    sigmoid = torch.sigmoid(x)
    exact = sigmoid * (1 + x * (1 - sigmoid))
    for silu in (SiLU().train(), SiLU().eval()):
        at = x.float().requires_grad_()
        (gradient,) = torch.autograd.grad(silu(at).sum(), at)
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=1e-6)
