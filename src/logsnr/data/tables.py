"""Tables of examples in groups: record batches of Arrow files, mapped into memory, or row groups of parquet files.

A group is what is read at once. Of an Arrow file that is the pages one example lies in; of a parquet file it is a whole
row group, decompressed, of which the last `GROUPS_KEPT` are kept, each read once however many threads ask for it. So
the order of parquet files mixes no two groups of a lane (:mod:`logsnr.data.lanes`), and what a rank keeps in memory is
the groups its lanes are in and a few that they have left. Only footers are read to open a parquet file: any file
system will do that can read from the middle of a file, the Hub's among them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from logsnr.data.lanes import MOST_LANES
from logsnr.data.split import NAMES, by_name

MIXED_BATCHES = 4
GROUPS_KEPT = MOST_LANES + MOST_LANES // 4
STATE, SPLITS = "state.json", "dataset_dict.json"
INSTALL = "pip install 'logsnr[hf]'"


class Table(NamedTuple):
    """One split.

    sizes: rows in each group, none empty; mixed: groups to permute together; files: what tells two tables apart.
    features: what the columns are, by name, as the `datasets` library writes it.
    value: the value of (group, row in the group, column); column: all values of one.
    """

    sizes: tuple[int, ...]
    mixed: int
    files: list[Any]
    features: Mapping[str, Any]
    value: Callable[[int, int, str], Any]
    column: Callable[[str], np.ndarray]


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set here (`save_to_disk`)."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def saved(folder: Path) -> dict[str, Table]:
    """The splits of a data set that `datasets` saved.

    Raises:
        ValueError: if a file is damaged, or files of a split have other columns or class names than its first.
    """
    if (folder / SPLITS).is_file():
        names = json.loads((folder / SPLITS).read_text())["splits"]
        return {NAMES.get(name.lower(), name): _arrow(folder / name) for name in names}
    return {"": _arrow(folder)}


def parquet(files: Any, paths: list[str]) -> dict[str, Table]:
    """The splits that the names of parquet files mean, on a file system of fsspec.

    Raises:
        ValueError: if a file is damaged, or files of a split have other columns or class names than its first.
    """
    parts = by_name(PurePosixPath(path) for path in paths)
    return {split: _parquet(files, [str(path) for path in part]) for split, part in parts.items()}


def _arrow(folder: Path) -> Table:
    import pyarrow as pa

    state = json.loads((folder / STATE).read_text())
    names = [each["filename"] for each in state["_data_files"]]
    try:
        tables = [pa.ipc.open_stream(pa.memory_map(str(folder / name))).read_all() for name in names]
        whole = pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{folder}: {error}") from error
    features = _agreed({name: table.schema for name, table in zip(names, tables, strict=True)})
    batches = [batch for batch in whole.to_batches() if batch.num_rows]
    return Table(
        tuple(batch.num_rows for batch in batches),
        MIXED_BATCHES,
        [state.get("_fingerprint"), *([name, (folder / name).stat().st_size] for name in names)],
        features,
        lambda group, row, name: batches[group].column(name)[row].as_py(),
        lambda name: np.array(whole.column(name).to_pylist()),
    )


def _parquet(files: Any, paths: list[str]) -> Table:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        footers = {path: ParquetFile(files.open(path)).metadata for path in paths}
    except pa.ArrowInvalid as error:
        raise ValueError(f"{', '.join(paths)[:200]}: {error}") from error
    features = _agreed({path: footer.schema.to_arrow_schema() for path, footer in footers.items()})
    groups = [
        (path, group)
        for path in paths
        for group in range(footers[path].num_row_groups)
        if footers[path].row_group(group).num_rows
    ]
    locks = [Lock() for _ in groups]

    @lru_cache(maxsize=GROUPS_KEPT)
    def read(number: int, name: str) -> Any:
        path, group = groups[number]
        with files.open(path) as file:
            return ParquetFile(file, metadata=footers[path]).read_row_group(group, columns=[name]).column(name)

    def value(number: int, row: int, name: str) -> Any:
        with locks[number]:
            column = read(number, name)
        return column[row].as_py()

    def column(name: str) -> np.ndarray:
        columns = (ParquetFile(files.open(path)).read([name])[name] for path in paths)
        return np.array([value for each in columns for value in each.to_pylist()])

    rows = tuple(footers[path].row_group(group).num_rows for path, group in groups)
    sizes = [footers[path].row_group(group).total_byte_size for path, group in groups]
    stored = [[PurePosixPath(path).name, files.size(path)] for path in paths]
    return Table(rows, 1, [*stored, rows, sizes], features, value, column)


def _agreed(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """What each column is, which all files of a split say alike; Arrow itself compares no names of classes."""
    (first, schema), *others = schemas.items()
    features = _features(schema)
    for path, other in others:
        if other != schema or _features(other) != features:
            raise ValueError(
                f"{path} has the columns {other.names}, {first} {schema.names}, or others of these types or class names"
            )
    return features


def _features(schema: Any) -> dict[str, Any]:
    """What each column is: kind and class names as the file says it, else its Arrow type under "dtype"."""
    text = (schema.metadata or {}).get(b"huggingface")
    known = json.loads(text).get("info", {}).get("features") or {} if text else {}
    features = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        said = known.get(name)
        used = {key: said[key] for key in ("_type", "dtype", "names") if said.get(key)} if type(said) is dict else {}
        features[name] = used or {"dtype": str(kind)}
    return features
