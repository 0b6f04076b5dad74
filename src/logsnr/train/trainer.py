"""The training loop: a generator that yields after optimiser and averages have moved.

It knows "a module that returns a `Loss`" and nothing of noise levels. What a step does is a function of the
weights, of the batch and of (seed, step): noise comes from `Draws`, dropout is re-seeded for every
micro-batch, the learning rate is a law of the step. So 2N steps are, bit for bit, N steps, a checkpoint, and
N steps in another process. (A run that is given a time is the exception: at its end the rate goes by the
clock.) Of several ranks (`engine`) each steps on its share of the batch, and all know the numbers of the whole,
so that they report and decide alike.

A step whose loss or gradient is not finite moves nothing and is counted; the data goes on. The check needs
the loss and the gradient norm on the host before the optimiser moves: that transfer, which also carries what
the log needs, is the only point of a step where the host waits for the device.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from logsnr.draws import Draws
from logsnr.loss import Loss
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import Engine, local
from logsnr.train.names import canonical, copy_into, listed, named_tensors
from logsnr.train.optim import load_optimizer, optimizer_tensors
from logsnr.train.report import Report, binned


class Batch(Protocol):
    """x: (n, *), condition: (n, *) by keyword, examples: (n,) ids of a rank's share. index: (n,) places in B.

    global_batch: B, the examples of all ranks.
    """

    @property
    def step(self) -> int: ...
    @property
    def x(self) -> Tensor: ...
    @property
    def condition(self) -> Mapping[str, Tensor]: ...
    @property
    def index(self) -> Tensor: ...
    @property
    def examples(self) -> Tensor: ...
    @property
    def global_batch(self) -> int: ...


class NonFiniteLoss(ArithmeticError):  # noqa: N818 (names what happened, like FloatingPointError's siblings)
    """Too many steps in a row had a loss or gradient that was not finite; the message names the culprit."""


class State(NamedTuple):
    """What a checkpoint holds of a trainer: live tensors by group and name, and JSON values."""

    tensors: dict[str, dict[str, Tensor]]
    values: dict[str, int]


class _Measured(NamedTuple):
    """One step's per-example numbers on the host, float64 (B,), and the gradient norm before clipping."""

    grad_norm: float
    examples: Tensor
    total: Tensor
    unweighted: Tensor
    taught: Tensor
    parts: dict[str, Tensor]
    times: Tensor


