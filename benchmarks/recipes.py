"""What each recipe makes of a data set in a few minutes: figures, a loss curve and a grid, recorded.

    python benchmarks/recipes.py                       ten recipes on digits, two minutes each
    python benchmarks/recipes.py --data train.npz --heldout test.npz --minutes 4 --n 256 \
        --flags "--network digits --batch-size 32" --record benchmarks/results/NAME

Every run is two plain command lines, `logsnr train RECIPE --data DATA --minutes M` and `logsnr sample RUN --n N`,
with what --flags adds to the first. Samples of digits are held to the digits check (density 0.85, coverage 0.9,
Fréchet 1.15, copies 3 %); the exit status is 1 when a recipe misses it. Those of other data are given the same
figures on that data's own pixels, beside its first 2000 training and 500 held-out examples, without bars. Run it on a
quiet machine: the budget is minutes, not steps.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from logsnr.cli import main as logsnr
from logsnr.config import MachineConfig
from logsnr.data import load
from logsnr.families import FAMILIES
from logsnr.metrics import Likeness, likeness
from logsnr.run.machine import machine

NEIGHBOURS, HELDOUT = 2000, 500
BARS = {"density": 0.85, "coverage": 0.9, "frechet": 1.15}
SMOOTH_STEPS = 50


def verb(*words: str) -> None:
    """One command line, shown and run; the benchmark ends where a command fails."""
    print(f"\n$ logsnr {' '.join(words)}", flush=True)
    if status := logsnr(words):
        raise SystemExit(status)


@dataclass(frozen=True)
class Task:
    """What every recipe is given. train, heldout: raw examples that samples are measured beside, (N, *)."""

    data: str
    minutes: float
    samples: int
    seed: int
    flags: tuple[str, ...]
    out: Path
    train: np.ndarray
    heldout: np.ndarray

    def measure(self, recipe: str) -> dict[str, Any]:
        """Train, sample, and hold the samples beside the data."""
        run = self.out / recipe
        shutil.rmtree(run, ignore_errors=True)
        common = ("--seed", str(self.seed), "--quiet")
        verb(
            "train",
            recipe,
            "--data",
            self.data,
            "--minutes",
            str(self.minutes),
            "--out",
            str(run),
            *self.flags,
            *common,
        )
        verb("sample", str(run), "--n", str(self.samples), *common)
        samples = np.load(run / "samples" / "samples.npz")["images"]
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        steps = [record for record in log if "loss" in record]
        manifest = json.loads((run / "samples" / "manifest.json").read_text())
        return {
            "recipe": recipe,
            **{key: round(value, 3) for key, value in likeness(samples, self.train, self.heldout).record().items()},
            "steps": steps[-1]["step"],
            "images": steps[-1]["images"],
            "loss_of_last_steps": round(float(np.mean([record["loss"] for record in steps[-SMOOTH_STEPS:]])), 5),
            "sampler": manifest["sampler"],
            "options": manifest["options"],
            "evaluations_per_example": manifest["evaluations_per_example"],
            "precision": manifest["precision"],
        }


def losses(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """(steps, loss averaged over `SMOOTH_STEPS`)."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps, loss = zip(*((record["step"], record["loss"]) for record in log if "loss" in record), strict=True)
    width = min(SMOOTH_STEPS, len(loss))
    return np.array(steps[width - 1 :]), np.convolve(loss, np.ones(width) / width, "valid")


def draw(out: Path, found: list[dict[str, Any]], record: Path) -> None:
    """Loss curves, and the first 64 samples of every recipe."""
    columns = 5
    rows = -(-len(found) // columns)
    curves, grids = (Figure(figsize=(3.2 * columns, height * rows), layout="constrained") for height in (2.4, 3.5))
    for place, row in enumerate(found, start=1):
        run = out / row["recipe"]
        axes = curves.add_subplot(rows, columns, place, title=row["recipe"], yscale="log")
        axes.plot(*losses(run), linewidth=1)
        axes.set_xlabel("optimiser steps")
        axes = grids.add_subplot(rows, columns, place, title=f"{row['recipe']}, {row['evaluations_per_example']} calls")
        images = np.load(run / "samples" / "samples.npz")["images"][:64]
        frame = [(0, 0), (1, 1), (1, 1), *[(0, 0)] * (images.ndim - 3)]
        images = np.pad(images, frame, constant_values=images.max() // 3)
        side = images.reshape(8, 8, *images.shape[1:]).swapaxes(1, 2)
        axes.imshow(side.reshape(8 * images.shape[1], 8 * images.shape[2], *images.shape[3:]), cmap="gray")
        axes.set_axis_off()
    curves.suptitle(f"training loss, mean of {SMOOTH_STEPS} steps: each recipe has its own loss")
    curves.savefig(record / "loss.png", dpi=80)
    grids.savefig(record / "samples.png", dpi=80)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(FAMILIES)} (all)")
    flags.add_argument("--data", default="digits")
    flags.add_argument("--heldout", help="a file of held-out examples (the test split of --data)")
    flags.add_argument("--minutes", type=float, default=2.0)
    flags.add_argument("--n", type=int, default=500, help="samples, at least 64")
    flags.add_argument("--flags", type=shlex.split, default=[], help="more words for logsnr train")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--out", type=Path, default=Path("runs/recipes"))
    flags.add_argument("--record", type=Path, help="a folder for results.json, loss.png and samples.png")
    args = flags.parse_args()
    train = load(args.data)
    heldout = load(args.heldout) if args.heldout else load(args.data, split="test")
    bars = BARS if args.data == "digits" else None
    near, far = (len(train), len(heldout)) if bars else (NEIGHBOURS, HELDOUT)
    examples = (data.raw(range(min(count, len(data)))) for data, count in ((train, near), (heldout, far)))
    task = Task(args.data, args.minutes, args.n, args.seed, tuple(args.flags), args.out, *examples)
    found = []
    for recipe in args.recipes or list(FAMILIES):
        found.append(task.measure(recipe))
        print(json.dumps(found[-1]), flush=True)
    if args.record:
        args.record.mkdir(parents=True, exist_ok=True)
        here = machine(MachineConfig()).record()
        del here["precision"], here["compile"]  # "auto" is settled by the network of each run
        setting = {
            "data": Path(args.data).name,
            "minutes": args.minutes,
            "flags": args.flags,
            "seed": args.seed,
            **here,
        }
        (args.record / "results.json").write_text(json.dumps({**setting, "runs": found}, indent=2) + "\n")
        draw(args.out, found, args.record)
    print(f"\n{'recipe':12}{'density':>9}{'coverage':>9}{'frechet':>9}{'copies':>8}{'steps':>7}{'calls':>7}")
    for row in found:
        figures = f"{row['density']:9.2f}{row['coverage']:9.2f}{row['frechet']:9.2f}{row['copies']:8.1%}"
        print(f"{row['recipe']:12}{figures}{row['steps']:7}{row['evaluations_per_example']:7}")
    return 1 if bars and not all(passes(row, bars) for row in found) else 0


def passes(row: dict[str, Any], bars: dict[str, float]) -> bool:
    """Whether a recipe's figures are on the good side of every bar."""
    return Likeness(**{field.name: row[field.name] for field in fields(Likeness)}).passes(**bars)


if __name__ == "__main__":
    sys.exit(main())
