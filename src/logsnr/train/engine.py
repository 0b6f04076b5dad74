"""How several ranks train one model: what wraps the task, and the one exchange of a step beside the gradients.

The loss of a step is the mean over the global batch of B examples, of which rank r of R has a stretch. Each rank
differentiates its own examples' sum, divided by B; gradients are summed over the ranks. (Both wrappers take the mean
over ranks instead, so the sum is multiplied by R before.) R is then no part of the result, beyond the order of sums.

ddp: every rank has the whole model. fsdp: the network's parameters are sharded (FSDP2); parameters outside it, those of
a learned schedule or of the objective, stay replicated, as they are used outside the wrapped forward.

What the log, the law of t and the judgement of a step need of all examples travels in one tensor of the host, together
with each rank's share of the gradient norm, its wish to leave and its clock: ranks decide alike because they know the
same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from logsnr.draws import Draws
from logsnr.loss import Loss


def sharded(tensor: Tensor) -> bool:
    """Whether other ranks have the rest of it."""
    loaded: Any = sys.modules.get("torch.distributed.tensor")  # half a second to import: who has none, has no shards
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, in the same memory; any other tensor as it is."""
    there: Any = tensor
    return there.to_local() if sharded(tensor) else tensor


class Engine:
    """One rank that trains alone. task: module whose forward returns a `Loss`.

    wish: asked once a step how much this rank wants to leave, 0 for not at all. clock: asked once a step which share of
    its time is spent; `spent` is the greatest of all ranks, as of the last step. together: whether every forward needs
    all ranks.
    """

    name = "alone"
    together = False

    def __init__(self, task: nn.Module, rank: int = 0, ranks: int = 1) -> None:
        self.task, self.rank, self.ranks = task, rank, ranks
        self.wish: Callable[[], int] = lambda: 0
        self.clock: Callable[[], float] = lambda: 0.0
        self.spent, self._told = 0.0, 0

    def forward(self, x: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        """The task's answer, through whatever sees to the gradients."""
        loss: Loss = self.task(x, draws, **condition)
        return loss

    def accumulating(self) -> AbstractContextManager[None]:
        """Forward and backward inside keep their gradients to this rank: the sum will be exchanged later."""
        return nullcontext()

    def finish(self, parameters: list[nn.Parameter]) -> None:
        """After the last backward: exchange the gradients that no wrapper has."""

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """This rank's share of their norm; the root of the shares' sum of squares is the norm over all ranks."""
        return get_total_norm(gradients)

    @property
    def leaving(self) -> int:
        """The greatest wish of all ranks, as of the last step: the same on all."""
        return self._told if self.ranks > 1 else self.wish()

    def exchanged(self, norm: float, columns: Tensor, global_batch: int) -> tuple[float, Tensor]:
        """The global norm, and what all ranks know of their examples: columns (k, n) → (k, B) in global order, CPU."""
        self.spent = self.clock()
        if self.ranks == 1:
            return norm, columns
        own = torch.tensor([norm, self.wish(), self.spent, columns.shape[1]], dtype=torch.float64)
        room = -(-global_batch // self.ranks) - columns.shape[1]
        mine = torch.cat([own, torch.nn.functional.pad(columns, (0, room)).flatten()])
        parts = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(parts, mine)
        norms, wishes, clocks, counts = torch.stack([part[: len(own)] for part in parts]).unbind(1)
        self._told, self.spent = int(wishes.max()), float(clocks.max())
        tables = [part[len(own) :].reshape(len(columns), -1) for part in parts]
        rows = [table[:, : int(count)] for table, count in zip(tables, counts, strict=True)]
        return float(torch.linalg.vector_norm(norms)), torch.cat(rows, dim=1)


class Replicated(Engine):
    """DistributedDataParallel: each rank has the whole model, gradients meet while backward goes on."""

    name = "ddp"

    def __init__(self, task: nn.Module, rank: int, ranks: int) -> None:
        super().__init__(task, rank, ranks)
        # buffers are the same by construction, as every rank observes the same losses; the word changed in torch 2.13
        wrapper: Any = nn.parallel.DistributedDataParallel
        known = signature(wrapper).parameters
        word = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        self._wrapped = wrapper(task, **{word: False})

    def forward(self, x: Tensor, draws: Draws, **condition: Tensor) -> Loss:
        loss: Loss = self._wrapped(x, draws, **condition)
        return loss

    def accumulating(self) -> AbstractContextManager[None]:
        return self._wrapped.no_sync()

    def norm(self, gradients: list[Tensor]) -> Tensor:
        return super().norm(gradients if self.rank == 0 else [])


class Sharded(Engine):
    """FSDP2: each rank keeps 1/R of the network's parameters, gradients and optimiser, and gathers a block to use it.

    network: module within the task; its blocks are the elements of its lists. Build averages and optimiser afterwards.
    """

    name, together = "fsdp", True

    def __init__(self, task: nn.Module, rank: int, ranks: int, network: nn.Module) -> None:
        from torch.distributed.device_mesh import init_device_mesh  # only where they are wanted: they take a while
        from torch.distributed.fsdp import fully_shard

        super().__init__(task, rank, ranks)
        self._network: Any = network
        # of an operation in place on what a module returned: there is none
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        mesh = init_device_mesh(next(network.parameters()).device.type, (ranks,))
        for module in (*_blocks(network), network):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        self._network.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._network.set_requires_gradient_sync(True)

    def finish(self, parameters: list[nn.Parameter]) -> None:
        whole = [p.grad for p in parameters if p.grad is not None and not sharded(p)]
        if whole:
            flat = torch.cat([gradient.flatten() for gradient in whole])
            dist.all_reduce(flat)
            for gradient, mean in zip(whole, (flat / self.ranks).split([g.numel() for g in whole]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def norm(self, gradients: list[Tensor]) -> Tensor:
        return super().norm([local(g) for g in gradients if sharded(g) or self.rank == 0])


def engine(name: str, task: nn.Module, network: nn.Module, rank: int = 0, ranks: int = 1) -> Engine:
    """The engine `name` of ENGINES; of one rank, which shares with nobody, always the plain one.

    network: the part of the task that fsdp shards. ValueError lists the names.
    """
    if name not in ENGINES:
        raise ValueError(f"engine {name!r}; allowed: {', '.join(ENGINES)}")
    if ranks == 1:
        return Engine(task)
    return Sharded(task, rank, ranks, network) if name == "fsdp" else Replicated(task, rank, ranks)


ENGINES = ("auto", "ddp", "fsdp")


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost modules in lists, of those that are called as one and have parameters."""
    found = []
    for child in network.children():
        called = type(child).forward is not nn.Module.forward
        if called and _listed(network) and next(child.parameters(), None) is not None:
            found.append(child)
        else:
            found += _blocks(child)
    return found


def _listed(module: nn.Module) -> bool:
    """Whether it is a mere list, which is not called itself."""
    return isinstance(module, nn.ModuleList) and type(module).forward is nn.Module.forward
