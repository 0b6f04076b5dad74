"""What runs against what: each contender sets up its work in a process of its own, and does it when told.

    python -m logsnr.bench.contenders NAME FOLDER      then a line of JSON on standard output for every line of input

A new contender is a function of the folder that returns its `Work`, and one line of `CONTENDERS`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from logsnr.bench.work import Work


def _ours(room: str, **options: Any) -> Callable[[Path], Work]:
    def build(folder: Path) -> Work:
        from logsnr.bench import ours

        work: Work = getattr(ours, room)(folder, **options)
        return work

    return build


def _bare(folder: Path) -> Work:
    from logsnr.bench import bare

    return bare.training(folder)


def _ranks(together: int) -> Callable[[Path], Work]:
    def build(folder: Path) -> Work:
        from logsnr.bench import scaled

        return scaled.training(folder, together)

    return build


def _peer(room: str, **options: Any) -> Callable[[Path], Work]:
    def build(folder: Path) -> Work:
        from logsnr.bench import peers

        work: Work = getattr(peers, room)(folder, **options)
        return work

    return build


CONTENDERS: dict[str, Callable[[Path], Work]] = {
    "ceiling/convolution": _ours("ceiling", product="convolution"),
    "ceiling/matrix": _ours("ceiling", product="matrix"),
    "training/ours": _ours("training"),
    "training/ours-fp32": _ours("training", precision="fp32"),
    "training/diffusers": _peer("diffusers_training"),
    "training/diffusers-bf16": _peer("diffusers_training", precision="bf16"),
    "training/diffusers-bf16-channels-last": _peer("diffusers_training", precision="bf16", channels_last=True),
    "training/denoising-diffusion-pytorch": _peer("lucidrains_training"),
    "trainer/ours": _ours("training"),
    "trainer/bare": _bare,
    "ranks/two": _ranks(2),
    "ranks/one": _ranks(1),
    "sampling/ours": _ours("sampling"),
    "sampling/ours-fp32": _ours("sampling", precision="fp32"),
    "sampling/diffusers": _peer("diffusers_sampling"),
    "sampling/k-diffusion": _peer("kdiffusion_sampling"),
    "sampling/azula": _peer("azula_sampling"),
    "likelihood/ours": _ours("likelihood"),
    "likelihood/k-diffusion": _peer("kdiffusion_likelihood"),
    "loading/ours": _ours("loading"),
    "loading/torch": _peer("torch_loading"),
    "checkpoint-save/ours": _ours("checkpoint_save"),
    "checkpoint-save/torch": _peer("torch_save"),
    "checkpoint-load/ours": _ours("checkpoint_load"),
    "checkpoint-load/torch": _peer("torch_load"),
    "start/import-logsnr": _ours("start", code="import logsnr"),
    "start/import-torch": _ours("start", code="import torch"),
    "start/help": _ours("start", module=["logsnr", "--help"]),
    "start/sample-16-digits": _ours("start_sample"),
}


def peak_bytes() -> int:
    """The most memory that this process, or one it started, had until now: of the GPU if it uses one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    """Set one contender up, then work at every line."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes to standard error
    os.dup2(2, 1)
    work = CONTENDERS[name](folder)
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else os.cpu_count()
    facts = {"precision": "fp32", "threads": threads, "torch": version("torch"), **work.facts}
    print(json.dumps(facts), file=answers, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        shown = work.go()
        seconds = time.perf_counter() - started
        answer = {"seconds": seconds, "shown": shown, "peak_bytes": peak_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
