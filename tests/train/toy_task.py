"""A task small enough to compare bit for bit, its batches, and a trainer for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logsnr.draws import Draws
from logsnr.loss import Loss
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import Engine
from logsnr.train.optim import adamw, learning_rate
from logsnr.train.trainer import Trainer

SIZE = 6


class Batch(NamedTuple):
    step: int
    x: Tensor
    condition: dict[str, Tensor]
    index: Tensor
    examples: Tensor
    global_batch: int = SIZE


def batches(start: int, stop: int) -> Iterator[Batch]:
    """A pure function of the step; three steps are an epoch of 18 examples in shuffled order."""
    data = torch.randn(18, 3, generator=torch.Generator().manual_seed(0))
    for step in range(start, stop):
        order = torch.randperm(18, generator=torch.Generator().manual_seed(step // 3))
        chosen = order[step % 3 * SIZE :][:SIZE]
        condition = {"label": (chosen % 2).float()}
        yield Batch(step, data[chosen], condition, torch.arange(SIZE), chosen)


class Toy(nn.Module):
    """ε-matching on a straight path; its history weighs the loss, so losing it in a checkpoint shows."""

    def __init__(self, *, dropout: float = 0.0, poison: tuple[int, ...] = (), kind: str = "loss") -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Dropout(dropout), nn.Linear(8, 3))
        self.poison, self.kind = poison, kind
        self.register_buffer("history", torch.zeros(4, dtype=torch.float64))
        self.observed: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, draws: Draws, label: Tensor) -> Loss:
        t, eps = draws.stratified("t"), draws.normal("eps", x)
        weight = t.to(x).unsqueeze(-1)
        out = self.model(torch.cat([(1 - weight) * x + weight * eps, label.unsqueeze(-1)], dim=-1))
        error = (out - eps).square().mean(-1)
        total = error * (1 + self.history.mean().to(x))
        if draws.step in self.poison and self.kind == "loss":
            total = total + torch.where(draws.index == 2, math.inf, 0.0)
        if draws.step in self.poison and self.kind == "gradient":
            total = total + (self.model[3].bias * 0.0).abs().sqrt().sum()  # value 0, gradient 0·∞
        return Loss(total, {"matching": error, "weight": total / error}, t, error)

    def observe(self, times: Tensor, losses: Tensor) -> None:
        self.observed.append((times, losses))
        self.history.mul_(0.9).add_(torch.bincount((times * 4).long(), losses, minlength=4), alpha=0.02)


def law(step: int, spent: float) -> float:
    return learning_rate(step, spent, base=0.02, warmup_steps=3, total_steps=40, decay="cosine", cooldown=0.5)


def trainer(task: Toy, **settings: Any) -> Trainer:
    averages = MovingAverages(task.model, [300, 3000])
    optimizer = adamw(task, lr=1.0, weight_decay=0.01)
    return Trainer(Engine(task), averages, optimizer, learning_rate=law, seed=11, **settings)


def toy(**settings: Any) -> Toy:
    torch.manual_seed(5)
    return Toy(**settings)


def copied(trainer: Trainer) -> dict[str, Tensor]:
    """Every tensor of the trainer's state, by group and name, as it is now."""
    return {f"{g}/{n}": t.detach().clone() for g, named in trainer.state().tensors.items() for n, t in named.items()}


def assert_bits(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different
