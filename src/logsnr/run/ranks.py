"""Several processes that share one piece of work: who does what, what they tell each other, how they end together.

Under `torchrun`, and whatever else sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; one process otherwise. In work
of independent examples nothing is exchanged before the end, so that processes whose examples take more evaluations than
others' keep nobody waiting; training exchanges gradients and a few numbers each step (`train.engine`).

A rank whose process ends, for whatever reason, closes its connections, and the next exchange of the others fails at
once: they say so and end too. The time limit is for a rank that neither works nor ends. What several ranks have to say
in the same words, such as that an option is wrong, is said once.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT_HOURS = 12.0
GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`. store: what they can leave each other messages in."""

    rank: int = 0
    count: int = 1
    store: Any = None

    @property
    def first(self) -> bool:
        """True for the one that prints and writes."""
        return self.rank == 0

    def mine(self, parts: list[Tensor]) -> list[Tensor]:
        """Every count-th part; fewer, or none, for the last ranks."""
        return parts[self.rank :: self.count]

    def whole(self, rows: Tensor, count: int, width: int) -> Tensor:
        """(count, …) of all ranks, in order, on each; rows (n, …): those of `mine` of the parts of `width` rows."""
        parts = list(torch.arange(count).split(width))
        numbers = [torch.cat([*Ranks(rank, self.count).mine(parts), parts[0][:0]]) for rank in range(self.count)]
        return self.gathered(rows, list(map(len, numbers)))[torch.argsort(torch.cat(numbers))]

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

    def told(self, what: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What every rank has to say of `what`, a few JSON values each, in the order of the ranks."""
        if self.count == 1:
            return [dict(row)]
        self.store.set(f"{what}/{self.rank}", json.dumps(row))
        return [json.loads(self.store.get(f"{what}/{rank}")) for rank in range(self.count)]


ALONE = Ranks()
_numbers = itertools.count()


@contextmanager
def ranks(hours: float = TIMEOUT_HOURS) -> Iterator[Ranks]:
    """The ranks of this process's group, which lives as long as the block. ValueError for RANK outside WORLD_SIZE.

    hours: how long one waits for another in an exchange. An error that another rank has reported in the same words
    leaves the block as SystemExit.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count == 1:
        yield ALONE
        return
    if not 0 <= rank < count:
        raise ValueError(f"RANK {rank} of WORLD_SIZE {count}; allowed: 0 to WORLD_SIZE − 1")
    # gradients meet on the device, all else on the CPU, whatever computes it
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, *_ = next(iter(dist.rendezvous("env://")))  # type: ignore[attr-defined]
    # a process may have several groups, one after the other; torchrun keeps its store when it starts ranks anew
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt-{attempt}/group-{next(_numbers)}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timedelta(hours=hours))
    try:
        yield Ranks(rank, count, store)
    except Exception as error:
        text = str(error)
        if any(word in text for word in GONE):
            error = RuntimeError(f"another rank has ended, and so this one does: {text}")
        if not _first_to_say(store, str(error), rank, count):
            raise SystemExit(1) from None
        raise error from None
    finally:
        dist.destroy_process_group()
        gc.collect()  # a mesh of ranks that lives to the end of the process may abort it there


GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def _first_to_say(store: Any, text: str, rank: int, count: int) -> bool:
    """Whether no other rank has said this. True, too, where the rank that kept the messages is gone."""
    first = True
    try:
        first = store.add(f"said/{hashlib.sha256(text.encode()).hexdigest()}", 1) == 1
        store.set(f"ended/{rank}", "")
        if rank == 0:  # it may be the keeper, and the others about to say the same
            store.wait([f"ended/{other}" for other in range(count)], timedelta(seconds=GRACE_SECONDS))
    except RuntimeError:
        pass
    return first
