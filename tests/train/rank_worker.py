"""One rank of trainings of the toy, under torchrun or alone: `rank_worker.py OUT STEPS ENGINE…`.

For every engine, without and with accumulation, OUT gets what the rank knows at the end, and a checkpoint.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from toy_task import Batch, batches, law, toy

from logsnr.data.order import share
from logsnr.train import checkpoint
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import engine
from logsnr.train.optim import adamw
from logsnr.train.trainer import Trainer

MICRO = (None, 2)


def shares(start: int, stop: int, rank: int, ranks: int) -> Iterator[Batch]:
    """The rank's stretch of every batch."""
    for whole in batches(start, stop):
        own = share(whole.global_batch, rank, ranks)
        rows = slice(own.start, own.stop)
        condition = {name: value[rows] for name, value in whole.condition.items()}
        x, index, examples = whole.x[rows], whole.index[rows], whole.examples[rows]
        yield whole._replace(x=x, condition=condition, index=index, examples=examples)


def trainer_of(name: str, rank: int, ranks: int, micro_batch: int | None, **settings: tuple[int, ...]) -> Trainer:
    task = toy(**settings)
    # of the two layers fsdp shards the first alone: the other stays replicated, as a learned schedule does
    made = engine(name, task, task.model[0], rank, ranks)
    averages, optimizer = MovingAverages(task.model, [300, 3000]), adamw(task, lr=1.0, weight_decay=0.01)
    return Trainer(made, averages, optimizer, learning_rate=law, seed=11, micro_batch=micro_batch, clip_norm=0.5)


def spent(run: Trainer, steps: int, pace: float) -> float:
    """A clock that goes by steps, on all ranks but the last one slowly."""
    return pace * run.step / steps


def main(out: Path, steps: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        dist.init_process_group("gloo")
    for name in names:
        for micro in MICRO:
            run = trainer_of(name, rank, ranks, micro, poison=(7,))
            run.engine.clock = partial(spent, run, steps, 1.5 if rank == ranks - 1 else 0.5)
            reports = [asdict(report) for report in run.steps(shares(0, steps, rank, ranks))]
            said = {"reports": reports, "history": run.task.history.tolist()}
            (out / f"{name}-{micro}-rank{rank}.json").write_text(json.dumps(said))
            together = rank if run.engine.together else None
            if together is not None or rank == 0:
                tensors, values = run.state()
                checkpoint.save(out / f"{name}-{micro}", run.step, tensors, {"trainer": values}, rank=together)
    if ranks > 1:
        dist.destroy_process_group()
        del run
        gc.collect()  # a mesh that lives to the end of the process may abort it there


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
