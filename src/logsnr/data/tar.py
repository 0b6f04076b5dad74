"""What is in a tar file of examples, without reading its examples: an index, made once and kept.

A sample is the consecutive members whose names agree up to the first dot of the file name, as WebDataset has it
(github.com/webdataset/webdataset); one of them is an image. The index says of every sample where its image lies, the
size and mode in the image's header, and its label: the text of the member .cls, or the value of "label", "class" or
"cls" in the member .json. It is made from the tar's headers, the first bytes of each image, and the labels.

It is kept as `.NAME.index.safetensors` beside the tar, or in `$LOGSNR_CACHE` (else `~/.cache/logsnr`) where that place
cannot be written to, and is made anew when the tar's size, time of change or time of its entry (ctime) are other than
it says: also for a copy of a tar. Processes that make it at the same time do not meet: each writes a file of its own
and renames it.

Nothing that a tar says of itself is believed before it is checked: a member lies within the file, a label is short,
and where the members end there are zeros to the end of the file, since tarfile takes any damaged header for the end.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from logsnr.data.pixels import CHANNELS, EXTENSIONS, Header, header

FORMAT = "2"
MODES = tuple(CHANNELS)
LABEL_KEYS = ("label", "class", "cls")
_END = 2 * tarfile.BLOCKSIZE
_MOST_LABEL = 2**20
_FIRST_BYTES = (2**12, 2**16)
_KEPT_OPEN = 256


@dataclass(frozen=True)
class Index:
    """The samples of one tar, in its order.

    Attributes:
        state: size, time of change and time of the entry of the tar.
        names: names of the images in the tar, one a line.
        labels: one a line, empty if no sample has one.
        others: members that are not used, by extension.
        places: (n, 2) int64, where the image begins and how many bytes it has.
        headers: (n, 3) int64, the image's mode as a place in `MODES`, its height, its width.
    """

    state: str
    names: str
    labels: str
    others: dict[str, int]
    places: np.ndarray
    headers: np.ndarray

    @property
    def digest(self) -> str:
        """SHA-256 of names, labels, places and headers."""
        arrays = self.places.astype("<i8").tobytes() + self.headers.astype("<i8").tobytes()
        return hashlib.sha256(json.dumps([self.names, self.labels]).encode() + arrays).hexdigest()


class Sample(NamedTuple):
    """The members of one sample that are used: the image's name, where it lies, its header, and the label."""

    name: str
    place: tuple[int, int]
    header: Header
    label: str | None


def index(path: Path) -> Index:
    """Return the index of a tar: the one that is kept if it is of this very file, else a new one, which is kept.

    Raises:
        ValueError: naming the tar or the member, if the tar is damaged or compressed, a sample has no image or
            several, an image has a damaged header, or some samples have a label and others none.
    """
    stat = path.stat()
    state = f"{FORMAT} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
    absolute = hashlib.sha256(str(path.absolute()).encode()).hexdigest()
    cache = Path(os.environ.get("LOGSNR_CACHE") or Path.home() / ".cache" / "logsnr")
    kept = [path.with_name(f".{path.name}.index.safetensors"), cache / "shards" / f"{absolute}.safetensors"]
    found = next((found for place in kept if (found := _load(place, state)) is not None), None)
    if found is None:
        found = _make(path, state)
        any(_save(found, place) for place in kept)
    return found


def read(path: Path, state: str, start: int, size: int) -> bytes:
    """Return the bytes start .. start+size−1 of a tar in this state; any number of threads at once.

    Raises:
        ValueError: if the tar has become another one.
    """
    if os.name == "posix":
        file = _opened(path, state)  # held until it has been read: it may leave the cache meanwhile
        return os.pread(file.fileno(), size, start)
    with path.open("rb") as own:
        own.seek(start)
        return own.read(size)


@lru_cache(maxsize=_KEPT_OPEN)
def _opened(path: Path, state: str) -> io.FileIO:
    # closed when it has left this cache and the last thread that reads it has let go of it
    file = io.FileIO(path)
    stat = os.fstat(file.fileno())
    if state.split()[1:3] != [str(stat.st_size), str(stat.st_mtime_ns)]:
        raise ValueError(f"{path} has changed since its index was read; start again")
    return file


def _make(path: Path, state: str) -> Index:
    others: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            samples = [_sample(path, file, key, members, others) for key, members in _samples(_members(file))]
    except tarfile.TarError as error:
        raise ValueError(f"{path}: {error}; allowed: whole tar files, neither compressed nor sparse") from error
    if not samples:
        raise ValueError(f"{path} has no samples")
    labels = [sample.label for sample in samples if sample.label is not None]
    if labels and len(labels) < len(samples):
        without = next(sample.name for sample in samples if sample.label is None)
        raise ValueError(f"{path}: {without} has no label (.cls, or label in .json), but other samples have one")
    return Index(
        state,
        "\n".join(" ".join(sample.name.splitlines()) for sample in samples),
        "\n".join(labels),
        dict(others),
        np.array([sample.place for sample in samples], np.int64),
        np.array([(MODES.index(mode), *size) for _, _, (mode, *size), _ in samples], np.int64),
    )


