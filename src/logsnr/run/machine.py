"""Device, precision, threads and compiled kernels: what a result's last bits depend on beside its seed.

"auto" is a rule about the network and the processor, never a measurement: the same command means the same everywhere.

precision: bfloat16 on a GPU; on a CPU that multiplies in bfloat16, for networks of half a million parameters and more,
whose convolutions then take half the time; float32 otherwise, and always for likelihoods and other exact work.
compile: on a CPU in bfloat16, `nets.native`, whose compilation takes a second, and channels innermost. On a GPU,
`torch.compile`, which takes a minute or more: for calls by the thousand.
"""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from logsnr import __version__
from logsnr.config import MachineConfig
from logsnr.denoiser import Denoiser
from logsnr.nets import native

PARAMETERS = 500_000
CALLS = 5_000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Machine:
    """Resolved choices. autocast: dtype of the network alone, None for float32. compile: see above."""

    device: torch.device
    precision: str
    threads: int
    compile: bool = False

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
            "compile": self.compile,
            "processor": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "logsnr": __version__,
        }

    def placed(self, model: Denoiser) -> Denoiser:
        """The model on this device, its network laid out and compiled as resolved."""
        model.to(self.device)
        if self.compile:
            model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile and self.device.type != "cpu":
            model.network.compile()
        return model


def machine(config: MachineConfig, *, parameters: int = 0, calls: int = 0, exact: bool = False) -> Machine:
    """Resolve "auto" and set the thread count. ValueError for a device, precision or compiler that is not there.

    parameters: of the network. calls: of the network that are expected. exact: "auto" is then float32, not compiled.
    """
    device = _device(config.device)
    narrow = device.type == "cuda" or (device.type == "cpu" and _multiplies_bf16() and parameters >= PARAMETERS)
    precision = ("bf16" if narrow and not exact else "fp32") if config.precision == "auto" else config.precision
    if precision not in PRECISIONS:
        raise ValueError(f"precision {config.precision!r}; allowed: auto, {', '.join(PRECISIONS)}")
    if config.threads is not None:
        if config.threads < 1:
            raise ValueError(f"threads = {config.threads}; allowed: at least 1")
        torch.set_num_threads(config.threads)
    if device.type == "cpu":
        _keep_freed_memory()
    compiled = _compiled(config.compile, device, precision, calls, exact)
    return Machine(device, precision, torch.get_num_threads(), compiled)


def _device(wanted: str) -> torch.device:
    available = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    name = available[0] if wanted == "auto" else wanted
    if name == "cuda" and torch.cuda.is_available():  # several processes: each has the device of its place
        name = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        torch.cuda.set_device(name)  # of collectives, too
    kind, colon, number = name.partition(":")
    if kind not in available or (colon and not number.isdecimal()):
        raise ValueError(f"device {wanted!r}; available: auto, {', '.join(available)}")
    return torch.device(name)


def _compiled(wanted: str, device: torch.device, precision: str, calls: int, exact: bool) -> bool:
    if wanted not in ("auto", "on", "off"):
        raise ValueError(f"compile {wanted!r}; allowed: auto, on, off")
    if wanted == "off" or (wanted == "auto" and exact):
        return False
    if device.type != "cpu":
        return wanted == "on" or (device.type == "cuda" and calls >= CALLS)
    if wanted == "on" and (precision != "bf16" or native.library() is None):
        raise ValueError(
            f"compile 'on' with precision {precision} on a CPU; allowed: precision bf16 and a C compiler, or off"
        )
    return precision == "bf16" and native.library() is not None


def _multiplies_bf16() -> bool:
    """Whether the processor has instructions for products in bfloat16 (AVX512-BF16 or AMX)."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in asked)


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep the memory of freed tensors: otherwise each step asks the system for it page by page."""
    if platform.libc_ver()[0] == "glibc":
        set_option = ctypes.CDLL(None).mallopt
        set_option(M_MMAP_THRESHOLD, 1 << 30)
        set_option(M_TRIM_THRESHOLD, (1 << 31) - 1)
