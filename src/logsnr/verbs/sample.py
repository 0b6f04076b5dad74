"""`logsnr sample`: grid.png, samples.npz and manifest.json, and the trajectory on request."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logsnr.config import assignment
from logsnr.files import whole
from logsnr.pictures import save_grid
from logsnr.records import json_text, to_dict
from logsnr.report.trajectory import write_trajectory
from logsnr.run import plan
from logsnr.run.generate import Recipe
from logsnr.run.given import Given, read
from logsnr.run.ranks import Ranks, ranks
from logsnr.run.trained import Trained, load
from logsnr.train import checkpoint
from logsnr.verbs import certify
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options


@dataclass(frozen=True)
class Sampling:
    """What will be made. manifest: everything that the examples depend on."""

    trained: Trained
    recipe: Recipe
    manifest: dict[str, Any]


def run(args: Namespace) -> dict[str, Any]:
    """Make the examples and write them, or say what would be made; only the first of several processes writes."""
    with ranks() as group:
        return _run(args, group)


def _run(args: Namespace, group: Ranks) -> dict[str, Any]:
    args.json = args.json and group.first  # several processes, one result
    console, (first, last) = Console(args, silent=not group.first), asked(args)
    if (args.certify or args.dry_run) and not group.first:
        return {}
    sampling = planned(args, first, last)
    out = Path(args.out) if args.out else sampling.trained.run_dir / ("certificate" if args.certify else "samples")
    manifest = sampling.manifest
    if args.certify:
        return certify.run(args, sampling.trained, sampling.recipe, manifest, out)
    console.say(f"{last - first} examples, {manifest['sampler']}, {manifest['steps']} steps, to {out}")
    if args.dry_run:
        return manifest
    if group.first:
        out.mkdir(parents=True, exist_ok=True)  # now, not when an hour of samples has nowhere to go
    index = torch.arange(first, last)
    x0, measured = made(args, console, sampling, index, group)
    if not group.first:
        return {}
    manifest |= measured
    write(args, sampling, x0, index, out)
    with whole(out / "manifest.json") as fresh:
        fresh.write_text(json_text(manifest))
    console.say(f"wrote {out / 'grid.png'}, samples.npz, manifest.json in {manifest['seconds']:.1f} s")
    return manifest


def planned(args: Namespace, first: int, last: int) -> Sampling:
    """The run, loaded, and how its examples `first` to `last` − 1 will be made. ValueError for bad flags."""
    trained = load(args.run, weights=args.weights, exact=args.certify, **machine_options(args))
    if args.assignments:
        trained = trained.sampled([assignment(text) for text in args.assignments], args.sampler)
        args.sampler = None
    options = {key: getattr(args, key) for key in ("eta", "spacing", "end") if getattr(args, key) is not None}
    condition = _condition(args, trained)
    recipe = trained.recipe(sampler=args.sampler, steps=args.steps, seed=args.seed, condition=condition, **options)
    if args.plan:
        recipe = replace(recipe, grid=plan.grid_of(trained, plan.read(Path(args.plan))))
    return Sampling(trained, recipe, _manifest(args, trained, recipe, first, last))


def asked(args: Namespace) -> tuple[int, int]:
    """(I, J) of the examples I to J − 1. ValueError for flags that make no sense."""
    if args.n is not None and args.index is not None:
        raise ValueError(f"--n {args.n} and --index {args.index[0]}:{args.index[1]}; allowed: one of them")
    first, last = args.index or (0, args.n if args.n is not None else 64)
    least = {"--n": last - first, "--batch-size": args.batch_size, "--steps": args.steps}
    for flag, value in least.items():
        if value is not None and not isinstance(value, str) and value < 1:
            raise ValueError(f"{flag} {value}; allowed: at least 1")
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed {args.seed}; allowed: 0 to 2**63 - 1")
    return first, last


def made(
    args: Namespace, console: Console, sampling: Sampling, index: torch.Tensor, group: Ranks
) -> tuple[torch.Tensor, dict[str, Any]]:
    """x0 of the examples, and what is known of them afterwards: seconds, and the evaluations of an adaptive sampler."""
    started, counts = time.monotonic(), list[int]()
    share = len(index) * (len(sampling.recipe.grid) - 1) // group.count
    with console.progress(share, "examples × steps") as progress:
        x0 = sampling.trained.sample_x0(
            index,
            recipe=sampling.recipe,
            batch_size=args.batch_size,
            advance=progress.advance,
            watch=lambda step, rows: counts.append(int(step.evaluations[:rows].sum())),
            ranks=group,
        )
    mean = int(group.gathered(torch.tensor([sum(counts)]), [1] * group.count).sum()) / len(index)
    evaluations = int(mean) if mean.is_integer() else round(mean, 2)
    return x0, {"evaluations_per_example": evaluations, "seconds": time.monotonic() - started}


def write(args: Namespace, sampling: Sampling, x0: torch.Tensor, index: torch.Tensor, out: Path) -> None:
    """samples.npz, grid.png and, on request, the trajectory."""
    trained, recipe = sampling.trained, sampling.recipe
    images = trained.transform.decode(x0)
    arrays: dict[str, Any] = {
        "images": images,
        "seeds": np.full(len(index), args.seed, np.int64),
        "index": index.numpy(),
    }
    if trained.conditions.classes:
        labels = recipe.condition(index)["classes"]
        arrays["labels"] = torch.where(labels == len(trained.conditions.classes), -1, labels).numpy()
    if args.float:
        arrays["x"] = x0.numpy()
    with whole(out / "samples.npz") as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, **arrays)
    save_grid(out / "grid.png", images[:100], trained.transform)
    if args.trajectory:
        write_trajectory(out, trained, recipe, index)


def _condition(args: Namespace, trained: Trained) -> Given:
    """What --class and --condition-from ask for; --class wins over the labels of the file."""
    classes: list[Any] = list(args.classes or ())
    arrays: dict[str, np.ndarray] = {}
    if args.condition_from:
        labels, arrays = read(Path(args.condition_from), trained.conditions)
        classes = classes or labels
    return trained.given(seed=args.seed, classes=classes, vectors=arrays.get("vector"), conditions=arrays.get("image"))


def _conditions(args: Namespace, trained: Trained) -> dict[str, Any]:
    """What the manifest says of conditions: nothing where a run has none. labels index `classes`, −1 is "none"."""
    if not trained.conditions.names:
        return {}
    return {
        "condition": {
            "use": list(trained.conditions.names),
            "classes": args.classes or _undecided(args, trained),
            "from": args.condition_from,
        },
        "classes": list(trained.conditions.classes),
    }


def _undecided(args: Namespace, trained: Trained) -> str | None:
    """Where classes come from when none is asked for."""
    if not trained.conditions.classes:
        return None
    if args.condition_from:
        return "of the file"
    return "training frequencies" if trained.conditions.names == ("classes",) else "none"


def _manifest(args: Namespace, trained: Trained, recipe: Recipe, first: int, last: int) -> dict[str, Any]:
    """Everything that the examples depend on."""
    return {
        "run": str(args.run),
        "checkpoint": trained.source.name,
        "checkpoint_sha256": checkpoint.fingerprint(trained.source),
        "weights": trained.weights,
        "sampler": recipe.part.name,
        "options": recipe.part.options,
        "steps": len(recipe.grid) - 1,
        "evaluations_per_example": recipe.evaluations,
        "spacing": to_dict(recipe.spacing),
        "end": args.end or trained.config.sample.end,
        "plan": args.plan,
        "clip": trained.transform.clip if trained.config.sample.clip else None,
        "temperature": recipe.temperature,
        "seed": args.seed,
        "index": [first, last],
        "width": recipe.width,
        "shape": list(trained.transform.raw_shape),
        **_conditions(args, trained),
        **trained.machine.record(),
    }