def _members(file: io.BufferedReader) -> Iterator[tarfile.TarInfo]:
    """The members of a tar; each is checked before the place of the next one is taken from it."""
    size = os.fstat(file.fileno()).st_size
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.issparse():
                    raise tarfile.ReadError(f"{member.name} is sparse")
                if member.size < 0 or tar.offset > size:
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes by its header, the file {size}")
                yield member
    except (ArithmeticError, LookupError, MemoryError, OSError, RecursionError, ValueError) as error:
        # what tarfile makes of headers whose numbers cannot be
        raise tarfile.ReadError(f"a damaged header ({error})") from error
    file.seek(tar.offset)
    if any(block.strip(b"\0") for block in iter(lambda: file.read(2**20), b"")):
        raise tarfile.ReadError(f"a damaged header at byte {tar.offset}, or another tar after the end of the first")
    if size - tar.offset < _END:
        raise tarfile.ReadError("cut short: it does not end as a tar ends")


def _samples(tar: Iterator[tarfile.TarInfo]) -> Iterator[tuple[str, list[tuple[str, tarfile.TarInfo]]]]:
    """The key of each sample, and its members by extension."""
    key = ""
    members: list[tuple[str, tarfile.TarInfo]] = []
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        stem, _, extension = name.partition(".")
        if not member.isfile() or not stem:
            continue
        this = f"{folder}/{stem}" if folder else stem
        if members and this != key:
            yield key, members
            members = []
        key = this
        members.append((f".{extension.lower()}", member))
    if members:
        yield key, members


def _sample(
    path: Path, file: io.BufferedReader, key: str, members: list[tuple[str, tarfile.TarInfo]], others: Counter[str]
) -> Sample:
    images = [member for extension, member in members if extension in EXTENSIONS]
    if len(images) != 1:
        found = ", ".join(extension for extension, _ in members)
        raise ValueError(
            f"{path}: sample {key} has the members {found}; allowed: one image, {' '.join(EXTENSIONS)}, "
            "and a label, .cls or .json"
        )
    (image,), label = images, None
    for extension, member in members:
        if extension in (".cls", ".json"):
            name = f"{member.name} of {path}"
            if member.size > _MOST_LABEL:
                raise ValueError(f"{name} has {member.size} bytes; allowed: {_MOST_LABEL}")
            file.seek(member.offset_data)
            label = _label(name, extension, file.read(member.size)) or label
        elif member is not image:
            others[extension] += 1
    return Sample(image.name, (image.offset_data, image.size), _header(path, file, image), label)


def _header(path: Path, file: io.BufferedReader, image: tarfile.TarInfo) -> Header:
    """The image's header from its first bytes; from all of them where those do not do."""
    name = f"{image.name} of {path}"
    for most in (*(most for most in _FIRST_BYTES if most < image.size), image.size):
        file.seek(image.offset_data)
        try:
            return header(io.BytesIO(file.read(most)), name)
        except ValueError:
            if most == image.size:
                raise
    raise AssertionError  # the last one returns or raises


def _label(name: str, extension: str, content: bytes) -> str | None:
    try:
        text = content.decode()
        record = {LABEL_KEYS[0]: text.strip()} if extension == ".cls" else json.loads(text)
        found = next((str(record[key]) for key in LABEL_KEYS if key in record and record[key] is not None), None)
        if found is not None and len(found.splitlines()) != 1:
            raise ValueError(f"the label {found!r}; allowed: one line")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name}: {error}") from error
    return found


def _save(made: Index, place: Path) -> bool:
    """Whether the place took it."""
    texts = {"state": made.state, "names": made.names, "labels": made.labels, "others": json.dumps(made.others)}
    fresh = place.with_name(f"{place.name}.{uuid4().hex}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file({"places": made.places, "headers": made.headers}, fresh, texts)
        os.replace(fresh, place)
    except (OSError, SafetensorError):
        return False
    finally:
        with suppress(OSError):
            fresh.unlink()
    return True


def _load(place: Path, state: str) -> Index | None:
    """The index at a place, None if there is none of this state, or not what is made."""
    try:
        with safe_open(place, "numpy") as file:
            texts = file.metadata() or {}
            if texts.get("state") != state:
                return None
            arrays = (file.get_tensor(name) for name in ("places", "headers"))
            others = {name: int(count) for name, count in json.loads(texts["others"]).items()}
            found = Index(state, texts["names"], texts["labels"], others, *arrays)
            return found if _is_sound(found) else None
    except (OSError, SafetensorError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None


def _is_sound(found: Index) -> bool:
    """Whether there is as much of everything as there are samples, in the bounds of the tar and of `MODES`."""
    places, headers, count = found.places, found.headers, len(found.names.splitlines())
    if (places.shape, headers.shape) != ((count, 2), (count, 3)) or {places.dtype, headers.dtype} != {np.dtype("<i8")}:
        return False
    labels = found.labels.count("\n") + 1 if found.labels else count
    within = (places >= 0).all() and (places[:, 0] <= int(found.state.split()[1]) - places[:, 1]).all()
    known = (headers[:, 0] >= 0).all() and (headers[:, 0] < len(MODES)).all() and (headers[:, 1:] > 0).all()
    return count > 0 and labels == count and bool(within and known)
