"""The least that a training step can be: what the product's trainer is measured against.

The same forward and backward, optimiser, clipping, average and noise draws as the trainer's, written down once after
the other; no report, no check, nothing kept.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_

from logsnr.bench import ours
from logsnr.bench.vehicle import read
from logsnr.bench.work import Work
from logsnr.draws import Draws
from logsnr.train.ema import lerp

DECAY = 0.9999


def training(folder: Path) -> Work:
    """One step on the vehicle."""
    vehicle = read(folder)
    config, here = ours.configured(vehicle, "auto")
    made = ours.trainer(vehicle, config, here)
    task, optimizer = made.task.train(), made.optimizer
    parameters = list(made.model.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    x, step = vehicle.probe["x"].to(here.device), 0

    def go() -> float:
        nonlocal step
        optimizer.zero_grad()
        loss = task(x, Draws(0, step, torch.arange(len(x)), len(x))).total.mean()
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        lerp(averages, parameters, DECAY)
        step += 1
        return float(loss)

    return Work(go, {"units": len(x), "unit": "images", **here.record()})
