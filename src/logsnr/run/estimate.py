"""What a run will cost, measured before it starts: `--dry-run`."""

from __future__ import annotations

import sys
from contextlib import closing
from itertools import islice
from typing import Any

import torch

from logsnr.config import RunConfig
from logsnr.data import Batches, Dataset
from logsnr.run import build
from logsnr.run.machine import Machine, machine
from logsnr.run.session import trainer_for

TRIAL_STEPS = 5  # the first ones are slow: kernels are chosen, memory is taken


def estimate(config: RunConfig, data: Dataset) -> dict[str, Any]:
    """Size, memory and time of a resolved run, from the fastest of a few steps on a model that is thrown away."""
    law, lattice = config.train, data.transform.lattice
    record = build.network_record(config, data.shape, lattice, data.conditions.sizes)
    here = machine(config.machine, parameters=build.parameters(record), calls=law.steps)
    trainer = trainer_for(config, record, here, lattice)
    batches = Batches(data, law.batch_size, config.seed, flip=config.data.flip).iterate(0)
    with closing(batches):
        seconds = min(report.seconds for report in trainer.steps(islice(batches, TRIAL_STEPS)))
    parameters = sum(p.numel() for p in trainer.model.parameters())
    averages = len(law.ema_half_lives_images)
    limits = [law.steps * seconds / 60]
    if law.images is not None:
        limits.append(law.images / law.batch_size * seconds / 60)
    if law.minutes is not None:
        limits.append(law.minutes)
    return {
        "examples": len(data),
        "shape": list(data.shape),
        "parameters": parameters,
        "weights_gradients_optimizer_averages_mib": round((4 + averages) * parameters * 4 / 2**20, 1),
        "process_mib": round(_peak_mib(here), 1),
        "seconds_per_step": round(seconds, 4),
        "minutes_in_all": round(min(limits), 1),
        "checkpoint_mib": round((3 + averages) * parameters * 4 / 2**20, 1),
    }


def _peak_mib(here: Machine) -> float:
    if here.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(here.device) / 2**20)
    try:
        import resource
    except ImportError:
        return float("nan")
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kibibytes / 1024
