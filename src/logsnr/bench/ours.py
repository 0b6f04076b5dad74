"""Our side of every contest: the product's own paths, nothing made faster for the occasion."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.bench.vehicle import Vehicle, forward_flops, read
from logsnr.bench.work import Work
from logsnr.config import RunConfig, resolve
from logsnr.data import Batch, Batches, load
from logsnr.data.transform import Lattice
from logsnr.denoiser import Clipped, Denoiser
from logsnr.draws import Draws
from logsnr.likelihood.flow import ode
from logsnr.run import build
from logsnr.run.machine import Machine, machine
from logsnr.run.session import trainer_for
from logsnr.run.training import train
from logsnr.samplers import DDIM, seeded, simulate
from logsnr.train import checkpoint
from logsnr.train.trainer import Trainer

STEPS = 50
LATTICE = Lattice(-1.0, 1.0, 256)
CALLS = 1_000_000  # compilation is paid for


def configured(vehicle: Vehicle, precision: str) -> tuple[RunConfig, Machine]:
    """DDPM on the vehicle, with the optimiser settings of diffusers' training example."""
    batch_size = len(vehicle.probe["x"])
    train = {"batch_size": batch_size, "lr": 1e-4, "betas": [0.95, 0.999], "weight_decay": 1e-6, "warmup_steps": 0}
    config = resolve("ddpm", [{"train": train, "machine": {"precision": precision}}])
    parameters = build.parameters(vehicle.record)
    return config, machine(config.machine, parameters=parameters, calls=CALLS)


def model_of(vehicle: Vehicle, config: RunConfig, here: Machine) -> Denoiser:
    """Ready to sample."""
    model = build.denoiser(config, vehicle.record, here.autocast)
    model.network.load_state_dict(vehicle.network().state_dict())
    return here.placed(model).eval().requires_grad_(False)


def trainer(vehicle: Vehicle, config: RunConfig, here: Machine) -> Trainer:
    """With the vehicle's weights, in training and averaged."""
    made = trainer_for(config, vehicle.record, here, LATTICE)
    with torch.no_grad():
        for name, parameter in made.model.network.named_parameters():  # type: ignore[union-attr]
            parameter.copy_(vehicle.network().state_dict()[name])
    return made


def probe_loss(vehicle: Vehicle) -> float:
    """|ε − ε̂|²/D of the probe, in float32."""
    noise, x = vehicle.probe["noise"], vehicle.probe["x"]
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[vehicle.probe["times"]]
    alpha_bar = alpha_bar.float().reshape(-1, 1, 1, 1)
    x_t = alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise
    with torch.no_grad():
        found = vehicle.network()(x_t, vehicle.probe["times"].float())
    return float((found - noise).square().mean())


def training(folder: Path, precision: str = "auto") -> Work:
    """One optimiser step of the product's trainer: noise, forward, backward, clipping, AdamW, averages, report."""
    vehicle = read(folder)
    config, here = configured(vehicle, precision)
    count, made = len(vehicle.probe["x"]), trainer(vehicle, config, here)

    def batches() -> Iterator[Batch]:
        places = torch.arange(count)
        while True:
            yield Batch(made.step, vehicle.probe["x"], {}, places, places, len(places))

    steps = made.steps(batches())
    facts = {"units": count, "unit": "images", "flops": 3 * forward_flops(vehicle), "probe_loss": probe_loss(vehicle)}
    return Work(lambda: _synchronised(here, next(steps).loss), {**facts, **here.record()})


def sampling(folder: Path, precision: str = "auto") -> Work:
    """DDIM in 50 steps from the probe's starting points to pictures in [0, 1] on the host; shows the first numbers."""
    vehicle = read(folder)
    config, here = configured(vehicle, precision)
    model = Clipped(model_of(vehicle, config, here), -1, 1)
    path = build.path(config)
    grid = path.grid(f"ddim{STEPS}")
    start = vehicle.probe["start"].to(here.device)
    noise = seeded(0, torch.arange(len(start)), start)

    @torch.inference_mode()
    def go() -> list[float]:
        for step in simulate(DDIM(eta=0.0), model, start, grid, noise=noise):
            x = step.x
        return picture(x).flatten()[::97].tolist()

    return Work(go, {"units": len(start), "unit": "images", "flops": STEPS * forward_flops(vehicle), **here.record()})