class Trainer:
    """Minimises the batch mean of `task(x, draws, **condition).total`.

    engine: of the task, a module whose forward returns a `Loss`, with `observe(times, losses)`, called after every
        optimiser step with the batch's times and drawn terms as CPU tensors (B,) in global order. Its tensors outside
        the model (say, the history of an importance sampler) are the checkpoint's group `task`.
    averages: of the module that is "the model", which lies within the task.
    optimizer: over the task's parameters. learning_rate: law of the number of finished steps and of the share of the
        time that is spent, as the engine knows it.
    micro_batch: most examples in one forward of a rank; None for all. The sum of gradients does not know the split.
    clip_norm: largest global norm of the gradient; None for no limit.
    max_skipped: this many steps in a row that are not finite raise `NonFiniteLoss`.
    """

    def __init__(
        self,
        engine: Engine,
        averages: MovingAverages,
        optimizer: torch.optim.Optimizer,
        *,
        learning_rate: Callable[[int, float], float],
        seed: int = 0,
        micro_batch: int | None = None,
        clip_norm: float | None = 1.0,
        max_skipped: int = 10,
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {micro_batch}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be positive or None, not {clip_norm}")
        self.engine, self.task = engine, engine.task
        self.model, self.averages, self.optimizer = averages.module, averages, optimizer
        self.learning_rate, self.seed, self.micro_batch = learning_rate, seed, micro_batch
        self.clip_norm, self.max_skipped = clip_norm, max_skipped
        self.step = self.images = self.skipped = self.skipped_in_a_row = 0
        self._observe = cast(Callable[[Tensor, Tensor], None], self.task.observe)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device

    def steps(self, batches: Iterable[Batch]) -> Iterator[Report]:
        """One report a batch; ValueError if the batches do not go on at `step`. May raise `NonFiniteLoss`."""
        for batch in batches:
            if batch.step != self.step:
                raise ValueError(f"the trainer is at step {self.step}, the batch is of step {batch.step}")
            yield self._step(batch)

    def _step(self, batch: Batch) -> Report:
        started = time.perf_counter()
        lr = self.learning_rate(self.step, self.engine.spent)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        losses = self._accumulate(batch)
        measured = self._measured(batch, losses)
        loss = measured.total.mean().item()

        finite = math.isfinite(loss) and math.isfinite(measured.grad_norm)
        self.step += 1
        self.images += batch.global_batch
        if finite:
            if self.clip_norm is not None and measured.grad_norm > self.clip_norm:
                norm = torch.tensor(measured.grad_norm, dtype=torch.float32, device=self._device)
                torch._foreach_mul_(list(map(local, self._gradients())), self.clip_norm / (norm + 1e-6))
            self.optimizer.step()
            self.averages.update(self.images, batch.global_batch)
            self._observe(measured.times, measured.taught)
            self.skipped_in_a_row = 0
        else:
            self._skip(batch, measured)
        return Report(
            step=self.step,
            images=self.images,
            loss=loss,
            parts={name: part.mean().item() for name, part in measured.parts.items()},
            loss_bins=binned(measured.times, measured.unweighted),
            lr=lr,
            grad_norm=measured.grad_norm,
            seconds=time.perf_counter() - started,
            skipped=not finite,
        )

    def _accumulate(self, batch: Batch) -> list[Loss]:
        """Backward of the batch mean, micro-batch by micro-batch, as many on every rank; one example at least in each.

        Where a rank has none left it repeats its first, whose loss counts for nothing.
        """
        if not (self.task.training and self.model.training):
            self.task.train()  # a preview may have left the model in evaluation mode
        engine, most = self.engine, -(-batch.global_batch // self.engine.ranks)
        width = min(self.micro_batch or most, most)
        count = -(-most // width)
        draws = Draws(self.seed, batch.step, batch.index, batch.global_batch)
        x = batch.x.to(self._device, non_blocking=True)
        condition = {k: v.to(self._device, non_blocking=True) for k, v in batch.condition.items()}
        losses = []
        for micro_step in range(count):
            rows = slice(micro_step * width, (micro_step + 1) * width)
            own = len(x[rows])
            rows = rows if own else slice(0, 1)
            _seed_dropout(self._device, (self.seed, batch.step, micro_step, *[engine.rank] * (engine.rank > 0)))
            with nullcontext() if micro_step == count - 1 else engine.accumulating():
                loss = engine.forward(x[rows], draws.rows(rows), **{k: v[rows] for k, v in condition.items()})
                (loss.total[:own].sum() * engine.ranks / batch.global_batch).backward()
            if own:
                losses.append(_detached(loss))
        engine.finish(self._parameters)
        return losses

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters if p.grad is not None]

    def _measured(self, batch: Batch, losses: list[Loss]) -> _Measured:
        """Bring the step's numbers to the host in one transfer: here, and nowhere else, the host waits.

        Then they are exchanged with those of the other ranks.
        """
        names = list(losses[0].parts)
        rows = 3 + len(names)
        flat = [
            torch.stack([loss.total, loss.unweighted, loss.taught, *(loss.parts[name] for name in names)]).flatten()
            for loss in losses
        ]
        norm = self.engine.norm(self._gradients()).reshape(1).to(self._device)
        share, *host = torch.cat([norm, *flat]).cpu().double().split([1, *map(len, flat)])
        times = torch.cat([loss.times for loss in losses]).cpu().double()
        own = torch.cat([micro.reshape(rows, -1) for micro in host], dim=1)
        columns = torch.cat([batch.examples.cpu().double()[None], times[None], own])
        grad_norm, columns = self.engine.exchanged(share.item(), columns, batch.global_batch)
        examples, times, total, unweighted, taught, *parts = columns
        return _Measured(
            grad_norm, examples.long(), total, unweighted, taught, dict(zip(names, parts, strict=True)), times
        )

    def _skip(self, batch: Batch, measured: _Measured) -> None:
        """Count a step that is not finite; at the limit say whose fault the last one was."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row < self.max_skipped:
            return
        bad = ~measured.total.isfinite()
        if bad.any():
            examples, times = measured.examples[bad].tolist(), measured.times[bad].tolist()
            pairs = zip(examples, times, strict=True)
            culprit = "loss of " + listed(f"example {example} at time {t:.4f}" for example, t in pairs)
        else:
            named = self.task.named_parameters()
            broken = (canonical(n) for n, p in named if p.grad is not None and not local(p.grad).isfinite().all())
            culprit = "gradient of " + next(broken, "no single parameter: their common norm overflows")
        raise NonFiniteLoss(f"step {self.step}, the last of {self.skipped_in_a_row} not finite: {culprit}")

    def state(self) -> State:
        """Live tensors in groups `model`, `ema`…, `optimizer`, and `task` if that has tensors of its own."""
        tensors = {
            "model": named_tensors(self.model),
            **self.averages.state(),
            "optimizer": optimizer_tensors(self.optimizer, self.task),
        }
        if own := self._own_tensors():
            tensors["task"] = own
        values = {
            "step": self.step,
            "images": self.images,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }
        return State(tensors, values)

    def load_state(self, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> None:
        """Go on where a saved trainer stopped; ValueError in one line for what is missing or does not fit."""
        mine = self.state()
        missing = [*(mine.tensors.keys() - tensors.keys()), *(mine.values.keys() - values.keys())]
        if not missing and values["step"] > values["skipped"] and not tensors.get("optimizer"):
            missing = ["optimizer"]
        if missing:
            raise ValueError(f"not the state of such a trainer: missing {listed(missing)}")
        copy_into(named_tensors(self.model), tensors["model"], "model")
        copy_into(self._own_tensors(), tensors.get("task", {}), "task")
        self.averages.load_state(tensors)
        load_optimizer(self.optimizer, self.task, tensors.get("optimizer", {}))
        self.step, self.images = values["step"], values["images"]
        self.skipped, self.skipped_in_a_row = values["skipped"], values["skipped_in_a_row"]

    def like(self) -> Callable[[str, str], Tensor | None]:
        """By group and name the live tensor that a saved one is, or is a moment of: where its parts belong."""
        model = named_tensors(self.model)
        parameters = {canonical(name): parameter for name, parameter in self.task.named_parameters()}

        def found(group: str, name: str) -> Tensor | None:
            return parameters.get(name.partition(".")[2]) if group == "optimizer" else model.get(name)

        return found

    def _own_tensors(self) -> dict[str, Tensor]:
        inside = {id(tensor) for tensor in named_tensors(self.model).values()}
        return {name: t for name, t in named_tensors(self.task).items() if id(t) not in inside}


def _seed_dropout(device: torch.device, name: tuple[int, ...]) -> None:
    """Seed the generators that dropout on `device` draws from by a hash of (seed, step, micro-step, rank if not 0).

    `torch.manual_seed` would also note a stack trace for every kind of accelerator that is absent: 0.6 ms.
    """
    seed = int.from_bytes(hashlib.blake2b(f"dropout/{name}".encode(), digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        accelerator = torch.get_device_module(device)
        getattr(accelerator, "manual_seed_all", accelerator.manual_seed)(seed)


def _detached(loss: Loss) -> Loss:
    """Without the graphs: that of a part which backward never visits would keep its activations."""
    parts = {name: part.detach() for name, part in loss.parts.items()}
    return Loss(loss.total.detach(), parts, loss.times.detach(), loss.unweighted.detach(), loss.taught.detach())
