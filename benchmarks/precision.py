"""Does a training in bfloat16 learn what one in float32 does? Two runs of one seed, and how far their losses lie apart.

    python benchmarks/precision.py DATA [--steps 300] [--out FOLDER]     two trainings, and FOLDER/precision.json

DDPM with the benchmark's network (channels 64, 128, 128, two layers, attention at half size, one head), batch 16,
AdamW 2e-4, everything else as the library chooses it: kernels compiled for bfloat16, plain float32. Both see the same
examples, times and noise, so that single steps can be compared; loss curves are compared as moving averages over 50
steps, from the first full window on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from logsnr.bench.sections import machine_record
from logsnr.config import resolve
from logsnr.records import json_text
from logsnr.run.training import train
from logsnr.train import checkpoint

NETWORK = {"name": "unet", "channels": 64, "multipliers": [1, 2, 2], "blocks": 2, "attention": [2]}
WINDOW = 50


def losses(out: Path) -> np.ndarray:
    """Of every step of a run."""
    return np.array([json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    args = parser.parse_args()
    machines = {}
    for precision in ("bf16", "fp32"):
        law = {"batch_size": args.batch_size, "steps": args.steps, "lr": 2e-4, "log_every": 1, "preview_every": 0}
        layers = [
            {"data": {"source": args.data}, "seed": args.seed, "network": NETWORK, "train": law},
            {"machine": {"precision": precision}},
        ]
        saved = train(resolve("ddpm", layers), args.out / precision, say=print)
        machines[precision] = checkpoint.load(saved).state["machine"]
    curves = {precision: losses(args.out / precision)[: args.steps] for precision in machines}
    window = min(WINDOW, args.steps)
    smooth = {name: np.convolve(curve, np.full(window, 1 / window), "valid") for name, curve in curves.items()}
    apart = np.abs(smooth["bf16"] / smooth["fp32"] - 1)
    record = {
        "steps": args.steps,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "data": Path(args.data).name,
        "window_steps": window,
        "greatest_relative_difference": apart.max(),
        "last_relative_difference": apart[-1],
        "last_loss": {name: curve[-1] for name, curve in smooth.items()},
        "machines": machines,
        **machine_record(),
    }
    (args.out / "precision.json").write_text(json_text(record))
    print(f"moving averages of {window} steps differ by at most {100 * apart.max():.2f} %, at the end "
          f"by {100 * apart[-1]:.2f} %")  # fmt: skip


if __name__ == "__main__":
    main()
