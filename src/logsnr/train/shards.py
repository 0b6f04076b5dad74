"""A group of tensors written by several ranks together: a directory of safetensors files, each rank's own part in one.

    model/shard-00001-model-00001-of-00001.safetensors  shard-00002-…

`torch.distributed.checkpoint` decides who writes what and reads any cut of it back into any other, so that a group of N
ranks is read by M, or by one. Its own format keeps what it decided in a pickle; its writer of Hugging Face's format,
which is used here, keeps it in the headers of the safetensors files. (Between the ranks of a job plans do travel as
pickles, over the job's own connections; nothing of that reaches a disk.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor

from logsnr.train.engine import sharded

Like = Callable[[str], Tensor | None]


def together() -> None:
    """Wait here for all ranks, on the host."""
    dist.all_reduce(torch.zeros(1))


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write this rank's part of `tensors` into `folder`; every rank calls it. OSError in one line, on all of them."""
    dcp: Any = _library()
    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save({name: tensor.detach() for name, tensor in tensors.items()}, storage_writer=writer)
    except dcp.api.CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        raise OSError(f"rank {rank} cannot write to {folder}: {cause}") from None


def read(folder: Path, files: Collection[str], like: Like) -> dict[str, Tensor]:
    """The tensors of a group whose files are `files`: whole ones on the CPU, or this rank's part alone.

    like: by name a live tensor; one that is sharded says which part is wanted, and where. ValueError in one line for
    files that are missing or damaged.
    """
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if missing := sorted(set(files) - set(there)):
        raise ValueError(f"incomplete checkpoint {folder.parent}: {folder.name} lacks {', '.join(missing)}")
    if not files:
        return {}
    dcp: Any = _library()
    reader = dcp.HuggingFaceStorageReader(str(folder))
    try:
        described = reader.read_metadata().state_dict_metadata
        rooms = {name: _room(saved, like(name)) for name, saved in described.items()}
        with warnings.catch_warnings():  # that nothing is exchanged is meant
            warnings.simplefilter("ignore", UserWarning)
            dcp.load(rooms, storage_reader=reader, no_dist=True)
    except (SafetensorError, dcp.api.CheckpointException) as error:
        raise ValueError(f"damaged checkpoint {folder.parent}: {folder.name}: {_cause(error)}") from None
    return rooms


def _room(saved: Any, like: Tensor | None) -> Tensor:
    """Memory for a saved tensor: the same part of it as `like` where that is a part of one of its shape."""
    if like is not None and sharded(like) and like.shape == saved.size:
        return torch.empty_like(like, dtype=saved.properties.dtype)
    return torch.empty(saved.size, dtype=saved.properties.dtype)


def _cause(error: Any) -> str:
    failures = getattr(error, "failures", {})
    return " ".join(str(next(iter(failures.values()))[0] if failures else error).split())


def _library() -> Any:
    dcp = import_module("torch.distributed.checkpoint")  # only where it is wanted: it takes a while
    if "HuggingFaceStorageWriter" not in vars(dcp):
        raise ValueError(
            f"sharded checkpoints with torch {torch.__version__}; allowed: torch 2.8 and later, or --engine ddp"
        )
    return dcp
