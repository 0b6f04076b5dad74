"""A trained run: loaded from its directory alone, ready to sample and to be asked for its likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.config import RunConfig, from_dict, overlay
from logsnr.data import Conditions, Dataset, Transform
from logsnr.data.conditions import NO_CONDITIONS, NONE
from logsnr.denoiser import Clipped, Denoiser, Model
from logsnr.likelihood import Estimator
from logsnr.likelihood.audit import Records
from logsnr.records import Part, to_dict
from logsnr.run import build, edit
from logsnr.run.audit import Pass, audited
from logsnr.run.generate import Recipe, default_width, generate
from logsnr.run.given import Given
from logsnr.run.given import given as conditions_given
from logsnr.run.machine import Machine, machine
from logsnr.run.ranks import ALONE, Ranks
from logsnr.samplers import Step
from logsnr.train import checkpoint
from logsnr.train.names import copy_into, named_tensors


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
    conditions: Conditions = NO_CONDITIONS

    def recipe(
        self,
        *,
        sampler: str | None = None,
        steps: int | str | None = None,
        seed: int = 0,
        condition: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
        **options: Any,
    ) -> Recipe:
        """How `sample` makes examples: the run's own defaults, overridden.

        sampler: a name, with that sampler's own defaults; None for the run's, with its options.
        condition: that of the examples of an index; by default what `given` says when nothing is given.
        options: of the sampler; `spacing` and `end` of the grid; `temperature` of the prior.
        """
        chosen = self.config.sample
        part = chosen.sampler if sampler is None else Part(sampler)
        count, end = chosen.steps if steps is None else steps, options.pop("end", chosen.end)
        asked, temperature = options.pop("spacing", None), options.pop("temperature", chosen.temperature)
        part = build.sampler_part(Part(part.name, {**part.options, **options}), self.config.variance, count)
        build.check_spread(part, self.config.variance)
        solver = build.sampler(part, self.model.path)
        # a grid that a sampler brings goes before the run's own, which was chosen for another sampler
        own = chosen.spacing if part.name == chosen.sampler.name else Part(solver.spacing) if solver.spacing else None
        spacing = Part(asked) if asked else own or chosen.spacing or Part(solver.spacing or "uniform")
        return Recipe(
            path=self.model.path,
            part=part,
            sampler=solver,
            spacing=spacing,
            grid=build.grid(self.model.path, spacing, count, end),
            shape=self.transform.shape,
            width=self.width,
            seed=seed,
            device=self.machine.device,
            temperature=temperature,
            condition=self.given(seed=seed) if condition is None else condition,
        )

    def sampled(self, layers: Iterable[Mapping[str, Any]], sampler: str | None = None) -> Trained:
        """The run with other leaves of `sample`: nested mappings, lowest first, over the run's own.

        sampler: a name, whose own defaults the layers then change. ValueError for any other key.
        """
        sample = self.config.sample
        if sampler is not None:
            sample = replace(sample, sampler=Part(sampler), spacing=None)
        record = to_dict(replace(self.config, sample=sample))
        for layer in layers:
            if layer.keys() != {"sample"}:
                raise ValueError(f"--set {', '.join(layer)} of a trained run; allowed: sample.KEY=VALUE")
            record = overlay(record, layer)
        return replace(self, config=from_dict(record))

    def given(
        self,
        *,
        seed: int = 0,
        classes: str | int | Sequence[str | int] = (),
        vectors: np.ndarray | None = None,
        conditions: np.ndarray | None = None,
    ) -> Given:
        """The conditions of a sampling (`run.given`). classes: one or more names or indices, or "none", in turn.

        vectors: (n, F), conditions: (n, C', *spatial), raw, as in the data. ValueError lists the known classes.
        """
        names = [classes] if isinstance(classes, (str, int)) else list(classes)
        arrays = {name: a for name, a in (("vector", vectors), ("image", conditions)) if a is not None}
        return conditions_given(
            self.conditions, drop=self.config.condition.drop, seed=seed, classes=names, arrays=arrays
        )

    def model_for(self, recipe: Recipe, index: Tensor) -> Model:
        """`clipped` under the conditions of the examples `index`, (width,)."""
        return recipe.bound(self.clipped, index)

    @property
    def run_dir(self) -> Path:
        """The directory of the run; of a checkpoint that stands alone, its own."""
        return self.source.parent.parent if self.source.parent.name == "checkpoints" else self.source

    @property
    def width(self) -> int:
        """Examples in every call of the network."""
        return self.config.sample.width or default_width(self.transform.shape)

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
        watch: Callable[[Step, int], None] = lambda step, rows: None,
        ranks: Ranks = ALONE,
    ) -> Tensor:
        """Examples `index` (n,) in model units, float32 (n, *shape); example i depends on (seed, i) alone."""
        recipe = recipe or self.recipe()
        return generate(
            recipe,
            lambda rows: self.model_for(recipe, rows),
            index,
            batch_size=batch_size,
            advance=advance,
            watch=watch,
            ranks=ranks,
        )

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        classes: str | int | Sequence[str | int] = (),
        vectors: np.ndarray | None = None,
        conditions: np.ndarray | None = None,
        **options: Any,
    ) -> np.ndarray:
        """`count` examples in the data's own shape, dtype and range.

        classes, vectors, conditions: as for `given`. options: as for `recipe`.
        """
        condition = self.given(seed=seed, classes=classes, vectors=vectors, conditions=conditions)
        recipe = self.recipe(seed=seed, condition=condition, **options)
        return self.transform.decode(self.sample_x0(torch.arange(count), recipe=recipe))

    def encode(self, examples: np.ndarray, *, recipe: Recipe | None = None, **options: Any) -> Tensor:
        """Latents x_T, float32 (n, *shape), of examples (n, *raw_shape) in the data's own layout (M5).

        recipe: `edit_recipe()` unless given. options: `refinements`, `advance` of `edit.to_latents`.
        """
        return edit.to_latents(recipe or self.edit_recipe(), self.model, self.transform.encode(examples), **options)

    def decode(self, latents: Tensor, *, recipe: Recipe | None = None, **options: Any) -> np.ndarray:
        """The examples (n, *raw_shape) of latents x_T (n, *shape): what `encode` undoes, so x̂0 is not clipped."""
        return self.transform.decode(edit.to_data(recipe or self.edit_recipe(), self.model, latents, **options))

    def interpolate(
        self, first: np.ndarray, last: np.ndarray, frames: int = 11, *, recipe: Recipe | None = None
    ) -> np.ndarray:
        """Examples (n, frames, *raw_shape) between `first` and `last` (n, *raw_shape), by way of their latents (M6)."""
        ends = [self.encode(examples, recipe=recipe) for examples in (first, last)]
        latents = edit.between(ends[0], ends[1], frames)
        return self.decode(latents.flatten(0, 1), recipe=recipe).reshape(len(first), frames, *self.transform.raw_shape)

    def edit_recipe(self, steps: int | str | None = None, **options: Any) -> Recipe:
        """A recipe that has an inverse, down to clean data, whatever the run is sampled with (`edit.invertible`).

        steps: 100 unless told, or all of a table's fewer levels.

        DDIM with η = 0 unless `sampler` is among the options, which are those of `recipe`. Without condition unless
        `condition` is among them.
        """
        own = {} if "sampler" in options else {"sampler": "ddim", "eta": 0.0, "noise_variance": "small"}
        if "condition" not in options:
            options["condition"] = self.given(classes=NONE)
        steps = min(100, self.model.path.schedule.steps or 100) if steps is None else steps
        spacing = edit.spacing_for(self.model.path, steps)
        return edit.invertible(self.recipe(**{**own, "end": "clean", "spacing": spacing, **options}, steps=steps))

    def bound(self) -> Estimator:
        """The bound that the configuration names: of the run's chain with all T steps, or its own loss."""
        return build.bound(self.config, self.model.path, self.transform.lattice)

    def estimator(self, part: Part) -> Estimator:
        """An estimator of the run's likelihood, by name and options (`likelihood.ESTIMATORS`)."""
        return build.estimator(part, self.config, self.model.path, self.transform.lattice)

    def bound_nats(self, data: Dataset, *, seed: int = 0, repeats: int = 1) -> dict[str, Tensor]:
        """An unbiased estimate of `bound` for every example of `data`, once, in nats: its parts and total, each (N,).

        repeats: independent estimates of each example's terms, averaged. Under the conditions of the examples where the
        run has conditions: −log p(x | c). `records` of one estimator (`run.audit`).
        """
        (found,) = self.records(data, {"bound": self.bound()}, seed=seed, repeats=repeats).values()
        return {**{name: part.mean(0) for name, part in found.parts.items()}, "total": found.examples}

    def records(self, data: Dataset, estimators: Mapping[str, Estimator], **options: Any) -> dict[str, Records]:
        """What each estimator finds for each example of `data`, once (`run.audit`).

        options: `seed`, `repeats`, `ranks` of the pass, `index`, `advance`. ValueError for data unlike the run's.
        """
        asked = {key: options.pop(key) for key in ("index", "advance") if key in options}
        how = Pass(self.width, self.machine.device, **options)
        return audited(self.model, self.as_trained(data), estimators, how, **asked)

    def as_trained(self, data: Dataset) -> Dataset:
        """The data in the run's own model units, with the run's conditions alone.

        ValueError if conditions mean something else than in training, or the examples have another shape or layout.
        """
        data = data.conditioned_on(self.conditions.names)
        if replace(data.conditions, counts=()) != replace(self.conditions, counts=()):
            raise ValueError(
                f"the conditions of {data.source} (classes {', '.join(data.classes) or 'none'}) are not those of the "
                f"run ({', '.join(self.conditions.classes) or 'none'}); allowed: splits of the run's own data"
            )
        own, theirs = ((t.raw_shape, t.layout, t.levels is None) for t in (self.transform, data.transform))
        if own != theirs:
            words = ["continuous" if continuous else "discrete" for _, _, continuous in (theirs, own)]
            raise ValueError(
                f"examples of {data.source} are {words[0]} {theirs[1]} {theirs[0]}, and the run's {words[1]} {own[1]} "
                f"{own[0]}; allowed: data like the run's (--size, --channels)"
            )
        return replace(data, transform=self.transform)


def find(path: Path) -> Path:
    """The checkpoint that `path`, a run directory or a checkpoint, stands for. ValueError says what is there."""
    if (path / "state.json").is_file():
        return path
    newest = checkpoint.latest(path / "checkpoints")
    if newest is None:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) if path.is_dir() else "no such directory"
        raise ValueError(f"no run or checkpoint at {path} ({there or 'empty'}); allowed: the --out of a training")
    return newest


