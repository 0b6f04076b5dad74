"""Everything that is measured on an accelerator, in one command: python benchmarks/accelerator.py DATA [--out FOLDER]

DATA: CIFAR-10 as `cifar10.py` writes it, with the test pictures whose likelihood is audited. Forty minutes:

1. the batch with the best throughput of the 35.7 million parameter U-Net (training/ours alone, by doubling);
2. training and sampling beside the peers that are installed, at that batch: training.json, sampling.json, with the
   share of the measured matrix ceiling, which is the model FLOP utilisation;
3. a real run: VDM with that U-Net for twenty minutes, bfloat16, compiled;
4. its bits/dim on the test pictures (audit.json) and a grid of samples (grid.png).

accelerator.json says what came of each, with the versions, the device and the commands. A part whose result is there is
not done again, so that a run which was cut short goes on with the same command. --toy does all of it in minutes on a
CPU, with the smallest of everything, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from logsnr.bench.contest import Contender
from logsnr.bench.sections import machine_record
from logsnr.bench.vehicle import write
from logsnr.records import json_text

REAL = {"vehicle": "cifar10", "first": 64, "most": 2048, "turns": 10, "minutes": 20.0, "network": "ddpm-cifar10"}
TOY = {"vehicle": "toy", "first": 2, "most": 4, "turns": 2, "minutes": 0.2, "network": "tiny"}


def best_batch(vehicle: str, first: int, most: int) -> tuple[int, dict[int, float]]:
    """The batch of most pictures a second, doubled from `first` until nothing is gained, nothing fits, or `most`."""
    speeds: dict[int, float] = {}
    batch = first
    while batch <= most:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), vehicle, batch)
            try:
                with Contender("training/ours", Path(folder)) as contender:
                    seconds = sorted(contender.turn().seconds for _ in range(8))[2]
            except RuntimeError as error:
                print(f"batch {batch}: {error}")
                break
        speeds[batch] = batch / seconds
        print(f"batch {batch}: {speeds[batch]:.1f} pictures a second", flush=True)
        if batch > first and speeds[batch] < 1.02 * speeds[batch // 2]:
            break
        batch *= 2
    if not speeds:
        raise SystemExit(f"not even a batch of {first} runs")
    return max(speeds, key=lambda size: speeds[size]), speeds


def logsnr(*words: str | Path) -> str:
    """Run a verb; the command."""
    command = ["logsnr", *map(str, words)]
    print("$", " ".join(command), flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)
    return " ".join(command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="CIFAR-10 as .npz; with --toy any pictures")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accelerator"))
    parser.add_argument("--run", type=Path, default=Path("runs/accelerator"), help="where the training goes")
    parser.add_argument("--minutes", type=float, help="of training")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    size: dict[str, Any] = TOY if args.toy else REAL
    if not args.toy and not torch.cuda.is_available():
        raise SystemExit("no accelerator here; --toy tries the whole of it on a CPU")
    args.out.mkdir(parents=True, exist_ok=True)
    place = args.out / "accelerator.json"
    record: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {"commands": []}

    def keep(**more: Any) -> None:
        record.update(more, **machine_record(), torch=torch.__version__, toy=args.toy)
        record["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        place.write_text(json_text(record))

    if "batch_size" not in record:
        batch, speeds = best_batch(size["vehicle"], size["first"], size["most"])
        keep(batch_size=batch, pictures_per_second={str(key): value for key, value in speeds.items()})
    for section in ("training", "sampling"):
        if not (args.out / f"{section}.json").exists():
            options = ["--vehicle", size["vehicle"], "--batch-size", record["batch_size"], "--turns", size["turns"]]
            record["commands"].append(logsnr("bench", section, *map(str, options), "--out", args.out))
        measured = json.loads((args.out / f"{section}.json").read_text())
        keep(**{section: {key: measured[key] for key in ("ratios", "share_of_ceiling", "ceilings_flops_per_second")}})
    minutes = args.minutes or size["minutes"]
    batch = ["--batch-size", "256"] if not args.toy else ["--batch-size", "8"]
    options = ["--network", size["network"], "--minutes", minutes, "--steps", 10_000_000, "--flip", "--compile", "auto"]
    trained = ["train", "vdm", "--data", args.data, "--out", args.run, *batch, *map(str, options)]
    if "run" not in record:
        record["commands"].append(logsnr(*trained))
        keep(run=str(args.run), minutes=minutes)
    if not (args.out / "grid.png").exists():
        record["commands"].append(logsnr("sample", args.run, "--n", "64", "--out", args.run / "samples"))
        shutil.copy(args.run / "samples" / "grid.png", args.out / "grid.png")
    if not (args.out / "audit.json").exists():
        index = ["--index", "0:8", "--estimators", "vlb_inf"] if args.toy else ["--estimators", "vlb_inf,ode"]
        record["commands"].append(logsnr("audit", args.run, "--split", "test", *index, "--out", args.run / "audit"))
        shutil.copy(args.run / "audit" / "audit.json", args.out / "audit.json")
    audit = json.loads((args.out / "audit.json").read_text())
    keep(bits_per_dim={row: audit["estimators"][row] for row in audit["estimators"]})
    print(f"wrote {place}")


if __name__ == "__main__":
    main()
