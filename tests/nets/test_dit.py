from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from logsnr.nets import DiT, build, dit, sinusoidal
from logsnr.nets.dit import Block, patches, picture, places

Awaken = Callable[[nn.Module], nn.Module]
LABEL = torch.tensor([3.0, 700.0])
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2, "frequencies": 8}


@pytest.mark.parametrize(
    ("name", "width", "depth", "millions"),
    [("dit-s2", 384, 12, 33), ("dit-b2", 768, 12, 130), ("dit-xl2", 1152, 28, 675)],
)
def test_the_papers_sizes_have_their_parameters(name: str, width: int, depth: int, millions: int) -> None:
    with torch.device("meta"):
        network = build(name, (4, 32, 32), num_classes=1000, out_channels=8)
    count = sum(parameter.numel() for parameter in network.parameters())
    block = (3 + 1 + 4 + 4 + 6) * width**2 + (3 + 1 + 4 + 1 + 6) * width
    ends = 16 * width + width + 32 * width + 32 + 2 * width**2 + 2 * width
    assert count == depth * block + ends + (256 + width + 2) * width + 1001 * width
    assert round(count / 1e6) == millions


@pytest.mark.parametrize("sizes", [(12,), (6, 9), (3, 6, 9)])
def test_patches_are_cut_in_order_and_put_back(sizes: tuple[int, ...]) -> None:
    x, rank = torch.randn(2, 4, *sizes), len(sizes)
    grid = [size // 3 for size in sizes]
    tokens = patches(x, 3)
    assert torch.equal(picture(tokens, grid, 3), x)
    last = x[(slice(None), slice(None), *(slice(-3, None),) * rank)]
    assert torch.equal(tokens[:, -1], last.flatten(1))
    if rank == 2:
        assert torch.equal(tokens[:, 1], x[:, :, 0:3, 3:6].flatten(1)), "the last axis runs first"


def test_places_are_the_sines_of_each_axis_side_by_side() -> None:
    table = places([3, 5], 12, torch.device("cpu")).reshape(3, 5, 12)
    for i, j in ((0, 0), (2, 1), (1, 4)):
        expected = torch.cat([sinusoidal(torch.tensor([float(k)]), 6)[0] for k in (i, j)])
        torch.testing.assert_close(table[i, j], expected)
    assert places([2, 2, 2], 13, torch.device("cpu")).shape == (8, 13)
    assert len(places([9, 9], 16, torch.device("cpu")).unique(dim=0)) == 81


def test_a_new_block_is_the_identity_and_gates_open_one_branch_each() -> None:
    block = Block(16, 2, 4, 0.0).eval()
    h, e = torch.randn(2, 9, 16), torch.randn(2, 16)
    assert torch.equal(block(h, e), h)
    bias = torch.zeros(6, 16)
    bias[1], bias[0], bias[2] = 0.5, 0.25, 2.0  # scale, shift and gate of attention
    with torch.no_grad():
        block.steer.bias.copy_(bias.flatten())
    u = F.layer_norm(h, (16,), eps=1e-6) * 1.5 + 0.25
    q, k, v = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in block.qkv(u).chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block(h, e), h + 2.0 * block.out(mixed))
    bias[:3], bias[4], bias[3], bias[5] = 0.0, 0.5, 0.25, 2.0  # and of the perceptron
    with torch.no_grad():
        block.steer.bias.copy_(bias.flatten())
    torch.testing.assert_close(block(h, e), h + 2.0 * block.perceptron(u))


def shifted(x: Tensor) -> Tensor:
    return x.roll((2, -4), (2, 3))


def test_moving_the_picture_and_the_table_of_places_moves_the_output(
    awaken: Awaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without places, a transformer sees a set of patches: only the table breaks the symmetry."""
    network, x = awaken(DiT((1, 8, 8), **SMALL)), torch.randn(2, 1, 8, 8)
    y = network(x, LABEL)
    assert not torch.allclose(network(shifted(x), LABEL), shifted(y), atol=1e-3)
    table = places([4, 4], 16, torch.device("cpu"))
    moved = table.reshape(4, 4, 16).roll((1, -2), (0, 1)).flatten(0, 1)
    monkeypatch.setattr(dit, "places", lambda *_: moved)
    torch.testing.assert_close(network(shifted(x), LABEL), shifted(y), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(dit, "places", lambda *_: torch.zeros(16, 16))
    torch.testing.assert_close(network(shifted(x), LABEL), shifted(network(x, LABEL)), rtol=1e-4, atol=1e-4)


def test_blocks_of_a_new_network_do_nothing(awaken: Awaken) -> None:
    network = DiT((1, 8, 8), **SMALL).eval()
    nn.init.normal_(network.head.weight)
    x = torch.randn(2, 1, 8, 8)
    h = network.stem(patches(x, 2)) + places([4, 4], 16, x.device)
    expected = picture(network.head(F.layer_norm(h, (16,), eps=1e-6)), [4, 4], 2)
    torch.testing.assert_close(network(x, LABEL), expected)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="3 heads, 16 channels"):
        DiT((1, 8, 8), **{**SMALL, "heads": 3})
    with pytest.raises(ValueError, match="at least 2 per spatial axis, 4; got 2"):
        DiT((1, 8, 8), **{**SMALL, "width": 2})
    with pytest.raises(ValueError, match="positive integers"):
        DiT((1, 8, 8), **{**SMALL, "patch": 0})
