from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DModel

from logsnr import nets
from logsnr.interop.diffusers import network_record, weights

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 32),
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}


@pytest.mark.parametrize(
    "options",
    [
        {"attention_head_dim": None},
        {"attention_head_dim": 8, "layers_per_block": 2, "in_channels": 1, "out_channels": 2},
        {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3, "add_attention": False},
    ],
)
def test_the_network_with_their_weights_gives_their_output(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = UNet2DModel(**SMALL | options)
    record = network_record(theirs.config)
    ours = nets.construct(record)
    ours.load_state_dict(weights(theirs.state_dict(), record))
    x, label = torch.randn(3, theirs.config.in_channels, 16, 16), torch.tensor([0.0, 10.0, 999.0])
    with torch.no_grad():
        wanted = theirs(x, label).sample
        for network in (ours.train(), ours.eval()):
            assert (network(x, label) - wanted).abs().max() < 1e-5 < 1e-2 < wanted.std()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier'"),
        ({"downsample_type": "resnet", "upsample_type": "conv"}, "downsample_type = 'resnet'"),
        ({"up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")}, "AttnUpBlock2D"),
        ({"add_attention": False}, "middle has attention"),
        ({"block_out_channels": (16, 24, 32)}, "multiples of the first"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        network_record({"in_channels": 3, "out_channels": 3, **SMALL, **options})


def test_a_missing_and_a_foreign_tensor_are_named() -> None:
    theirs = UNet2DModel(**SMALL)
    record, tensors = network_record(theirs.config), theirs.state_dict()
    with pytest.raises(ValueError, match="'extra'"):
        weights(tensors | {"extra": torch.zeros(1)}, record)
    with pytest.raises(ValueError, match="mid_block.resnets.0.conv1.bias"):
        weights({name: t for name, t in tensors.items() if name != "mid_block.resnets.0.conv1.bias"}, record)
