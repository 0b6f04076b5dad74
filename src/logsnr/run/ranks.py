"""Several processes that share one piece of work: who does what, and one gathering at the end.

Under `torchrun`, and whatever else sets RANK and WORLD_SIZE; one process otherwise. Nothing is exchanged while the work
is done, so that processes whose examples take more evaluations than others' keep nobody waiting before the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT_HOURS = 12.0


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the one that prints and writes."""
        return self.rank == 0

    def mine(self, parts: list[Tensor]) -> list[Tensor]:
        """Every count-th part; fewer, or none, for the last ranks."""
        return parts[self.rank :: self.count]

    def gathered(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """The rows (n, …) of all ranks, rank after rank, where rank r has sizes[r] of them.

        Later dimensions may be shorter on one rank than on another; zeros fill them.
        """
        if self.count == 1:
            return rows
        shape = torch.tensor(rows.shape[1:], dtype=torch.int64)
        if len(shape):
            dist.all_reduce(shape, dist.ReduceOp.MAX)
        room = rows.new_zeros(max(sizes), *shape.tolist())
        room[tuple(slice(0, size) for size in rows.shape)] = rows
        parts = [torch.empty_like(room) for _ in sizes]
        dist.all_gather(parts, room)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The ranks of this process's group, which lives as long as the block. ValueError for RANK outside WORLD_SIZE."""
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count == 1:
        yield Ranks()
        return
    if not 0 <= rank < count:
        raise ValueError(f"RANK {rank} of WORLD_SIZE {count}; allowed: 0 to WORLD_SIZE − 1")
    # results are gathered on the CPU, whatever computes them
    dist.init_process_group("gloo", timeout=timedelta(hours=TIMEOUT_HOURS))
    try:
        yield Ranks(rank, count)
    finally:
        dist.destroy_process_group()
