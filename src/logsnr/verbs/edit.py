"""`logsnr edit RUN encode|reconstruct|interpolate`: latents.npz, grid.png and manifest.json."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logsnr.data import load as load_data
from logsnr.files import whole
from logsnr.pictures import save_grid
from logsnr.records import json_text
from logsnr.run import edit
from logsnr.run.generate import Recipe
from logsnr.run.trained import Trained, load
from logsnr.samplers.encode import REFINEMENTS
from logsnr.train import checkpoint
from logsnr.verbs.console import Console
from logsnr.verbs.layers import machine_options


def run(args: Namespace) -> dict[str, Any]:
    """Do one of the three and write what came of it."""
    console, index = Console(args), range(*args.index)
    if isinstance(args.steps, int) and args.steps < 1:
        raise ValueError(f"--steps {args.steps}; allowed: at least 1")
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed {args.seed}; allowed: 0 to 2**63 - 1")
    if args.what == "interpolate" and (args.frames < 2 or len(index) < 2):
        raise ValueError(f"--frames {args.frames}, {len(index)} examples; allowed: at least 2 of each")
    trained = load(args.run, weights=args.weights, exact=True, **machine_options(args))
    options = {} if args.spacing is None else {"spacing": args.spacing}
    recipe = trained.edit_recipe(args.steps, seed=args.seed, **options)
    out = Path(args.out) if args.out else trained.run_dir / args.what
    raw = None if args.what == "interpolate" and args.data is None else _examples(args, trained, index)
    arrays, pictures, columns, figures = JOBS[args.what](args, console, trained, recipe, raw)
    manifest = {**_manifest(args, trained, recipe), **figures}
    out.mkdir(parents=True, exist_ok=True)
    with whole(out / "latents.npz") as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, index=np.array(index), **arrays)
    save_grid(out / "grid.png", pictures, trained.transform, columns=columns)
    with whole(out / "manifest.json") as fresh:
        fresh.write_text(json_text(manifest))
    for key, value in figures.items():
        console.say(f"{key:>20}  {value:.4g}")
    console.say(f"wrote {out / 'grid.png'}, latents.npz, manifest.json")
    return manifest


Made = tuple[dict[str, Any], np.ndarray, int, dict[str, float]]
"""Arrays to keep, pictures (N, *raw_shape), how many of them a row, figures."""


def _encode(args: Namespace, console: Console, trained: Trained, recipe: Recipe, raw: np.ndarray) -> Made:
    latents = _latents(args, console, trained, recipe, raw)
    # three standard deviations of the prior fill the range of the picture
    shown = trained.transform.decode(latents / (3 * recipe.path.prior_std))
    figures = {"latent_mean": float(latents.mean()), "latent_std": float(latents.std())}
    return {"latents": latents.numpy(), "images": raw}, np.concatenate([raw, shown]), len(raw), figures


def _reconstruct(args: Namespace, console: Console, trained: Trained, recipe: Recipe, raw: np.ndarray) -> Made:
    latents = _latents(args, console, trained, recipe, raw)
    x0, again = trained.transform.encode(raw), _decoded(console, trained, recipe, latents)
    square = ((again - x0) ** 2).flatten(1).mean(1).double()
    figures = {"rmse_model_units": float(square.mean().sqrt())}
    arrays = {"latents": latents.numpy(), "images": raw, "reconstructions": trained.transform.decode(again)}
    if trained.transform.levels is not None:  # the range of discrete data is 2 in model units
        psnr = 10 * torch.log10(4 / square.clamp(min=1e-30))
        figures |= {"psnr_db_mean": float(psnr.mean()), "psnr_db_least": float(psnr.min())}
        arrays["psnr_db"] = psnr.numpy()
    return arrays, np.concatenate([raw, arrays["reconstructions"]]), len(raw), figures


def _interpolate(args: Namespace, console: Console, trained: Trained, recipe: Recipe, raw: np.ndarray | None) -> Made:
    if raw is None:
        ends = edit.random_latents(recipe, torch.arange(*args.index))
    else:
        ends = _latents(args, console, trained, recipe, raw)
    latents = edit.between(ends[:-1], ends[1:], args.frames)
    images = trained.transform.decode(_decoded(console, trained, recipe, latents.flatten(0, 1)))
    shaped = images.reshape(*latents.shape[:2], *images.shape[1:])
    return {"latents": latents.numpy(), "images": shaped}, images, args.frames, {}


JOBS: dict[str, Callable[..., Made]] = {
    "encode": _encode,
    "reconstruct": _reconstruct,
    "interpolate": _interpolate,
}


def _examples(args: Namespace, trained: Trained, index: range) -> np.ndarray:
    """The chosen examples as the data has them, of the run's own source unless another is named."""
    ours = trained.config.data
    size: Any = ours.size if ours.size is None or len(ours.size) > 1 else ours.size[0]
    options = {"size": size, "channels": ours.channels or "auto"}
    source = args.data or ours.source
    data = load_data(source, split="train", **options)
    split = args.split or next((name for name in ("val", "test") if name in data.splits), "train")
    data = load_data(source, split=split, **options)
    if index.stop > len(data):
        raise ValueError(f"--index {index.start}:{index.stop}; {source} has {len(data)} examples in split {split!r}")
    return data.raw(index)


def _latents(args: Namespace, console: Console, trained: Trained, recipe: Recipe, raw: np.ndarray) -> Tensor:
    rounds = REFINEMENTS if args.refinements is None else args.refinements
    with console.progress(len(raw) * (len(recipe.grid) - 1), "encoding: examples × steps") as progress:
        return trained.encode(raw, recipe=recipe, refinements=rounds, advance=progress.advance)


def _decoded(console: Console, trained: Trained, recipe: Recipe, latents: Tensor) -> Tensor:
    with console.progress(len(latents) * (len(recipe.grid) - 1), "decoding: examples × steps") as progress:
        return edit.to_data(recipe, trained.model, latents, advance=progress.advance)


def _manifest(args: Namespace, trained: Trained, recipe: Recipe) -> dict[str, Any]:
    """Everything that the result depends on."""
    return {
        "run": str(args.run),
        "checkpoint": trained.source.name,
        "checkpoint_sha256": checkpoint.fingerprint(trained.source),
        "weights": trained.weights,
        "what": args.what,
        "data": args.data,
        "split": args.split,
        "index": list(args.index),
        "seed": args.seed,
        "sampler": recipe.part.name,
        "options": recipe.part.options,
        "steps": len(recipe.grid) - 1,
        "log_snr_of_latents": float(recipe.grid[0].log_snr),
        "refinements": REFINEMENTS if args.refinements is None else args.refinements,
        "frames": args.frames if args.what == "interpolate" else None,
        "width": recipe.width,
        **trained.machine.record(),
    }
