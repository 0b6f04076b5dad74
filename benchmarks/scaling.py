"""From one core to a thousand GPUs: the arithmetic of docs/scaling.md. python benchmarks/scaling.py prints its tables.

Computed, not measured: operations and parameters are counted on the networks themselves, speeds of machines are the
makers' figures below, and everything else follows. With B examples a step over R ranks, F operations an example and
direction, N parameters and A averages:

    compute     3 F B / (R · utilisation · peak)                  forward once, backward twice
    exchange    2 (R − 1)/R · 4 N bytes over the slowest link     a ring that sums float32 gradients
    data        B / step seconds examples, of so many bytes each
    checkpoint  4 N (1 + A + 2) bytes                             weights, averages, two moments of AdamW

Of the exchange what is longer than the backward pass is waited for; the rest hides behind it. A checkpoint that takes
w seconds and ranks that fail once in M hours each give the best interval √(2 w M/R) (Young 1974), and goodput loses

    w / interval + (interval/2 + restart) · R/M.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from logsnr import nets
from logsnr.bench.contest import table

PEAK = 989e12  # FLOP/s in bfloat16 without sparsity, H100 and H200
UTILISATION = 0.4
NODE = 8
INSIDE, BETWEEN = 450e9, 50e9  # bytes a second and GPU: NVLink in one direction; one 400 Gb/s port
FAILURE_HOURS = 50_000  # of one GPU and what belongs to it: 419 interruptions of 16,384 in 54 days (Llama 3, 2024)
RESTART_SECONDS = 300
DISK = 2e9  # bytes a second and node


@dataclass(frozen=True)
class Model:
    """A network and what it is fed. example_bytes: on the disk."""

    name: str
    size: str
    shape: tuple[int, ...]
    batch: int
    example_bytes: int
    averages: int = 1

    def counted(self) -> tuple[int, int]:
        """Parameters, and operations of the forward pass of one example."""
        with torch.device("meta"):
            network = nets.construct(nets.configure(self.size, self.shape))
            x, label = torch.empty(1, *self.shape), torch.empty(1)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x, label)
        return sum(p.numel() for p in network.parameters()), int(counter.get_total_flops())


MODELS = (
    Model("CIFAR-10's U-Net, 32 × 32 × 3", "ddpm-cifar10", (3, 32, 32), 1024, 2_300),
    Model("DiT-XL/2, latents of 32 × 32 × 4", "dit-xl2", (4, 32, 32), 2048, 8_300),
)
RANKS = (1, 8, 64, 1000)


def lost(interval: float, write: float, between_failures: float) -> float:
    """The share of time, all in seconds, that goes to checkpoints, to steps done again, and to starting again."""
    return write / interval + (interval / 2 + RESTART_SECONDS) / between_failures


def row(model: Model, ranks: int) -> dict[str, str]:
    """One column of machines."""
    parameters, forward = model.counted()
    compute = 3 * forward * model.batch / (ranks * UTILISATION * PEAK)
    link = INSIDE if ranks <= NODE else BETWEEN
    exchanged = 2 * (ranks - 1) / ranks * 4 * parameters
    step = compute + max(0.0, exchanged / link - 2 / 3 * compute)
    saved = 4 * parameters * (3 + model.averages)
    write = saved / (DISK * math.ceil(ranks / NODE))
    between_failures = 3600 * FAILURE_HOURS / ranks
    interval = math.sqrt(2 * write * between_failures)
    goodput = 1 - lost(interval, write, between_failures)
    return {
        "GPUs": str(ranks),
        "examples a GPU": f"{model.batch / ranks:.4g}",
        "compute, ms": f"{1e3 * compute:.3g}",
        "exchange, ms": f"{1e3 * exchanged / link:.3g}",
        "examples/s": f"{model.batch / step:,.0f}",
        "efficiency": f"{100 * compute / step:.0f} %",
        "data, MB/s": f"{model.batch / step * model.example_bytes / 1e6:,.0f}",
        "a failure every": f"{between_failures / 3600:,.0f} h",
        "save every": f"{interval / 60:.1f} min",
        "goodput": f"{100 * goodput:.2f} %",
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for model in MODELS:
        parameters, forward = model.counted()
        saved = 4 * parameters * (3 + model.averages)
        print(f"**{model.name}**: {parameters / 1e6:.1f} million parameters, {forward / 1e9:.1f} GFLOP an example,")
        print(f"batch {model.batch}, exchange {8 * parameters / 1e6:,.0f} MB a step and GPU,", end=" ")
        print(f"checkpoint {saved / 1e9:.2f} GB\n")
        print("\n".join(table([row(model, ranks) for ranks in RANKS])), "\n")


if __name__ == "__main__":
    main()
