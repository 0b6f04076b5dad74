"""`logsnr sample RUN --certify`: do the deterministic samplers meet at the same x0, and at which order."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from logsnr.files import whole
from logsnr.pictures import save_grid
from logsnr.records import json_text
from logsnr.report.certify import LADDER, certify, deterministic
from logsnr.run.generate import Recipe
from logsnr.run.trained import Trained
from logsnr.samplers import seeded
from logsnr.verbs.console import Console

EXAMPLES = 8


def run(args: Namespace, trained: Trained, recipe: Recipe, manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    """Print the table, write manifest.json and grid.png, a row of examples a sampler; status 1 if they do not meet.

    --n or --index: how many noises, 8 unless told. --steps: the coarsest S, 10 unless told, doubled four times.
    """
    console, first = Console(args), args.steps or LADDER[0]
    if args.sampler or not isinstance(first, int):
        raise ValueError(
            "--certify runs every deterministic sampler on grids of its own; allowed: --steps N, no --sampler"
        )
    begin, end = args.index or (0, args.n or EXAMPLES)
    if end - begin > recipe.width:
        raise ValueError(f"--certify walks {end - begin} examples at once; allowed: up to {recipe.width}")
    if args.dry_run:
        return manifest
    index, steps = torch.arange(begin, end), [first * step // LADDER[0] for step in LADDER]
    noise = seeded(args.seed, index, torch.empty(len(index), *recipe.shape, device=recipe.device))(0, "prior")
    samplers, refused = deterministic(recipe.path, trained.config.variance)
    # without the clip: it has corners, at which no solver keeps its order
    model = recipe.bound(trained.model, index)
    with console.progress(len(samplers) * sum(step + 1 for step in steps), "steps") as progress:
        found = certify(model, recipe.path, samplers, noise, steps=steps, advance=progress.advance)
    for line in [*found.lines(), *(f"{name:>24}  not run: {reason}" for name, reason in refused.items())]:
        console.say(line)
    kept = ("run", "checkpoint", "checkpoint_sha256", "weights", "seed", "condition", "classes", "device", "precision")
    result = {key: manifest[key] for key in kept if key in manifest}
    result |= {"index": [begin, end], "certificate": found.record() | {"refused": refused}}
    out.mkdir(parents=True, exist_ok=True)
    shown = torch.cat([x0.float() for x0 in found.x0.values()])
    save_grid(
        out / "grid.png", trained.transform.decode(torch.nan_to_num(shown)), trained.transform, columns=len(index)
    )
    with whole(out / "manifest.json") as fresh:
        fresh.write_text(json_text(result))
    console.say(f"wrote {out / 'manifest.json'}, grid.png")
    return result | {"status": 0 if found.meet else 1}
