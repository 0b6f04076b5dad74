"""A trained run: loaded from its directory alone, ready to sample and to be asked for its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.config import MachineConfig, Part, RunConfig, from_dict
from logsnr.data import Dataset, Transform
from logsnr.denoiser import Clipped, Denoiser, Model
from logsnr.draws import Draws
from logsnr.likelihood import Bound, bound_for
from logsnr.loss import Loss
from logsnr.run import build
from logsnr.run.generate import Recipe, generate
from logsnr.run.machine import Machine, machine
from logsnr.train import checkpoint


@dataclass(frozen=True)
class Trained:
    """A model with its configuration and data transform. source: its checkpoint; weights: "ema…" or "raw"."""

    model: Denoiser
    config: RunConfig
    transform: Transform
    machine: Machine
    source: Path
    step: int
    weights: str

    def recipe(
        self, *, sampler: str | Part | None = None, steps: int | None = None, seed: int = 0, **options: Any
    ) -> Recipe:
        """How `sample` makes examples: the run's own defaults, overridden. options: of the sampler, and `spacing`."""
        chosen = self.config.sample
        part = chosen.sampler if sampler is None else Part(sampler) if isinstance(sampler, str) else sampler
        spacing = options.pop("spacing", chosen.spacing)
        part = replace(part, options={**part.options, **options})
        return Recipe(
            path=self.model.path,
            part=part,
            sampler=build.sampler(part, self.config.variance),
            grid=self.model.path.grid(steps or chosen.steps, chosen.end, spacing),
            shape=self.transform.shape,
            width=chosen.width or 1,
            seed=seed,
            device=self.machine.device,
        )

    @property
    def clipped(self) -> Model:
        """The model with the data's own clip policy: x̂0 within the range of discrete data."""
        if self.transform.clip is None or not self.config.sample.clip:
            return self.model
        return Clipped(self.model, *self.transform.clip)

    def sample_x0(
        self,
        index: Tensor,
        *,
        recipe: Recipe | None = None,
        batch_size: int | None = None,
        advance: Callable[[int], None] = lambda examples: None,
    ) -> Tensor:
        """Examples `index` (n,) in model units, float32 (n, *shape); example i depends on (seed, i) alone."""
        recipe = recipe or self.recipe()
        return generate(recipe, lambda rows: self.clipped, index, batch_size=batch_size, advance=advance)

    def sample(self, count: int, **options: Any) -> np.ndarray:
        """`count` examples in the data's own shape, dtype and range. options: as for `recipe`."""
        return self.transform.decode(self.sample_x0(torch.arange(count), recipe=self.recipe(**options)))

    @property
    def bound(self) -> Bound:
        """The variational bound of the run's own chain: all T steps, its reverse variance, the data's decoder."""
        path = self.model.path
        grid = path.grid(path.schedule.steps or 1000)
        return bound_for(grid, path.prior_std, self.config.variance, self.transform.lattice)

    @torch.inference_mode()
    def bound_nats(self, data: Dataset, *, seed: int = 0, repeats: int = 1, batch_size: int = 128) -> Loss:
        """An unbiased estimate of the bound for every example of `data`, once, in nats: parts by name, (N,).

        repeats: independent estimates of each example's terms, averaged.
        """
        chunks = []
        for index in torch.arange(len(data)).split(batch_size):
            x0 = data.batch(index.numpy())[0].to(self.machine.device)
            losses = [self.bound.estimate(self.model, x0, Draws(seed, r, index, len(data))) for r in range(repeats)]
            chunks.append({k: torch.stack([loss.parts[k] for loss in losses]).mean(0).cpu() for k in losses[0].parts})
        parts = {name: torch.cat([part[name] for part in chunks]) for name in chunks[0]}
        total = torch.stack(list(parts.values())).sum(0)
        return Loss(total, parts, torch.zeros_like(total), total)


def find(path: Path) -> Path:
    """The checkpoint that `path`, a run directory or a checkpoint, stands for. ValueError says what is there."""
    if (path / "state.json").is_file():
        return path
    newest = checkpoint.latest(path / "checkpoints")
    if newest is None:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) if path.is_dir() else "no such directory"
        raise ValueError(f"no run or checkpoint at {path} ({there or 'empty'}); allowed: the --out of a training")
    return newest


def load(path: str | Path, *, weights: str = "ema", machine_config: MachineConfig | None = None) -> Trained:
    """A trained run from its directory or one checkpoint. weights: "ema", "raw", or "ema-<half-life>".

    ValueError in one line when there is none, it is damaged, or has no such weights.
    """
    source = find(Path(path))
    saved = checkpoint.load(source)
    group = "model" if weights == "raw" else weights
    if group not in saved.tensors or group in ("optimizer", "task"):
        known = ["raw", *(name for name in saved.tensors if name.startswith("ema"))]
        raise ValueError(f"no weights {weights!r} in {source}; there are: {', '.join(known)}")
    config = from_dict(saved.state["config"])
    here = machine(machine_config or config.machine)
    model = build.denoiser(config, saved.state["network"], here.autocast)
    model.load_state_dict(saved.tensors[group])
    model.to(here.device).eval().requires_grad_(False)
    transform = Transform.from_dict(saved.state["transform"])
    return Trained(model, config, transform, here, source, saved.step, weights)
