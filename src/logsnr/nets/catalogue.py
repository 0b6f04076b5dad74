"""From a name and the shape of one example to a network, by way of a plain record that a checkpoint can keep.

    config = configure("small", (1, 28, 28), num_classes=10)      # JSON-able, every option spelt out
    network = construct(config)

A network of one's own takes one line, `NETWORKS["mine"] = Mine`, where `Mine(shape, *, num_classes,
out_channels, **options)` is a module called as `network(x, label, **condition)`; then `build("mine", shape)`
works, and a named size of it is one more entry of `SIZES`. One that has a parameter `vector_features` takes vectors too
(`Conditioning` does the work); condition images are concatenated to the input of any network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from torch import nn

from .concatenated import Concatenated
from .mlp import MLP
from .sizes import SIZES
from .unet import UNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "mlp": MLP}


def default_size(shape: Sequence[int]) -> str:
    """A size that suits examples of this shape: (D,) or (C, *spatial)."""
    if len(shape) == 1:
        return "mlp-small"
    longest = max(shape[1:])
    return "digits" if longest <= 16 else "small" if longest <= 64 else "base" if longest <= 128 else "large"


def configure(
    name: str,
    shape: Sequence[int],
    *,
    num_classes: int = 0,
    vector_features: int = 0,
    condition_channels: int = 0,
    out_channels: int | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """The complete configuration of a network as a JSON-able record.

    Args:
        name: a key of `SIZES`, or of `NETWORKS` for a network with its own defaults.
        shape: (D,) or (C, *spatial) of one example. For vectors "small" stands for "mlp-small", and so on.
        num_classes: 0 for a network without classes.
        vector_features: F of the vectors that condition it, 0 for none.
        condition_channels: C' of the images that condition it, 0 for none.
        out_channels: D or C unless given; a learned variance doubles it.
        overrides: options of the named size to change.

    Raises:
        ValueError: for a name or an option that is unknown, naming the known ones.
    """
    if len(shape) == 1 and f"mlp-{name}" in SIZES:
        name = f"mlp-{name}"
    if name in SIZES:
        options = SIZES[name]
        known = [key for key in options if key != "network"]
        for key in overrides:
            if key not in known:
                raise ValueError(f"unknown option {key!r} of network {name!r}; known: {', '.join(known)}")
    elif name in NETWORKS:
        options = {"network": name}
    else:
        raise ValueError(f"unknown network {name!r}; known: {', '.join([*SIZES, *NETWORKS])}")
    able = [kind for kind, network in NETWORKS.items() if "vector_features" in signature(network).parameters]
    if vector_features and options["network"] not in able:
        raise ValueError(f"network {options['network']!r} takes no vectors; allowed: {', '.join(able)}")
    beside = {"vector_features": vector_features, "condition_channels": condition_channels}
    return {
        **options,
        **overrides,
        **{key: size for key, size in beside.items() if size},
        "shape": list(shape),
        "num_classes": num_classes,
        "out_channels": shape[0] if out_channels is None else out_channels,
    }


def construct(config: Mapping[str, Any]) -> nn.Module:
    """The network, with fresh weights, that `configure` described."""
    options = dict(config)
    kind = options.pop("network", None)
    if kind not in NETWORKS:
        raise ValueError(f"unknown network {kind!r}; known: {', '.join(NETWORKS)}")
    channels, shape = options.pop("condition_channels", 0), list(options.pop("shape"))
    if not channels:
        return NETWORKS[kind](shape, **options)
    return Concatenated(NETWORKS[kind]([shape[0] + channels + 1, *shape[1:]], **options), channels)


def build(
    name: str,
    shape: Sequence[int],
    *,
    num_classes: int = 0,
    out_channels: int | None = None,
    **overrides: Any,
) -> nn.Module:
    """`construct(configure(...))`: a network by the name of its size."""
    return construct(configure(name, shape, num_classes=num_classes, out_channels=out_channels, **overrides))
