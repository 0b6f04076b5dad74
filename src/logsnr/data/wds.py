"""WebDataset shards, `wds:WHERE`: tar files of images, read in place and never unpacked.

WHERE is a folder (its .tar files), a file, a pattern with * and ?, or a range in braces,
`wds:/data/train-{000000..000015}.tar`; several of them are separated by `::`. Shards are in the order of their names;
one that is named twice, by another path or a link, is read once, by the first of its names.
If the folder or one word of the name of every shard means a split (train, test, val or a synonym), those are the
splits. What a sample is, and what is read to open the data: :mod:`logsnr.data.tar`; channels and sizes follow the rules
of :mod:`logsnr.data.images`.

An example is one read at its place and its decoding, in threads: both release Python's lock.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from logsnr.data.lazy import Lazy, workers
from logsnr.data.pixels import Header, decode, layout, lazy, one_mode, one_size
from logsnr.data.record import Block, Shards, Source, Wish
from logsnr.data.split import by_name
from logsnr.data.tar import MODES, Index, index, read

PREFIX = "wds:"
MIXED = 4
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_wds(source: str) -> bool:
    """Whether the string begins as one of these."""
    return source.startswith(PREFIX)


def read_wds(source: str, wish: Wish) -> Source:
    """Return the images of the shards by split, decoded when needed.

    Raises:
        ValueError: if there are no shards, one is damaged, a sample has not exactly one image, or modes or sizes differ
            and no conversion is asked.
    """
    named: dict[str, Path] = {}
    for where in source.removeprefix(PREFIX).split("::"):
        for path in _paths(where):
            named.setdefault(os.path.realpath(path), path)
    paths = list(named.values())
    with ThreadPoolExecutor(workers()) as pool:
        indices = dict(zip(paths, pool.map(index, paths), strict=True))
    headers, counts = _headers(indices)
    mode = one_mode(headers, wish.channels)
    size = wish.size or one_size(headers)
    parts = {split: {path: indices[path] for path in part} for split, part in by_name(paths).items()}
    blocks = {
        split: Block(_lazy(part, mode, size), _labels(part), shards=_shards(part)) for split, part in parts.items()
    }
    modes, sizes, others = Counter[str](), Counter[str](), Counter[str]()
    for header, count in counts.items():
        modes[header.mode] += count
        sizes[f"{header.height}x{header.width}"] += count
    for each in indices.values():
        others.update(each.others)
    seen = {"modes": dict(modes), "sizes": dict(sizes.most_common(10)), "shards": len(paths)}
    return Source(blocks, layout=layout(mode), seen=seen | ({"not_used": dict(others)} if others else {}))


def _paths(where: str) -> list[Path]:
    """The shards that one WHERE names."""
    if "://" in where or where.startswith("pipe:"):
        raise ValueError(f"{where} is not on a file system; allowed: files, that is copies of the shards, or a mount")
    if (found := _RANGE.search(where)) is not None:
        first, last = found.groups()
        numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
        paths = [path for number in numbers for path in _paths(where[: found.start()] + number + where[found.end() :])]
    else:
        place = Path(where).expanduser()
        # brackets are those of a name, and so are * and ? in the name of a folder that there is
        pattern = f"{glob.escape(str(place))}/**/*.tar" if place.is_dir() else str(place).replace("[", "[[]")
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))] or [place]
        paths = [path for path in paths if path.is_file()]
    if not paths:
        raise ValueError(f"no shards {where}; allowed: a folder of .tar files, a file, a pattern, or {{000..015}}")
    return paths


def _headers(indices: dict[Path, Index]) -> tuple[dict[str, Header], dict[Header, int]]:
    """Of the headers that there are, in order: each by the name of the first sample that has it; how many have it."""
    headers, counts = dict[str, Header](), dict[Header, int]()
    for path, each in indices.items():
        rows, first, count = np.unique(each.headers, axis=0, return_index=True, return_counts=True)
        for place in np.argsort(first).tolist():
            mode, height, width = rows[place].tolist()
            header = Header(MODES[mode], height, width)
            if header not in counts:
                headers[f"{each.names.splitlines()[first[place]]} of {path}"] = header
            counts[header] = counts.get(header, 0) + int(count[place])
    return headers, counts


def _lazy(part: dict[Path, Index], mode: str, size: tuple[int, int]) -> Lazy:
    paths, indices = list(part), list(part.values())
    starts = np.cumsum([0, *(len(each.places) for each in indices)])

    def pixels(row: int) -> np.ndarray:
        shard = int(np.searchsorted(starts, row, side="right")) - 1
        path, here, sample = paths[shard], indices[shard], row - int(starts[shard])
        content = read(path, here.state, *here.places[sample].tolist())
        try:
            return decode(io.BytesIO(content), mode, path)
        except ValueError as error:
            raise ValueError(f"sample {here.names.splitlines()[sample]}: {error}") from error

    return lazy(int(starts[-1]), mode, size, pixels)


def _labels(part: dict[Path, Index]) -> np.ndarray | None:
    """Labels (n,), as integers if all of them are."""
    labelled = [bool(each.labels) for each in part.values()]
    if not any(labelled):
        return None
    if not all(labelled):
        without = next(path for path, each in part.items() if not each.labels)
        raise ValueError(f"{without} has no labels, but other shards have")
    labels = np.array([label for each in part.values() for label in each.labels.split("\n")])
    with suppress(OverflowError):  # more than int64 holds: classes by their texts
        return labels.astype(np.int64) if np.char.isdecimal(labels).all() else labels
    return labels


def _shards(part: dict[Path, Index]) -> Shards:
    digest = hashlib.sha256(
        json.dumps([[path.name, each.state.split()[1], each.digest] for path, each in part.items()]).encode()
    )
    return Shards(tuple(len(each.places) for each in part.values()), MIXED, digest.hexdigest())
