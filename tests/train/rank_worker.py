"""One rank of a training of the toy: `rank_worker.py OUT STEPS ENGINE…`, under torchrun or alone.

Writes OUT/ENGINE.json (losses, norms, bins, what the law of t was told) from the first rank, with the weights.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from toy_task import Batch, batches, law, toy

from logsnr.data.order import share
from logsnr.train.ema import MovingAverages
from logsnr.train.engine import engine
from logsnr.train.optim import adamw
from logsnr.train.trainer import Trainer


def shares(start: int, stop: int, rank: int, ranks: int) -> Iterator[Batch]:
    """The rank's stretch of every batch."""
    for whole in batches(start, stop):
        rows = slice(*(lambda r: (r.start, r.stop))(share(whole.global_batch, rank, ranks)))
        condition = {name: value[rows] for name, value in whole.condition.items()}
        yield whole._replace(x=whole.x[rows], condition=condition, index=whole.index[rows], examples=whole.examples[rows])


def trained(name: str, steps: int, rank: int, ranks: int, **settings: int) -> dict[str, object]:
    task = toy()
    made = engine(name, task, task.model, rank, ranks)
    run = Trainer(
        made, MovingAverages(task.model, [300, 3000]), adamw(task, lr=1.0, weight_decay=0.01),
        learning_rate=law, seed=11, **settings,
    )  # fmt: skip
    reports = list(run.steps(shares(0, steps, rank, ranks)))
    return {
        "losses": [report.loss for report in reports],
        "norms": [report.grad_norm for report in reports],
        "history": task.history.tolist(),
    }


def main(out: Path, steps: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1:
        dist.init_process_group("gloo")
    for name in names:
        for micro in (None, 2):
            found = trained(name, steps, rank, ranks, micro_batch=micro)
            (out / f"{name}-{micro}-{ranks}-{rank}.json").write_text(json.dumps(found))
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
