"""Canonical names: what a tensor is called must not depend on how the module was wrapped.

`DistributedDataParallel` calls its content `module`, `torch.compile` calls it `_orig_mod`. Names that keep
such a prefix fit only the same wrapping, and averages matched by them freeze silently. Every file and every
tree of this room therefore uses names without them, and every load is strict and checked before the first
number moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from logsnr.train.engine import sharded

_WRAPPERS = frozenset({"module", "_orig_mod"})


def canonical(name: str) -> str:
    """The dotted name without the path components that wrappers add."""
    *path, last = name.split(".")
    return ".".join([part for part in path if part not in _WRAPPERS] + [last])


def canonical_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under canonical names; ValueError if two of them would become one."""
    renamed = {canonical(name): tensor for name, tensor in tensors.items()}
    if len(renamed) != len(tensors):
        clashes = [name for name, count in Counter(map(canonical, tensors)).items() if count > 1]
        raise ValueError(f"several tensors are called {listed(clashes)} once the wrappers' prefixes are gone")
    return renamed


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The live parameters and persistent buffers of `module`; tied ones are one tensor, several names."""
    return canonical_names(module.state_dict(keep_vars=True))


def copy_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor], label: str) -> None:
    """target ← source in place, by name; ValueError names what is missing, unexpected or of another shape."""
    missing, unexpected = target.keys() - source.keys(), source.keys() - target.keys()
    if missing or unexpected:
        raise ValueError(f"{label}: missing tensors {listed(missing)}; unexpected tensors {listed(unexpected)}")
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            given, needed = tuple(source[name].shape), tuple(tensor.shape)
            raise ValueError(f"{label}: {name} has shape {given}, the module needs {needed}")
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(placed(source[name], tensor))


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, dealt out as `like` is where that is sharded: each rank cuts its own part."""
    if not sharded(like) or sharded(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    there: Any = like
    return distribute_tensor(tensor.to(like.device), there.device_mesh, there.placements, src_data_rank=None)


def listed(names: Iterable[object], most: int = 8) -> str:
    """A few of the names in order, for a message of one line."""
    ordered = sorted(map(str, names))
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return (", ".join(ordered[:most]) or "none") + rest
