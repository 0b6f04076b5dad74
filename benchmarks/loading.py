"""Images a second from WebDataset shards, by number of threads, beside webdataset with a DataLoader on the same shards.

    python benchmarks/loading.py                      shards of its own making in a temporary folder; a few minutes
    python benchmarks/loading.py --shards DIR         shards that are there; JPEG and .cls

Both give batches of float32 in [-1, 1], channels first, and labels, to a consumer that does nothing with them; nothing
decoded is kept between epochs. The images are smooth noise, 256x256, JPEG of quality 90, written with a seed. The
contenders take turns, and the file cache is warm: what is measured is reading from memory, decoding and batching, not a
disk. Each turn opens the data anew and is measured after its first batches. Printed, and written with --out, as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from logsnr.bench.sections import machine_record
from logsnr.data import Batches, lazy, load

SIDE, QUALITY, WARM = 256, 90, 4
PACKAGES = ("torch", "numpy", "pillow", "webdataset")


def write_shards(folder: Path, shards: int, each: int, seed: int) -> None:
    """`shards` tar files of `each` images, smooth noise, and labels 0 .. 9."""
    noise = np.random.default_rng(seed)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:06}.tar", "w") as tar:
            for number in range(each):
                coarse = Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                file = io.BytesIO()
                coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "jpeg", quality=QUALITY)
                for extension, content in (("jpg", file.getvalue()), ("cls", str(noise.integers(10)).encode())):
                    info = tarfile.TarInfo(f"{shard:06}{number:06}.{extension}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))


def ours(folder: Path, batch: int, seed: int, workers: int) -> Iterator[Any]:
    """Batches of this library, decoded by so many threads."""
    lazy.workers, lazy.KEPT_BYTES = lambda: workers, 0
    with closing(Batches(load(f"wds:{folder}"), batch, seed).iterate()) as batches:
        yield from batches


def theirs(folder: Path, batch: int, seed: int, workers: int) -> Iterator[Any]:
    """Batches of webdataset, decoded by so many processes of a DataLoader; 0: in this one."""
    import webdataset

    urls = sorted(map(str, folder.glob("*.tar")))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=seed).repeat().shuffle(1000).decode("rgb8")
    pairs = data.to_tuple("jpg", "cls").map_tuple(_model_units, lambda label: label)
    yield from torch.utils.data.DataLoader(pairs, batch, num_workers=workers)


def _model_units(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(127.5).sub(1).contiguous()


def rate(batches: Iterator[Any], batch: int, steps: int) -> float:
    """Images a second over so many steps."""
    for _ in islice(batches, WARM):
        pass
    start = time.perf_counter()
    for _ in islice(batches, steps):
        pass
    return steps * batch / (time.perf_counter() - start)


def measured(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Median, least and most images a second of each contender."""
    contenders = {f"logsnr, {n} threads": partial(ours, workers=n) for n in args.workers if n}
    contenders |= {f"webdataset, {n} processes": partial(theirs, workers=n) for n in args.workers}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    start = time.perf_counter()
    examples = len(load(f"wds:{folder}"))
    opened = time.perf_counter() - start
    for turn in range(args.turns):
        for name, contender in contenders.items():
            with closing(contender(folder, args.batch, args.seed + turn)) as batches:  # type: ignore[type-var]
                rates[name].append(rate(batches, args.batch, args.steps))
            print(f"turn {turn}  {name:28} {rates[name][-1]:8.0f} images/s", file=sys.stderr)
    start = time.perf_counter()
    load(f"wds:{folder}")
    return {
        "examples": examples,
        "megabytes": round(sum(path.stat().st_size for path in folder.glob("*.tar")) / 1e6, 1),
        "seconds_to_open_first": round(opened, 3),
        "seconds_to_open_again": round(time.perf_counter() - start, 3),
        "images_per_second": {
            name: {"median": round(statistics.median(each)), "least": round(min(each)), "most": round(max(each))}
            for name, each in rates.items()
        },
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, metavar="DIR")
    parser.add_argument("--count", type=int, nargs=2, default=(8, 250), metavar=("SHARDS", "EACH"))
    parser.add_argument("--workers", type=int, nargs="+", default=(0, 1, 2, 4), metavar="N")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = args.shards or Path(made)
        if args.shards is None:
            write_shards(folder, *args.count, args.seed)
        found = measured(folder, args)
    record = {
        **machine_record(),
        "command": " ".join(["python", *sys.argv]),
        **{name: version(name) for name in PACKAGES},
        "batch": args.batch,
        "steps": args.steps,
        "turns": args.turns,
        "seeds": [args.seed, args.seed + args.turns - 1],
        **found,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
