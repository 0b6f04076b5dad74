"""Device, precision and threads: what a result's last bits depend on beside its seed."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

from logsnr import __version__
from logsnr.config import MachineConfig

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Machine:
    """Resolved choices. autocast: dtype of the network alone, None for float32."""

    device: torch.device
    precision: str
    threads: int

    @property
    def autocast(self) -> torch.dtype | None:
        """The lower precision that the network runs in, or None."""
        return PRECISIONS[self.precision]

    def record(self) -> dict[str, Any]:
        """What a manifest says about the machine."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "threads": self.threads,
            "processor": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "logsnr": __version__,
        }


def machine(config: MachineConfig) -> Machine:
    """Resolve "auto" and set the thread count. ValueError for a device or precision that is not there."""
    available = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    name = available[0] if config.device == "auto" else config.device
    if config.device == "auto" and name == "cuda":  # several processes: each has the device of its place
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    if name.partition(":")[0] not in available:
        raise ValueError(f"device {config.device!r}; available: auto, {', '.join(available)}")
    device = torch.device(name)
    # float32 on a CPU: at the sizes one trains there, conversions cost more than the narrower products save
    precision = ("bf16" if device.type == "cuda" else "fp32") if config.precision == "auto" else config.precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision {config.precision!r}; allowed: auto, {', '.join(PRECISIONS)}")
    if config.threads is not None:
        if config.threads < 1:
            raise ValueError(f"threads = {config.threads}; allowed: at least 1")
        torch.set_num_threads(config.threads)
    return Machine(device, precision, torch.get_num_threads())
