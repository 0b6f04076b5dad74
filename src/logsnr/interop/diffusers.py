"""Weights of diffusers' `UNet2DModel` in our U-Net: the same network under other names.

diffusers numbers the residual blocks of a level and the attentions beside them apart, where `UNet` has one chain for
each skip; queries, keys and values are three matrices there and one here. Everything else is a name. What has no
counterpart (a resampling by blocks, another activation, an embedding of classes) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# What UNet2DModel's configuration must say, beside the names of its blocks, for the network to be ours.
SAME: dict[str, Any] = {
    "act_fn": "silu",
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
}
DOWN, UP, ATTENTION = ("DownBlock2D", "AttnDownBlock2D"), ("UpBlock2D", "AttnUpBlock2D"), "Attn"


def network_record(config: Mapping[str, Any]) -> dict[str, Any]:
    """The record (`nets.construct`) of the U-Net that `UNet2DModel` builds from `config`, its config.json.

    ValueError names the first setting that our U-Net has no counterpart of, and what is allowed.
    """
    for key, wanted in SAME.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"UNet2DModel with {key} = {config[key]!r}; allowed: {wanted!r}")
    kinds, ups = list(config["down_block_types"]), list(config["up_block_types"])
    with_attention = [kind.startswith(ATTENTION) for kind in kinds]
    mirrored = [UP[attends] for attends in reversed(with_attention)]
    if not set(kinds) <= set(DOWN) or ups != mirrored:
        raise ValueError(f"UNet2DModel of {kinds} and {ups}; allowed: {', '.join(DOWN)}, and {', '.join(UP)} mirrored")
    if config.get("add_attention", True) != any(with_attention):
        raise ValueError(
            "UNet2DModel whose middle has attention but no level, or the reverse; allowed: both or neither"
        )
    widths, size = list(config["block_out_channels"]), config.get("sample_size") or 32
    if any(width % widths[0] for width in widths):
        raise ValueError(f"UNet2DModel of widths {widths}; allowed: multiples of the first")
    return {
        "network": "unet",
        "shape": [config["in_channels"], *([size, size] if isinstance(size, int) else size)],
        "out_channels": config["out_channels"],
        "num_classes": 0,
        "channels": widths[0],
        "multipliers": [width // widths[0] for width in widths],
        "blocks": config["layers_per_block"],
        "attention": [2**level for level, attends in enumerate(with_attention) if attends],
        "heads": 1,
        "head_width": config.get("attention_head_dim"),
        "dropout": config.get("dropout", 0.0),
        "scale_shift": False,
        "resample": "conv",
        "groups": config.get("norm_num_groups", 32),
        "checkpointing": False,
    }


def weights(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our names for the tensors of a `UNet2DModel` whose `network_record` is `record`.

    ValueError names a tensor that is missing or belongs nowhere.
    """
    rest, ours = dict(tensors), dict[str, Tensor]()
    for name, sources in _named(record):
        for kind in ("weight", "bias"):
            wanted = [f"{source}.{kind}" for source in sources]
            missing = [key for key in wanted if key not in rest]
            if missing:
                raise ValueError(f"no tensor {missing[0]!r} among the weights of this UNet2DModel")
            ours[f"{name}.{kind}"] = torch.cat([rest.pop(key) for key in wanted])
    if rest:
        raise ValueError(f"tensor {sorted(rest)[0]!r} has no place in the U-Net of this configuration")
    return ours


def foreign(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> dict[str, Tensor]:
    """The inverse of `weights`: their names for the tensors of our U-Net."""
    theirs = dict[str, Tensor]()
    for name, sources in _named(record):
        for kind in ("weight", "bias"):
            parts = tensors[f"{name}.{kind}"].chunk(len(sources))
            theirs |= {f"{source}.{kind}": part.clone() for source, part in zip(sources, parts, strict=True)}
    return theirs


def _named(record: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Our name of each layer, and theirs: one, or the three whose outputs ours lays side by side."""
    yield from ((ours, [theirs]) for ours, theirs in (
        ("stem", "conv_in"), ("head.0", "conv_norm_out"), ("head.2", "conv_out"),
        ("embedding.perceptron.0", "time_embedding.linear_1"), ("embedding.perceptron.2", "time_embedding.linear_2"),
    ))  # fmt: skip
    widths = [record["channels"] * multiplier for multiplier in record["multipliers"]]
    attends, last = [2**level in record["attention"] for level in range(len(widths))], len(widths) - 1
    chain, current, skips = 0, widths[0], [widths[0]]
    for level, width in enumerate(widths):
        block = f"down_blocks.{level}"
        for layer in range(record["blocks"]):
            yield from _residual(f"down.{chain}.0", f"{block}.resnets.{layer}", shortcut=current != width)
            if attends[level]:
                yield from _attention(f"down.{chain}.1", f"{block}.attentions.{layer}")
            chain, current = chain + 1, width
            skips.append(width)
        if level < last:
            yield f"down.{chain}.0.conv", [f"{block}.downsamplers.0.conv"]
            chain += 1
            skips.append(width)
    yield from _residual("middle.0", "mid_block.resnets.0", shortcut=False)
    if any(attends):
        yield from _attention("middle.1", "mid_block.attentions.0")
    yield from _residual(f"middle.{1 + any(attends)}", "mid_block.resnets.1", shortcut=False)
    chain = 0
    for place, level in enumerate(reversed(range(len(widths)))):
        block = f"up_blocks.{place}"
        for layer in range(record["blocks"] + 1):
            shortcut = current + skips.pop() != widths[level]
            yield from _residual(f"up.{chain}.0", f"{block}.resnets.{layer}", shortcut=shortcut)
            if attends[level]:
                yield from _attention(f"up.{chain}.1", f"{block}.attentions.{layer}")
            chain, current = chain + 1, widths[level]
        if level:
            yield f"up.{chain - 1}.{1 + attends[level]}.conv", [f"{block}.upsamplers.0.conv"]


def _residual(ours: str, theirs: str, *, shortcut: bool) -> Iterator[tuple[str, Sequence[str]]]:
    names = {"norm1": "norm1", "conv1": "conv1", "embed": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
    for name, other in (names | ({"shortcut": "conv_shortcut"} if shortcut else {})).items():
        yield f"{ours}.{name}", [f"{theirs}.{other}"]


def _attention(ours: str, theirs: str) -> Iterator[tuple[str, Sequence[str]]]:
    yield f"{ours}.norm", [f"{theirs}.group_norm"]
    yield f"{ours}.qkv", [f"{theirs}.to_{part}" for part in "qkv"]
    yield f"{ours}.out", [f"{theirs}.to_out.0"]
