"""What is measured, and against whom: a section is a contest, and what its outcome says.

Every section yields one record of JSON values; `rows` makes lines of a table of it. Outputs are compared before speeds:
a ratio stands beside the greatest difference between what the two computed.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logsnr import __version__
from logsnr.bench.contenders import CONTENDERS
from logsnr.bench.contest import Outcome, contest, ratio
from logsnr.bench.peers import installed
from logsnr.bench.vehicle import write

# Section: (what ours is called, whom it runs against; our other variants run beside it).
SECTIONS: dict[str, tuple[str, ...]] = {
    "training": (
        "training/ours",
        "training/diffusers",
        "training/diffusers-bf16",
        "training/diffusers-bf16-channels-last",
        "training/denoising-diffusion-pytorch",
        "training/ours-fp32",
        "ceiling/convolution",
        "ceiling/matrix",
    ),
    "trainer": ("trainer/ours", "trainer/bare"),
    "sampling": (
        "sampling/ours",
        "sampling/diffusers",
        "sampling/k-diffusion",
        "sampling/azula",
        "sampling/ours-fp32",
    ),
    "likelihood": ("likelihood/ours", "likelihood/k-diffusion"),
    "ranks": ("ranks/two", "ranks/one"),
    "start": ("start/help", "start/sample-16-digits", "start/import-logsnr", "start/import-torch"),
    "loading": ("loading/ours", "loading/torch"),
    "checkpoint-save": ("checkpoint-save/ours", "checkpoint-save/torch"),
    "checkpoint-load": ("checkpoint-load/ours", "checkpoint-load/torch"),
}
ALONE = ("ceiling/", "start/")  # beside which a ratio would say nothing


@dataclass(frozen=True)
class Bench:
    """How it is run. vehicle: of `vehicle.VEHICLES`; turns: of each contender. run: whose weights, or random ones."""

    vehicle: str = "small"
    batch_size: int = 16
    turns: int = 10
    seed: int = 0
    run: Path | None = None

    def section(self, name: str, say: Callable[[str], None]) -> dict[str, Any]:
        """The record of one section. ValueError for one that is unknown, RuntimeError if ours does not run."""
        if name not in SECTIONS:
            raise ValueError(f"section {name!r}; allowed: {', '.join(SECTIONS)}")
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), self.vehicle, self.batch_size, self.seed, self.run)
            names = [contender for contender in SECTIONS[name] if installed(contender)]
            missing = sorted(set(SECTIONS[name]) - set(names))
            for contender in missing:
                say(f"not installed: {contender}")
            found = contest(names, Path(folder), turns=self.turns, say=say)
        if SECTIONS[name][0] not in found:
            raise RuntimeError(f"{SECTIONS[name][0]} did not run: there is nothing to compare with")
        return {
            "section": name,
            "vehicle": self.vehicle,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "weights": "random" if self.run is None else str(self.run),
            **machine_record(),
            "contenders": {contender: outcome.record() for contender, outcome in found.items()},
            "left_out": sorted(set(SECTIONS[name]) - set(found)),
            **_compared(SECTIONS[name][0], found),
        }


def machine_record() -> dict[str, Any]:
    """Of what a result depends on and no contender says: the processor, the system, the command."""
    model = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "logsnr": __version__,
        "command": " ".join([_program(Path(sys.argv[0])), *sys.argv[1:]]),
    }


def _program(called: Path) -> str:
    return f"python benchmarks/{called.name}" if called.parent.name == "benchmarks" else "logsnr"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _compared(first: str, found: dict[str, Outcome]) -> dict[str, Any]:
    """Ratios to the first contender, differences of outputs, and the share of the ceilings."""
    ours = found[first]
    record: dict[str, Any] = {
        "ratios": {
            name: ratio(ours, other) for name, other in found.items() if name != first and not name.startswith(ALONE)
        }
    }
    losses = {name: outcome.facts["probe_loss"] for name, outcome in found.items() if "probe_loss" in outcome.facts}
    if losses:
        record["relative_difference_of_loss"] = max(abs(loss / losses[first] - 1) for loss in losses.values())
    exact, peer = found.get("sampling/ours-fp32"), found.get("sampling/diffusers")
    if exact and peer:
        pairs = zip(exact.shown[-1], peer.shown[-1], strict=True)
        record["greatest_difference_of_images"] = max(abs(a - b) for a, b in pairs)
    speed = ours.facts.get("flops", 0) * ours.record()["units_per_second"] / ours.facts.get("units", 1)
    if speed:
        record["flops_per_second"] = speed
        ceilings = {name: max(outcome.shown) for name, outcome in found.items() if name.startswith("ceiling/")}
        record["ceilings_flops_per_second"] = ceilings
        record["share_of_ceiling"] = {name: speed / ceiling for name, ceiling in ceilings.items()}
    return record


def rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """Lines of a table: one a contender."""
    lines = []
    for name, outcome in record["contenders"].items():
        if name.startswith("ceiling/"):
            continue
        pair = record["ratios"].get(name)
        low, high = pair["ratio_quartiles"] if pair else (1, 1)
        lines.append(
            {
                "contender": name,
                "precision": str(outcome.get("precision", "")),
                "per second": f"{outcome['units_per_second']:.4g} {outcome.get('unit', '')}",
                # of a start, the process that is measured is another
                "peak MiB": "" if name.startswith("start/") else f"{outcome['peak_bytes'] / 2**20:.0f}",
                "ours is faster by": f"{pair['ratio_median']:.2f} ({low:.2f} to {high:.2f})" if pair else "",
            }
        )
    return lines


def notes(record: dict[str, Any]) -> list[str]:
    """What a section says beside its ratios, a line each."""
    lines = []
    if "relative_difference_of_loss" in record:
        lines.append(
            f"loss of the same batch in float32: relative difference {record['relative_difference_of_loss']:.1e}"
        )
    if "greatest_difference_of_images" in record:
        lines.append(f"images in float32: greatest difference {record['greatest_difference_of_images']:.1e}")
    for name, share in record.get("share_of_ceiling", {}).items():
        ceiling = record["ceilings_flops_per_second"][name]
        lines.append(
            f"{100 * share:.0f} % of this machine's {name.partition('/')[2]} ceiling, {ceiling / 1e9:.0f} GFLOP/s"
        )
    return lines


assert all(name in CONTENDERS for names in SECTIONS.values() for name in names)
