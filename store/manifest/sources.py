"""Tables that are no CSV: JSON lines, Parquet, data frames and Hugging Face data sets, each as the
text that a CSV of it would hold, so that one set of rules reads them all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstock.store.errors import ManifestError, OptionError
from headstock.store.jsonfile import parse_json
from headstock.store.manifest.paths import modality_of
from headstock.store.manifest.splits import split_of
from headstock.store.manifest.table import Table, header_of, read_table
from headstock.store.textfile import lines_of, plain_bytes, read_text

__all__ = ["TABLES", "table_of"]

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
MEDIA = {"Image", "Audio"}
"""Kinds of columns of a data set that hold files."""
TABLES = (".csv", ".tsv", *JSON_LINES, *PARQUET)
"""Endings of files that are read as tables."""


def table_of(source: Any, delimiter: str | None = None, files: str | Path | None = None) -> Table:
    """``source`` as a table of text: a path by its ending (``TABLES``; any other is a CSV), a
    pandas, polars or pyarrow table, or a data set of the ``datasets`` package, one or a dictionary
    of splits.

    ``files``: the folder for pictures and sounds that lie inside a data set, or its Parquet file,
    and in no file of their own; such rows without an id are called by their number, for two of them
    may have one picture. Raises what ``read_table`` raises, and OptionError for an object that is
    none of these.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        suffix = os.path.splitext(path)[1].lower()
        if suffix in JSON_LINES:
            return _json_lines(path)
        if suffix in PARQUET:
            return _parquet(path, files)
        if kind := modality_of(path):
            what = {"image": "a picture", "audio": "a sound"}[kind]
            fix = "give a table or a folder; `headstock predict` takes single files"
            raise ManifestError(path, f"is {what} and no table", fix)
        return read_table(path, delimiter)
    kind = type(source).__module__.partition(".")[0]
    if kind == "datasets" or (
        isinstance(source, Mapping)
        and source
        and all(type(v).__module__.startswith("datasets.") for v in source.values())
    ):
        return _dataset(source, files)
    if kind == "pandas" and hasattr(source, "columns"):
        return _frame(source)
    if kind == "polars" and hasattr(source, "to_dict"):
        return _table("data frame", source.to_dict(as_series=False))
    if kind == "pyarrow" and hasattr(source, "to_pydict"):
        return _table("table", source.to_pydict())
    raise OptionError(
        "manifest",
        f"a {type(source).__name__} is no table",
        "give a path, a pandas or polars frame, a pyarrow table or a data set",
    )


def _table(path: str, columns: Mapping[str, Iterable[Any]], first: int = 1) -> Table:
    """``columns`` of values as text; rows are counted from ``first``."""
    header = header_of(path, [str(name) for name in columns])
    cells = [[_text(value) for value in values] for values in columns.values()]
    rows = [list(row) for row in zip(*cells, strict=True)]
    if not rows:
        raise ManifestError(path, "has no rows", "give one row an item")
    return Table(path, header, rows, list(range(first, first + len(rows))))