def picture(x: Tensor) -> np.ndarray:
    """(B, H, W, C) in [0, 1]."""
    return (x.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()


def likelihood(folder: Path) -> Work:
    """The flow's density of two pictures by one probe each, at the tolerance 1e-3."""
    vehicle = read(folder)
    config, here = configured(vehicle, "fp32")
    model = model_of(vehicle, config, here)
    x = vehicle.probe["x"][:2].to(here.device)
    estimator = ode(build.path(config), config.variance, None, probes=1, tolerance=1e-3)

    def go() -> dict[str, Any]:
        found = estimator.estimate(model, x, Draws(0, 0, torch.arange(len(x)), len(x)))
        return {"nats": sum(found.parts.values()).tolist(), "evaluations": found.evaluations.tolist()}  # type: ignore[union-attr]

    return Work(go, {"units": len(x), "unit": "images", **here.record()})


def ceiling(folder: Path, product: str) -> Work:
    """What this machine's products can do in the precision of `auto`, in FLOP/s: the best of several sizes."""
    vehicle = read(folder)
    _, here = configured(vehicle, "auto")
    dtype = here.autocast or torch.float32
    batch = len(vehicle.probe["x"])
    made: list[tuple[Callable[[], Tensor], int]] = []
    if product == "matrix":
        side = 2048 if here.device.type == "cpu" else 8192
        a = torch.randn(side, side, device=here.device, dtype=dtype)
        made.append((partial(torch.mm, a, a), 2 * side**3))
    else:
        for channels, size in ((64, 32), (128, 16), (256, 16), (256, 8)):
            layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=here.device, dtype=dtype)
            layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = torch.randn(batch, channels, size, size, device=here.device, dtype=dtype)
            x = x.contiguous(memory_format=torch.channels_last)
            made.append((partial(layer, x), 18 * batch * channels**2 * size**2))

    @torch.inference_mode()
    def go() -> float:
        best = 0.0
        for work, flops in made:
            for _ in range(5):
                started = time.perf_counter()
                _synchronised(here, work())
                best = max(best, flops / (time.perf_counter() - started))
        return best

    return Work(go, {"units": 1, "unit": "FLOP/s", **here.record()})


def loading(folder: Path) -> Work:
    """Fifty batches of 64 pictures of 8 × 8, in model units, with conditions, read ahead."""
    batches = Batches(load("digits"), 64, 0).iterate(0)
    return Work(lambda: sum(next(batches).x.sum().item() for _ in range(50)), {"units": 3200, "unit": "images"})


def checkpoint_save(folder: Path) -> Work:
    """Weights, averages and optimiser of the vehicle, published and on the disk."""
    made, root = _stepped(folder), Path(tempfile.mkdtemp(dir=folder))
    count = iter(range(1_000_000))

    def go() -> int:
        tensors, values = made.state()
        saved = checkpoint.save(root, next(count), tensors, {"trainer": values})
        checkpoint.rotate(root, 1)
        return sum(file.stat().st_size for file in saved.iterdir())

    return Work(go, {"units": 1, "unit": "checkpoints"})


def checkpoint_load(folder: Path) -> Work:
    """The same, read back into a trainer."""
    made, root = _stepped(folder), Path(tempfile.mkdtemp(dir=folder))
    tensors, values = made.state()
    saved = checkpoint.save(root, 1, tensors, {"trainer": values})

    def go() -> None:
        found = checkpoint.load(saved)
        made.load_state(found.tensors, found.state["trainer"])

    return Work(go, {"units": 1, "unit": "checkpoints"})


def start(folder: Path, code: str = "", module: list[str] | None = None) -> Work:
    """A Python that does one thing from a cold start."""
    command = [sys.executable, "-c", code] if module is None else [sys.executable, "-m", *module]

    def go() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return Work(go, {"units": 1, "unit": "starts"})


def start_sample(folder: Path) -> Work:
    """`logsnr sample` of 16 digits from a cold start: by the network of the size that digits get, barely trained."""
    run, out = folder / "digits", folder / "samples"
    train(resolve("ddpm", [{"train": {"steps": 2, "preview_every": 0}}]), run, say=lambda text: None)
    words = ["logsnr", "sample", str(run), "--n", "16", "--out", str(out), "--quiet"]
    return start(folder, module=words)


def _stepped(folder: Path) -> Trainer:
    """A trainer whose optimiser has a state."""
    vehicle = read(folder)
    config, here = configured(vehicle, "fp32")
    made = trainer(vehicle, config, here)
    for parameter in made.task.parameters():
        parameter.grad = torch.ones_like(parameter)
    made.optimizer.step()
    return made


def _synchronised(here: Machine, value: Any) -> Any:
    if here.device.type == "cuda":
        torch.cuda.synchronize(here.device)
    return value
