"""What a run will cost, measured before it starts: `--dry-run`."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import Any

import torch

from logsnr.config import RunConfig
from logsnr.data import Batches, Dataset
from logsnr.run import build
from logsnr.run.machine import Machine, machine
from logsnr.train.ema import MovingAverages
from logsnr.train.optim import adamw
from logsnr.train.trainer import Trainer


def estimate(config: RunConfig, data: Dataset) -> dict[str, Any]:
    """Size, memory and time of a resolved run, from two optimiser steps on a model that is thrown away."""
    here = machine(config.machine)
    network = build.network_record(config, data.shape)
    model = build.denoiser(config, network, here.autocast).to(here.device)
    task = build.task(config, model)
    trainer = Trainer(
        task, MovingAverages(model, config.train.ema_half_lives_images), adamw(task, lr=config.train.lr),
        learning_rate=lambda step: config.train.lr, seed=config.seed, micro_batch=config.train.micro_batch,
    )  # fmt: skip
    batches = Batches(data, config.train.batch_size, config.seed).iterate(0)
    with closing(batches):
        first, second = (next(iter(trainer.steps([batch]))) for batch in islice(batches, 2))
    parameters = sum(p.numel() for p in model.parameters())
    copies = 4 + len(config.train.ema_half_lives_images)  # weights, gradients, two moments, averages
    return {
        "examples": len(data),
        "shape": list(data.shape),
        "parameters": parameters,
        "weights_and_optimizer_mib": round(copies * parameters * 4 / 2**20, 1),
        "process_mib": round(_peak_mib(here), 1),
        "seconds_per_step": round(min(first.seconds, second.seconds), 4),
        "minutes_in_all": round(config.train.steps * min(first.seconds, second.seconds) / 60, 1),
        "checkpoint_mib": round((3 + len(config.train.ema_half_lives_images)) * parameters * 4 / 2**20, 1),
    }


def _peak_mib(here: Machine) -> float:
    if here.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(here.device) / 2**20)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
