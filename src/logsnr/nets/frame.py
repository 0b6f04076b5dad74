"""What every network on a grid does at its border: read its options, look at x, take any size, spend memory or time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import margins

Options = TypeVar("Options")


def parse(record: Callable[..., Options], network: str, options: Mapping[str, Any]) -> Options:
    """The dataclass of a network's options by name; ValueError with the known names for one that is unknown."""
    known = [field.name for field in fields(record)]  # type: ignore[arg-type]
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name!r} of {network}; known: {', '.join(known)}")
    return record(**options)


def one_of(allowed: Sequence[str], **given: str) -> None:
    """ValueError for an option whose word is not among the allowed ones."""
    for name, word in given.items():
        if word not in allowed:
            raise ValueError(f"unknown {name} {word!r}; known: {', '.join(allowed)}")


def rank_of(shape: Sequence[int], network: str) -> int:
    """The number of spatial axes, 1 to 3, of examples (C, *spatial)."""
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"a {network} takes (C, *spatial) with 1 to 3 spatial axes; got shape {tuple(shape)}")
    return len(shape) - 1


def framed(x: Tensor, channels: int, rank: int, multiple: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """x (B, C, *) with a frame of zeros up to multiples of `multiple`, and the function that cuts the frame off.

    The cut takes any number of channels and gives the precision of x. ValueError if x is not (B, channels, *).
    """
    if x.ndim != rank + 2 or x.shape[1] != channels:
        wanted = f"(B, {channels}{', *' * rank})"
        raise ValueError(f"this network takes x of shape {wanted}; got {tuple(x.shape)}")
    sizes = x.shape[2:]
    edges = margins(sizes, multiple)

    def cut(y: Tensor) -> Tensor:
        for axis, (size, (before, _)) in enumerate(zip(sizes, edges, strict=True), start=2):
            y = y.narrow(axis, before, size)
        return y.to(x.dtype)

    return F.pad(x, [n for edge in reversed(edges) for n in edge]), cut


def run(block: nn.Module, *features: Tensor, checkpointing: bool) -> Tensor:
    """block(*features), recomputed in the backward pass instead of remembered if asked for."""
    if checkpointing and torch.is_grad_enabled():
        recomputed: Tensor = checkpoint(block, *features, use_reentrant=False)
        return recomputed
    result: Tensor = block(*features)
    return result
