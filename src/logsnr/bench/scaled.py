"""What a second rank brings: the product's trainer on one and on two ranks of one thread each, at one global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import torch

from logsnr.bench import ours
from logsnr.bench.vehicle import read
from logsnr.bench.work import Work
from logsnr.data.order import Batch, share
from logsnr.run.ranks import Ranks, ranks
from logsnr.run.session import trainer_for
from logsnr.train.report import Report

_forever = ExitStack()  # a group lives as long as the process


def training(folder: Path, together: int) -> Work:
    """One step of `together` ranks, of which this process is the first; the others are its children."""
    if together > 1 and "RANK" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(WORLD_SIZE=str(together), RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        command = [sys.executable, "-m", "logsnr.bench.scaled", str(folder)]
        for rank in range(1, together):
            subprocess.Popen(command, env={**os.environ, "RANK": str(rank)})
    torch.set_num_threads(1)
    steps, facts = _steps(folder, _forever.enter_context(ranks()))
    return Work(lambda: next(steps).loss, {**facts, "ranks": together})


def _steps(folder: Path, group: Ranks) -> tuple[Iterator[Report], dict[str, Any]]:
    """The reports of this rank's steps on its share of the probe."""
    vehicle = read(folder)
    config, here = ours.configured(vehicle, "auto")
    made = trainer_for(config, vehicle.record, here, ours.LATTICE, group)
    size = len(vehicle.probe["x"])
    mine = torch.tensor(share(size, group.rank, group.count))
    x = vehicle.probe["x"][mine]
    batches = (Batch(step, x, {}, mine, mine, size) for step in count())
    return made.steps(batches), {"units": size, "unit": "images", **here.record()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with ranks() as everybody:
        for _ in _steps(Path(sys.argv[1]), everybody)[0]:
            pass