def load(path: str | Path, *, weights: str = "ema", exact: bool = False, **machine_options: Any) -> Trained:
    """A trained run from its directory or one checkpoint. weights: "ema", "raw", or "ema-<half-life>".

    exact: precision "auto" is float32, as for likelihoods. machine_options: device, precision, threads, compile, in
    place of the run's own. ValueError in one line when there is no run, it is damaged, or has no such weights.
    """
    source = find(Path(path))
    group = "model" if weights == "raw" else weights
    saved = checkpoint.load(source, only=[group])
    missing = [key for key in ("config", "network", "transform") if key not in saved.state]
    if missing:
        raise ValueError(
            f"checkpoint {source} lacks {', '.join(missing)} in its state.json; it is no checkpoint of a run"
        )
    if group not in saved.groups or group in ("optimizer", "task"):
        known = ["raw", *(name for name in saved.groups if name.startswith("ema"))]
        raise ValueError(f"no weights {weights!r} in {source}; there are: {', '.join(known)}")
    config = from_dict(saved.state["config"])
    network = saved.state["network"]
    here = machine(replace(config.machine, **machine_options), parameters=build.parameters(network), exact=exact)
    model = build.denoiser(config, network, here.autocast)
    copy_into(named_tensors(model), saved.tensors[group], f"{source.name} {weights}")
    here.placed(model).eval().requires_grad_(False)
    transform = Transform.from_dict(saved.state["transform"])
    conditions = Conditions.from_dict(saved.state.get("conditions", {}))
    return Trained(model, config, transform, here, source, saved.step, weights, conditions)
