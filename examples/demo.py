"""Data to samples to a likelihood in one command: what `make demo` runs.

Trains the `ddpm` recipe on the embedded digits, samples 500 of them with DDIM in 50 steps (η = 0.6: a little fresh
noise at every step forgives a network that has only had two minutes), checks the samples against held-out digits, and
states the variational bound of the test split in bits per dimension with its standard error.

The number of steps is settled before the first one, from the time of a few trial steps, so that a slow machine takes
fewer and its learning rate still falls to zero at the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from logsnr.cli import main as logsnr
from logsnr.config import resolve
from logsnr.data import load as load_data
from logsnr.loss import bits_per_dim
from logsnr.metrics import check_digits
from logsnr.run import load
from logsnr.run.estimate import estimate
from logsnr.run.session import datasets, resolved

SAMPLES = 500
BARS = {"density": 0.8, "coverage": 0.85, "frechet": 1.2}
MOST_STEPS, FEWEST_STEPS, TRAINING_SECONDS = 1300, 1000, 150


def verb(*words: str) -> None:
    """One command line, shown and run; the demo ends where a command fails."""
    print(f"\n$ logsnr {' '.join(words)}", flush=True)
    status = logsnr(words)
    if status:
        raise SystemExit(status)


def affordable_steps() -> int:
    """As many optimiser steps as fit into the training's share of four minutes, within limits."""
    config = resolve("ddpm", [])
    data, _ = datasets(config)
    seconds = estimate(resolved(config, data), data)["seconds_per_step"]
    return max(FEWEST_STEPS, min(MOST_STEPS, int(TRAINING_SECONDS / seconds)))


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, default=Path("runs/demo"))
    flags.add_argument("--steps", type=int, help="optimiser steps (what fits into four minutes)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--smoke", action="store_true", help="only see that it runs: the check may fail")
    args = flags.parse_args()
    started, seed = time.monotonic(), ("--seed", str(args.seed))

    law = ("--steps", str(args.steps or affordable_steps()), "--set", "train.decay=cosine")
    verb("train", "ddpm", "--data", "digits", "--out", str(args.out), *seed, *law)
    verb("sample", str(args.out), "--n", str(SAMPLES), "--sampler", "ddim", "--eta", "0.6", *seed, "--trajectory")

    check = check_digits(np.load(args.out / "samples" / "samples.npz")["images"])
    test = load_data("digits", split="test")
    bound = load(args.out).bound_nats(test, repeats=8)
    bits = bits_per_dim(bound["total"], 64).double()
    summary = {
        "grid": str(args.out / "samples" / "grid.png"),
        "bits_per_dim": float(bits.mean()),
        "bits_per_dim_standard_error": float(bits.std() / len(bits) ** 0.5),
        "bound": f"vlb(T = 1000) of the test split, {len(bits)} images, averaged weights",
        **check.record(),
        "bars": BARS,
        "passes": check.passes(**BARS),
        "seconds": round(time.monotonic() - started, 1),
    }
    (args.out / "demo.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\nsamples     {summary['grid']}")
    print(f"likelihood  {bits.mean():.3f} ± {bits.std() / len(bits) ** 0.5:.3f} bits/dim, {summary['bound']}")
    print(f"density     {check.density:.2f} of held-out digits (at least {BARS['density']})")
    print(f"coverage    {check.coverage:.2f} of held-out digits (at least {BARS['coverage']})")
    print(f"fréchet     {check.frechet:.2f} of held-out digits (at most {BARS['frechet']})")
    print(f"copies      {100 * check.copies:.1f} % of the samples (at most 3 %)")
    print(f"digits check {'passed' if summary['passes'] else 'NOT passed'} in {summary['seconds']} s")
    return 0 if summary["passes"] or args.smoke else 1


if __name__ == "__main__":
    sys.exit(main())
