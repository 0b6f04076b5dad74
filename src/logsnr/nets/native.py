"""Kernels in C that the machine's own compiler translates the first time they are wanted, into the user's cache.

For this processor, with every instruction that it has. They share the threads of PyTorch's own, and so are not for a
child that was forked from a process which used them. Where there is no compiler, or no such processor, everything runs
on PyTorch's kernels.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCES = tuple(sorted(Path(__file__).parent.glob("*.c")))
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-fPIC")
SECONDS = 60

_SIZE: Any = ctypes.c_int64
_FLAG: Any = ctypes.c_int32
_ARRAY: Any = ctypes.c_void_p
ARGUMENTS: dict[str, list[Any]] = {
    "norm_silu": [_SIZE] * 5 + [ctypes.c_float, _FLAG] + [_ARRAY] * 6,
    "norm_silu_backward": [_SIZE] * 5 + [_FLAG] + [_ARRAY] * 6,
    "convolves": [],
    "transform_weights": [_SIZE, _SIZE, _FLAG, _ARRAY, _ARRAY],
    "convolve": [_SIZE] * 5 + [_ARRAY] * 4,
    "slopes_of_weights": [_SIZE] * 6 + [_ARRAY] * 5,
}


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled for this processor; None where that cannot be done."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        if not _threads_shared():
            return None
        built = ctypes.CDLL(str(_built(compiler)))
        for name, arguments in ARGUMENTS.items():
            getattr(built, name).argtypes = arguments
    except (OSError, RuntimeError, AttributeError, subprocess.SubprocessError):  # no home, no room, a file cut short …
        return None
    return built


def call(name: str, *arguments: float | Tensor | None) -> None:
    """Run a kernel on numbers and contiguous tensors of the CPU; MemoryError where it says that memory is missing."""
    torch.get_num_threads()  # a new thread of Python gets PyTorch's number of threads when it first asks
    if getattr(library(), name)(*(a.data_ptr() if torch.is_tensor(a) else a for a in arguments)):
        raise MemoryError(f"no memory for {name} {[a for a in arguments if not torch.is_tensor(a)]}")


def pictures(x: Tensor) -> bool:
    """Whether x is what the kernels are for: (B, C, H, W) in bfloat16 on a CPU, channels innermost, H W > 1.

    Transforms of functions (`torch.func`, `torch.compile`, export) want PyTorch's own operations.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.ndim != 4:
        return False
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return False
    plane = x.shape[1] > 1 and x.shape[2] * x.shape[3] > 1  # else every layout is any layout
    return plane and x.is_contiguous(memory_format=torch.channels_last) and library() is not None


def graph_of_gradients(
    function: Callable[..., Tensor], given: Sequence[Tensor | None], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of function(*given) from dy, to be differentiated again; None for what needs none.

    Each on a node of its own: where one of `given` is made of another, the way from one to the other is not of this.
    """
    fresh = [None if t is None else t.view_as(t) for t in given]
    wanted = [t for t in fresh if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(function(*fresh), wanted, dy, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in fresh)


def _threads_shared() -> bool:
    """Let what is loaded next find the thread pool that PyTorch uses: two pools would wait for each other."""
    with open("/proc/self/maps") as maps:
        loaded = {line.split(maxsplit=5)[-1].rstrip() for line in maps if "libgomp" in line}
    for path in loaded:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    return len(loaded) == 1


def _built(compiler: str) -> Path:
    """The shared object, in the cache under everything that it depends on; whole or not there."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=SECONDS).stdout
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "model"))]
    made_of = [*(source.read_bytes() for source in SOURCES), version, "\n".join(sorted(set(processor))).encode()]
    name = hashlib.sha256(b"\0".join([*made_of, " ".join(FLAGS).encode()])).hexdigest()[:32]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logsnr"
    final = root / f"kernels-{name}.so"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in filter(Path.exists, (root, final)):
        if place.stat().st_uid != os.getuid() or place.stat().st_mode & 0o022:
            raise OSError(f"{place} may be written by others: nothing of it is run")
    if not final.exists():
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            objects = {source: Path(scratch) / f"{source.stem}.o" for source in SOURCES}
            linked = Path(scratch) / "kernels.so"
            # linked without OpenMP's library: its symbols are to be found in the one that is loaded already
            for command in (
                *([*FLAGS, "-c", str(source), "-o", str(unlinked)] for source, unlinked in objects.items()),
                ["-shared", *map(str, objects.values()), "-o", str(linked)],
            ):
                subprocess.run([compiler, *command], capture_output=True, check=True, timeout=SECONDS)
            os.replace(linked, final)
    return final