def _text(value: Any) -> str:
    """A value as pandas writes it to a CSV; ``""`` for one that is missing."""
    if isinstance(value, str):
        return value
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return ""
    if hasattr(value, "tolist") and not isinstance(value, list):  # NumPy's scalars and arrays
        value = value.tolist()
    if isinstance(value, float):
        return "" if value != value else repr(value)
    if isinstance(value, bool | int | os.PathLike):
        return str(value)
    if isinstance(value, Mapping) and value.get("path"):  # a picture of a data set
        return str(value["path"])
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _json_lines(path: str) -> Table:
    """One object a line; a name that a line lacks is an empty cell of it."""
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(lines_of(read_text(path, "give a readable file")), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            what = f"no JSON ({error})"
            raise ManifestError(f"{path}:{number}", what, "write one object a line") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{path}:{number}", "no JSON object", "write one object a line")
        found.append((number, row))
    if not found:
        raise ManifestError(f"{path}:1", "the file is empty", "write one object a line")
    names = list(dict.fromkeys(name for _, row in found for name in row))
    rows = [[_text(row.get(name)) for name in names] for _, row in found]
    return Table(path, header_of(path, names), rows, [number for number, _ in found])


def _parquet(path: str, files: str | Path | None) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OptionError(path, "is a Parquet file", "pip install 'headstock[parquet]'") from error
    raw = plain_bytes(path, "give a readable Parquet file")
    try:
        table = pq.read_table(pa.BufferReader(raw))
        columns = {name: table[name].to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(path, f"is no Parquet table ({error})", "write it again") from error
    # pandas keeps an index without a name as a column of its own; a data set its pictures' bytes
    columns = {k: v for k, v in columns.items() if not k.startswith("__index_level_")}
    for name, values in list(columns.items()):
        if any(isinstance(v, dict) and {"bytes", "path"} <= v.keys() for v in values):
            columns[name] = [_file(v, f"{path}, column {name}", files) for v in values]
            columns.setdefault("id", [str(row) for row in range(len(values))])
    return _table(path, columns)


def _frame(frame: Any) -> Table:
    columns: dict[str, Sequence[Any]] = {}
    index = frame.index
    if type(index).__name__ != "RangeIndex":  # as to_csv writes it: before all others
        names = [str(name) if name is not None else "" for name in index.names]
        for level, name in enumerate(names):
            columns[name] = index.get_level_values(level).tolist()
    for place, name in enumerate(frame.columns):
        if str(name) in columns:
            raise ManifestError("data frame", f"column {str(name)!r} twice", "names must differ")
        columns[str(name)] = frame.iloc[:, place].tolist()
    return _table("data frame", columns, first=0)


def _dataset(source: Any, files: str | Path | None) -> Table:
    """A data set, or a dictionary of them, whose keys are then the splits of the rows."""
    several = isinstance(source, Mapping)
    parts = dict(source) if several else {str(getattr(source, "split", None) or ""): source}
    columns: dict[str, list[Any]] = {}
    n = 0
    for split, part in parts.items():
        if not hasattr(part, "column_names") or not hasattr(part, "__len__"):
            fix = "load it without streaming, or list its rows in a table"
            raise OptionError("data set", "is streamed, and its rows cannot be counted", fix)
        own = {name: list(_values(part, name, files)) for name in part.column_names}
        if "id" not in own and {type(f).__name__ for f in part.features.values()} & MEDIA:
            own["id"] = [f"{split}/{row}" if several else str(row) for row in range(len(part))]
        if "split" not in own and (several or split_of(split)):
            own["split"] = [split] * len(part)
        for name in [*columns, *(name for name in own if name not in columns)]:
            columns.setdefault(name, [None] * n).extend(own.get(name, [None] * len(part)))
        n += len(part)
    return _table("data set", columns, first=0)


def _values(part: Any, name: str, files: str | Path | None) -> Iterator[Any]:
    """The values of a column: class numbers by name, pictures and sounds as paths of files."""
    feature = part.features[name]
    kind = type(feature).__name__
    if kind == "ClassLabel":
        yield from (None if v is None or v < 0 else feature.names[v] for v in part[name])
    elif kind in MEDIA:
        plain = part.cast_column(name, type(feature)(decode=False))
        yield from (_file(value, f"data set, column {name}", files) for value in plain[name])
    else:
        yield from part.with_format(None)[name]


def _file(value: Mapping[str, Any] | None, where: str, files: str | Path | None) -> str:
    """The path of a picture or sound, written to ``files`` under its own digest if it lies in the
    data set alone."""
    if value is None:
        return ""
    data, path = value.get("bytes"), str(value.get("path") or "")
    if data is None or (os.path.isabs(path) and os.path.isfile(path)):
        return path
    if files is None:
        raise ManifestError(
            where,
            "its pictures or sounds lie inside it and in no files",
            "say in Python where to write them: Manifest.read(dataset, files='pictures')",
        )
    folder = Path(files).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / (hashlib.sha256(data).hexdigest()[:32] + os.path.splitext(path)[1].lower())
    if not place.is_file() or place.stat().st_size != len(data):
        place.write_bytes(data)
    return str(place)
