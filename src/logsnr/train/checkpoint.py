"""Checkpoints: self-describing directories that are whole or not there.

    checkpoints/step-00001000/   model.safetensors  ema.safetensors  optimizer.safetensors  …  state.json

One file a group of tensors (or a directory, `shards`, where several ranks have a part of it), one JSON file that names
the groups and holds everything else; nothing in them can be executed. A directory gets its name by a rename after all
its files are on the disk, and loses it by a rename before its first file is deleted, so a run killed at any moment
leaves complete checkpoints and hidden rubbish, which the next save sweeps out. A checkpoint is never overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from logsnr.files import sync_directory, sync_file
from logsnr.train import shards
from logsnr.train.engine import local
from logsnr.train.names import canonical_names, listed

FORMAT_VERSION = 1
_STATE = "state.json"
_OWN_KEYS = frozenset({"format_version", "groups", "shards", "step"})
_NAME = re.compile(r"step-(\d{8,})")
_GROUP = re.compile(r"[a-z0-9][a-z0-9.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """tensors: group → name → CPU tensor. state: the JSON values given to `save`. step: finished steps.

    groups: the names of all groups, those that were not read too. shards: their files, where there are several.
    """

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path
    step: int
    groups: tuple[str, ...]
    shards: dict[str, list[str]]


def save(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    rank: int | None = None,
) -> Path:
    """Write `root/step-<step>` and return its path once it is safely on the disk.

    tensors: groups by name (lower-case letters, digits, '.', '-'), each under canonical names; tied and
    non-contiguous tensors are allowed. state: JSON values; a `step` among them must agree.
    rank: of the ranks that write their shards together, into a directory which the first of them makes and publishes.
    ValueError for a bad group, bad JSON or a checkpoint that exists. OSError in one line, naming the path,
    the bytes needed and the bytes free, when the disk does not take it; earlier checkpoints are untouched.
    """
    final = place(root, step)
    bad = [group for group in tensors if not _GROUP.fullmatch(group)]
    if bad or (_OWN_KEYS - {"step"}) & state.keys() or state.get("step", step) != step:
        raise ValueError(f"cannot save step {step} with groups {listed(tensors)} and state {listed(state)}")
    if final.exists():
        raise ValueError(f"checkpoint {final} exists already; checkpoints are never overwritten")
    description = {"format_version": FORMAT_VERSION, "step": step, "groups": list(tensors), **state}
    text = json.dumps(description, indent=2, allow_nan=False)
    files = {group: _unshared(canonical_names(named)) for group, named in tensors.items()}
    hidden = root / f".{final.name}.tmp"
    if rank:
        _write_shards(hidden, files)
        return final

    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    try:
        hidden.mkdir()
        _write(hidden, files, description, split=rank is not None)
        os.rename(hidden, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(hidden, ignore_errors=True)
        needed = len(text) + sum(local(tensor).nbytes for named in files.values() for tensor in named.values())
        free = shutil.disk_usage(root).free
        raise OSError(f"cannot write checkpoint {final} of {needed} bytes, {free} free: {error}") from None
    sync_directory(root)
    return final


def _write(hidden: Path, files: Mapping[str, dict[str, Tensor]], description: dict[str, Any], *, split: bool) -> None:
    """Everything that a checkpoint has, safely on the disk; split: of the groups only this rank's part."""
    if split:
        _write_shards(hidden, files)
        description = {**description, "shards": {group: _files(hidden / group) for group in files}}
    else:
        for group, named in files.items():
            _write_tensors(hidden / f"{group}.safetensors", named)
    _write_text(hidden / _STATE, json.dumps(description, indent=2, allow_nan=False))
    sync_directory(hidden)


def place(root: Path, step: int) -> Path:
    """Where the checkpoint of `step` is, or would be."""
    return root / f"step-{step:08d}"


def load(
    path: Path,
    *,
    only: Collection[str] | None = None,
    like: Callable[[str, str], Tensor | None] = lambda group, name: None,
) -> Checkpoint:
    """Read a checkpoint; ValueError in one line if it is absent, incomplete, damaged or of another format.

    only: the groups to read, all unless given. like: by group and name a live tensor (`shards.read`).
    """
    found = described(path)
    tensors = {}
    for group in found.groups if only is None else [group for group in found.groups if group in only]:
        if group in found.shards:
            tensors[group] = shards.read(path / group, found.shards[group], partial(like, group))
        else:
            tensors[group] = _read_tensors(path, group)
    return replace(found, tensors=tensors)


def described(path: Path) -> Checkpoint:
    """What a checkpoint says of itself, without a tensor. ValueError as for `load`."""
    if not (path / _STATE).is_file():
        where = path if path.is_dir() else path.parent
        there = listed(entry.name for entry in where.iterdir()) if where.is_dir() else "nothing"
        raise ValueError(f"no checkpoint at {path}: {where} has {there}")
    try:
        said = json.loads((path / _STATE).read_bytes())
        version, step, groups = (said.get(key) for key in ("format_version", "step", "groups"))
        split = dict(said.get("shards", {}))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"damaged checkpoint {path}: {_STATE} is not a JSON object") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"checkpoint {path} has format_version {version!r}; known: {FORMAT_VERSION}")
    if type(step) is not int or type(groups) is not list:
        raise ValueError(f"damaged checkpoint {path}: {_STATE} lacks its step or its list of groups")
    state = {key: value for key, value in said.items() if key not in _OWN_KEYS - {"step"}}
    return Checkpoint({}, state, path, step, tuple(map(str, groups)), split)


def latest(root: Path) -> Path | None:
    """The checkpoint of the largest step under `root`, or None."""
    complete = _all(root)
    return complete[-1] if complete else None


def rotate(root: Path, keep: int) -> None:
    """Delete all but the last `keep` >= 1 checkpoints."""
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}")
    old = _all(root)[:-keep]
    _sweep(root)
    for path in old:
        os.rename(path, path.with_name(f".{path.name}.tmp"))
    if old:
        sync_directory(root)
        _sweep(root)


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over the names, sizes and contents of a checkpoint's files."""
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _all(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    names = [path for path in root.iterdir() if _NAME.fullmatch(path.name)] if root.is_dir() else []
    return sorted(names, key=lambda path: int(path.name.removeprefix("step-")))


def _sweep(root: Path) -> None:
    """Remove what killed saves and rotations left behind."""
    for path in root.glob(".step-*.tmp"):
        shutil.rmtree(path)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detached, contiguous, each with memory of its own: tied weights are written under all their names."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        memory = local(plain).untyped_storage().data_ptr()
        result[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return result


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path)
    sync_file(path)


def _write_shards(hidden: Path, files: Mapping[str, dict[str, Tensor]]) -> None:
    """This rank's part of every group, and then wait for the others' parts."""
    shards.together()  # the directory is there
    for group, named in files.items():
        shards.write(hidden / group, named)
    shards.together()


def _files(folder: Path) -> list[str]:
    """The files of a group, which are then on the disk by name, too; of a group without tensors there is no folder."""
    if not folder.is_dir():
        return []
    sync_directory(folder)
    return sorted(path.name for path in folder.iterdir())


def _write_text(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
    sync_file(path)


def _read_tensors(path: Path, group: str) -> dict[str, Tensor]:
    file = path / f"{group}.safetensors"
    if not _GROUP.fullmatch(group) or not file.is_file():
        there = listed(entry.name for entry in path.iterdir())
        raise ValueError(f"incomplete checkpoint {path}: {file.name} is missing; there are {there}")
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise ValueError(f"damaged checkpoint {path}: {file.name}: {error}") from None
