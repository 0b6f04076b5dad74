"""From a name and the shape of one example to a network, by way of a plain record that a checkpoint can keep.

    config = configure("small", (1, 28, 28), num_classes=10)      # JSON-able, every option spelt out
    network = construct(config)

A network of one's own takes one line, `NETWORKS["mine"] = Mine`, where `Mine(shape, *, num_classes,
out_channels, **options)` is a module called as `network(x, label, **condition)`; then `build("mine", shape)`
works, and a named size of it is one more entry of `SIZES`. Condition images are concatenated to the
input of any network, and so are vectors, as constant channels, unless it has a parameter `vector_features` and does
better with them (`Conditioning`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from torch import nn

from .concatenated import Concatenated
from .dit import DiT
from .energy import Energy
from .mlp import MLP
from .ncsnpp import NCSNpp
from .refinenet import RefineNet
from .sizes import SIZES
from .unet import UNet
from .vdm_unet import VDMUNet

NETWORKS: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "mlp": MLP, "vdm_unet": VDMUNet}
NETWORKS |= {"ncsnpp": NCSNpp, "refinenet": RefineNet, "dit": DiT}

# What stands between a network's own output and the world; "energy" answers with the gradient of one number.
OUTPUTS: dict[str, Callable[[nn.Module], nn.Module]] = {"energy": Energy}


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
    output: str | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """The complete configuration of a network as a JSON-able record.

    Args:
        name: a key of `SIZES`, or of `NETWORKS` for a network with its own defaults.
        shape: (D,) or (C, *spatial) of one example. For vectors "small" stands for "mlp-small", and so on.
        num_classes, vector_features, condition_channels: K classes, F numbers, C' channels that condition it, or 0.
        out_channels: D or C unless given; a learned variance doubles it.
        output: a key of `OUTPUTS`, or None for the network's own.
        overrides: options of the named size to change.

    Raises:
        ValueError: for a name or an option that is unknown, naming the known ones.
    """
    options = _options(f"mlp-{name}" if len(shape) == 1 and f"mlp-{name}" in SIZES else name, overrides)
    if output is not None and output not in OUTPUTS:
        raise ValueError(f"unknown output {output!r} of a network; known: {', '.join(OUTPUTS)}")
    if output is not None and out_channels not in (None, shape[0]):
        raise ValueError(
            f"output {output!r} of a network answers with the {shape[0]} channels of x, and {out_channels} are wanted; "
            "allowed: variance small or large, or the network's own output"
        )
    beside = {"vector_features": vector_features, "condition_channels": condition_channels}
    return {
        **options,
        **overrides,
        **({} if output is None else {"output": output}),
        **{key: size for key, size in beside.items() if size},
        "shape": list(shape),
        "num_classes": num_classes,
        "out_channels": shape[0] if out_channels is None else out_channels,
    }


def _options(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a named size, or of a network with its own defaults; ValueError for what is unknown."""
    if name in SIZES:
        known = [key for key in SIZES[name] if key != "network"]
        for key in overrides:
            if key not in known:
                raise ValueError(f"unknown option {key!r} of network {name!r}; known: {', '.join(known)}")
        return SIZES[name]
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join([*SIZES, *NETWORKS])}")
    return {"network": name}


def construct(config: Mapping[str, Any]) -> nn.Module:
    """The network, with fresh weights, that `configure` described."""
    options = dict(config)
    kind, output = options.pop("network", None), options.pop("output", None)
    if kind not in NETWORKS:
        raise ValueError(f"unknown network {kind!r}; known: {', '.join(NETWORKS)}")
    shape, channels, features = options.pop("shape"), options.pop("condition_channels", 0), 0
    if "vector_features" not in signature(NETWORKS[kind]).parameters:
        features = options.pop("vector_features", 0)
    more = Concatenated.width(channels, features)
    if more and "base_channels" in signature(NETWORKS[kind]).parameters:
        options["base_channels"] = shape[0]  # the first ones are x, the others conditions
    network = NETWORKS[kind]([shape[0] + more, *shape[1:]] if more else shape, **options)
    network = Concatenated(network, channels, features) if more else network
    return network if output is None else OUTPUTS[output](network)


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
