"""Kernels in C that the machine's own compiler translates the first time they are wanted, into the user's cache.

For this processor, with every instruction that it has. They share the threads of PyTorch's own. Where there is no
compiler, or no such processor, everything runs on PyTorch's kernels.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

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
    if compiler is None or platform.system() != "Linux" or not _threads_shared():
        return None
    try:
        built = ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None
    for name, arguments in ARGUMENTS.items():
        getattr(built, name).argtypes = arguments
    return built


def _threads_shared() -> bool:
    """Let what is loaded next find the thread pool that PyTorch uses: two pools would wait for each other."""
    with open("/proc/self/maps") as maps:
        loaded = {line.split()[-1] for line in maps if "libgomp" in line}
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
    if not final.exists():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
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
