"""Data sets of Hugging Face, `hf:WHERE`: a folder that `datasets` saved, a folder of parquet files, a name on the Hub.

`hf:owner/name` is read from the Hub where it lies, by row groups, the way files are: nothing is copied to
this machine's disk and any example can be read without those before it. That is what its own streaming cannot do, so
the files are read with pyarrow, and the `datasets` library is not needed. It takes the parquet files of the repository,
or else those of the Hub's conversion.

Options follow a `?`, joined by `&`: `image=` and `label=` name columns where there are several, `split=` takes one
split alone, `config=` one of several configurations: `hf:owner/name?image=photo&label=species&split=train`. Splits are
those of the source. The image is a column of type Image, the label one of type ClassLabel, with its classes' names, and
the same in all splits; a split without the label's column has no labels.

Channels and sizes are those of the first `SURVEYED` examples, without a look at the others: one that differs ends the
run by name, unless --size and --channels say what all become.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from logsnr.data.lazy import Lazy
from logsnr.data.pixels import Header, decode, header, layout, lazy, one_mode, one_size
from logsnr.data.record import Block, Shards, Source, Wish
from logsnr.data.split import NAMES
from logsnr.data.tables import INSTALL, Table, is_saved, parquet, saved

PREFIX = "hf:"
SURVEYED = 64
OPTIONS = ("image", "label", "split", "config")
IMAGES = ("Image", "binary", "large_binary", "struct<bytes: binary, path: string>")
CONVERTED = "@refs/convert/parquet"


def is_hf(source: str) -> bool:
    """Whether the string begins as one of these."""
    return source.startswith(PREFIX)


def read_hf(source: str, wish: Wish) -> Source:
    """Return the images of a data set by split, decoded when needed.

    Raises:
        ValueError: if there is no such data set or option, no column or no single one is the image or the label, splits
            differ in these columns or their classes, one is empty, or the first examples differ in mode or size and no
            conversion is asked.
    """
    where, _, query = source.removeprefix(PREFIX).partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - set(OPTIONS):
        raise ValueError(f"unknown option {', '.join(sorted(unknown))}; allowed: {', '.join(OPTIONS)}")
    _needed("pyarrow")
    tables = _tables(where, options.get("config"))
    if (only := options.get("split")) is not None:
        name = NAMES.get(only.lower(), only)
        if name not in tables:
            raise ValueError(f"no split {only!r}; it has: {', '.join(filter(None, tables)) or 'none with a name'}")
        tables = {"": tables[name]}
    features = {name: feature for table in tables.values() for name, feature in table.features.items()}
    image, label = _column(features, "image", options.get("image")), _column(features, "label", options.get("label"))
    if image is None:
        raise ValueError(f"no column is an image; its columns: {_listed(features)}; ?image=NAME says which")
    for split, table in tables.items():
        for name in filter(None, (image, label)):
            found = table.features.get(name, {} if name == image else features[name])
            if found != features[name]:
                raise ValueError(f"the column {name} of split {split} is {found}, that of another {features[name]}")
    headers = _surveyed(tables, image)
    mode = one_mode(headers, wish.channels)
    size = wish.size or one_size(headers)
    blocks = {
        split: Block(
            _lazy(table, image, mode, size, wish),
            _labels(table, label),
            shards=Shards(table.sizes, table.mixed, hashlib.sha256(json.dumps(table.files).encode()).hexdigest()),
        )
        for split, table in tables.items()
    }
    seen = {
        "columns": {"image": image, "label": label},
        "modes_of_the_first": dict(Counter(h.mode for h in headers.values())),
    }
    return Source(blocks, tuple(features[label].get("names", ())) if label else (), layout=layout(mode), seen=seen)


def _needed(module: str) -> Any:
    if find_spec(module) is None:
        raise ValueError(f"hf: needs the package {module}, which is not installed: {INSTALL}")
    return import_module(module)


def _tables(where: str, config: str | None) -> dict[str, Table]:
    folder = Path(where).expanduser()
    if where and folder.is_dir():
        if is_saved(folder):
            return saved(folder)
        files = _needed("fsspec").filesystem("file")
        paths = [str(path) for path in sorted(folder.absolute().rglob("*.parquet"))]
        return parquet(files, _one_config(paths, str(folder.absolute()), config))
    if not where or where.startswith((".", "/")) or where.count("/") != 1:
        raise ValueError(
            "no such folder; allowed: a folder `datasets` saved, one of parquet files, or a name on the Hub"
        )
    return _hub(_needed("huggingface_hub").HfFileSystem(), where, config)


def _hub(files: Any, name: str, config: str | None) -> dict[str, Table]:
    """The splits of a data set on the Hub: of its own parquet files, else of the converted ones."""
    try:
        for root in (f"datasets/{name}", f"datasets/{name}{CONVERTED}"):
            if paths := sorted(files.glob(f"{root}/**/*.parquet")):
                if any("/partial-" in path for path in paths):
                    break
                return parquet(files, _one_config(paths, root, config))
    except ValueError:
        raise
    except Exception as error:  # the Hub's client raises its own errors and those of its HTTP library
        raise ValueError(f"{name} cannot be read from the Hub: {error}") from error
    raise ValueError(
        f"{name} is not in parquet files on the Hub, or only a part of it is; allowed: save it with datasets' "
        "load_dataset(NAME).save_to_disk(FOLDER), and hf:FOLDER"
    )


def _one_config(paths: list[str], root: str, config: str | None) -> list[str]:
    """The paths of one configuration, which is the first folder below the root where there are several."""
    if not paths:
        raise ValueError("no parquet files in the folder, and none that `datasets` saved (state.json)")
    tops = {path: Path(path).relative_to(root).parts[0] for path in paths}
    configs = [top for top in dict.fromkeys(tops.values()) if top.lower() not in NAMES and not top.endswith(".parquet")]
    if config is None and len(configs) < 2:
        return paths
    if config not in configs:
        raise ValueError(f"config {config or 'is not given'}; it has: {', '.join(configs)}; ?config=NAME says which")
    return [path for path in paths if tops[path] == config]


def _column(features: Mapping[str, Any], what: str, named: str | None) -> str | None:
    """The name of the image's or the label's column; None if there is none."""
    if named is not None:
        if named not in features:
            raise ValueError(f"no column {named!r}; its columns: {_listed(features)}")
        return named
    kinds = {
        "image": ("Image", "binary", "large_binary", "struct<bytes: binary, path: string>"),
        "label": ("ClassLabel",),
    }[what]
    found = [name for name in features if _kind(features[name]) in kinds]
    if len(found) > 1:
        raise ValueError(f"the columns {', '.join(found)} may be the {what}; ?{what}=NAME says which")
    return found[0] if found else None


def _labels(table: Table, label: str | None) -> np.ndarray | None:
    """Labels (n,); None where all are -1, which is how the Hub keeps back those of a test split."""
    found = table.column(label) if label and label in table.features else None
    return None if found is None or (found.dtype.kind == "i" and (found == -1).all()) else found


def _kind(feature: Any) -> str:
    return str(feature.get("_type") if feature.get("_type") not in (None, "Value") else feature.get("dtype"))


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())


def _surveyed(tables: Mapping[str, Table], image: str) -> dict[str, Header]:
    """The headers of the first examples of each split, by name."""
    found = {}
    for split, table in tables.items():
        if not table.sizes:
            raise ValueError(f"{f'split {split}' if split else 'the data set'} has no examples")
        for row in range(min(SURVEYED, table.sizes[0])):
            name = f"example {row}{f' of {split}' if split else ''}"
            found[name] = header(io.BytesIO(_content(table.value(0, row, image), name)), name)
    return found


def _content(value: Any, name: str) -> bytes:
    """The bytes of an image file."""
    content = value.get("bytes") if type(value) is dict else value
    if type(content) is not bytes:
        what = "names a file" if type(value) is dict and value.get("path") else f"is {type(value).__name__}"
        raise ValueError(f"{name} {what}; allowed: the bytes of an image file")
    return content


def _lazy(table: Table, image: str, mode: str, size: tuple[int, int], wish: Wish) -> Lazy:
    starts = np.cumsum([0, *table.sizes])

    def pixels(row: int) -> np.ndarray:
        group = int(np.searchsorted(starts, row, side="right")) - 1
        name = f"example {row}"
        content = _content(table.value(group, row - int(starts[group]), image), name)
        found = header(io.BytesIO(content), name)
        if wish.channels is None and found.mode != mode:
            raise ValueError(f"{name} is {found.mode}, the first are {mode}; convert all: --channels 3 (or 1, or 4)")
        if wish.size is None and found[1:] != size:
            given, first = f"{found.height}x{found.width}", f"{size[0]}x{size[1]}"
            raise ValueError(f"{name} is {given}, the first are {first}; give --size N or --size HxW")
        return decode(io.BytesIO(content), mode, name)

    return lazy(int(starts[-1]), mode, size, pixels)
