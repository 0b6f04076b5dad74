"""`logsnr inspect`: what a file or directory is. Nothing in it is run."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from logsnr.data import load as load_data
from logsnr.pictures import save_grid
from logsnr.train import checkpoint
from logsnr.verbs.console import Console


def run(args: Namespace) -> dict[str, Any]:
    """Say what PATH is."""
    console, path = Console(args), Path(args.path)
    if (path / "state.json").is_file():
        result = _checkpoint(path)
    elif (path / "run.yaml").is_file():
        result = _run(path)
    elif path.suffix == ".safetensors":
        result = _safetensors(path)
    else:
        result = _data(args, console)
    for key, value in result.items():
        plain = value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)
        console.say(f"{key:>20}  {plain}")
    return result


def _checkpoint(path: Path) -> dict[str, Any]:
    saved = checkpoint.load(path, only=["model"])
    parameters = sum(t.numel() for t in saved.tensors["model"].values())
    return {
        "kind": "checkpoint",
        "step": saved.step,
        "groups": list(saved.groups),
        "parameters": parameters,
        "sha256": checkpoint.fingerprint(path),
        **{key: saved.state.get(key) for key in ("config", "network", "transform", "data", "machine")},
    }


def _run(path: Path) -> dict[str, Any]:
    newest = checkpoint.latest(path / "checkpoints")
    result = {"kind": "run", "checkpoints": sorted(p.name for p in (path / "checkpoints").glob("step-*"))}
    return result | ({"newest": _checkpoint(newest)} if newest else {})


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    return {"kind": "safetensors", "tensors": len(shapes), "numbers": numbers, "shapes": shapes}


def _data(args: Namespace, console: Console) -> dict[str, Any]:
    data = load_data(args.path, size=args.size, channels=args.channels or "auto")
    if args.out:
        count = min(64, len(data))
        console.say(f"drew {save_grid(Path(args.out), data.raw(range(count)), data.transform)}")
    offset = {} if data.levels is None else {"bits_per_dim_offset": data.transform.bits_per_dim_offset}
    return {"kind": "data", **data.summary(), **offset}
