"""What ``store export`` wrote, read back by its description."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headstock.store.errors import OptionError, StoreDamaged
from headstock.store.exchange.description import (
    AGAIN,
    KEY,
    DescribedSet,
    Description,
    beside,
    digests_of,
)
from headstock.store.exchange.export import array_name, set_name
from headstock.store.exchange.plain_h5 import plain_dataset, plain_texts
from headstock.store.exchange.source import Source, Vectors, width_of
from headstock.store.exchange.unpacked import Archive, parquet_columns
from headstock.store.items import Items
from headstock.store.textfile import read_text

__all__ = ["open_exported"]

Texts = Mapping[str, Sequence[str]]


def open_exported(path: Path) -> Source | None:
    """The rows of an export of ours, or None when ``path`` is none.

    Raises StoreDamaged when it does not agree with its description, and what reading raises.
    """
    readers: dict[str, Callable[[Path], Source | None]] = {
        ".npz": _npz,
        ".h5": _h5,
        ".hdf5": _h5,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    return readers[path.suffix](path) if path.suffix in readers else None


def _source(
    path: Path, about: Description, layout: str, texts: Texts, sets: list[Vectors]
) -> Source:
    for name, cells in texts.items():
        if len(cells) != about.rows:
            what = f"{len(cells)} of {name} for {about.rows} rows"
            raise StoreDamaged(path, what, AGAIN)
    named: dict[str, dict[str, Sequence[str]]] = {"path": {}, "extra": {}}
    plain: dict[str, Sequence[str]] = {}
    for name in about.texts:
        kind, slash, rest = name.partition("/")
        if slash and kind in named:
            named[kind][rest] = texts[name]
        elif name in ("id", "label", "split", "group"):
            plain[name] = texts[name]
        else:
            raise StoreDamaged(path, f"its description names a column {name!r}", AGAIN)
    items = Items.of(
        plain.pop("id"), paths=named["path"], extra=named["extra"], root=about.root, **plain
    )
    return Source(path, layout, items, sets)


def _vectors(
    path: Path,
    one: DescribedSet,
    n: int,
    shape: Sequence[int],
    digest: np.ndarray,
    read: Callable[[Sequence[int]], np.ndarray],
) -> Vectors:
    made = one.declared
    if width_of(path, shape, np.dtype("f4"), n) != made.dim or digest.shape != (n, 32):
        raise StoreDamaged(path, f"set {made.name} has another shape than it says", AGAIN)
    names = None if made.feature_names is None else list(made.feature_names)
    return Vectors(made.name, made.dim, read, names, made, one.sha256, digest)


def _npz(path: Path) -> Source | None:
    with zipfile.ZipFile(path) as archive:
        packed = any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist())
        if packed or f"{KEY}.npy" not in archive.namelist():
            return None  # ours are never packed: what they unpack to is what they weigh
    with Archive(path) as file:
        about = Description.from_text(str(file.read(KEY)), path)
        texts = {name: file.read(array_name(name)).tolist() for name in about.texts}
        sets = []
        for one in about.sets:
            key = set_name(one.declared.name, len(about.sets) > 1, ".npz")
            x, digest = file.read(key), file.read(f"sha256/{one.declared.name}")
            sets.append(_vectors(path, one, about.rows, x.shape, digest, rows_of(x)))
    return _source(path, about, "npz", texts, sets)


def rows_of(x: np.ndarray) -> Callable[[Sequence[int]], np.ndarray]:
    return lambda rows: x[list(rows)].astype(np.float32)


def _h5(path: Path) -> Source | None:
    with open(path, "rb") as raw, h5py.File(raw, "r") as file:
        if KEY not in file:
            return None
        about = Description.from_text(plain_dataset(file, KEY, path)[...].tobytes(), path)
        texts = {n: plain_texts(file, array_name(n), path) for n in about.texts}
        sets = []
        for one in about.sets:
            name = one.declared.name
            key = set_name(name, len(about.sets) > 1, ".h5")
            shape = plain_dataset(file, key, path).shape
            digest = plain_dataset(file, f"sha256/{name}", path)[...]
            sets.append(_vectors(path, one, about.rows, shape, digest, h5_rows(path, key)))
    return _source(path, about, "HDF5", texts, sets)


def h5_rows(path: Path, key: str) -> Callable[[Sequence[int]], np.ndarray]:
    """Reads rows of a dataset, which are asked for in ascending order, a block at a time."""

    def read(rows: Sequence[int]) -> np.ndarray:
        with open(path, "rb") as raw, h5py.File(raw, "r") as file:
            block = plain_dataset(file, key, path)[rows[0] : rows[-1] + 1]
        return block[np.asarray(rows) - rows[0]].astype(np.float32)

    return read


def _csv(path: Path) -> Source | None:
    if not beside(path).is_file():
        return None
    about = Description.from_text(read_text(beside(path), AGAIN), beside(path))
    text = io.StringIO(read_text(path, "give a readable CSV file"), newline="")
    header, *rows = csv.reader(text, strict=True)
    wanted = _columns(about)
    if header != wanted:
        fix = "delete the description, or export the file again"
        raise OptionError(path, f"its columns are not those of {beside(path).name}", fix)
    if {len(row) for row in rows} - {len(header)} or len(rows) != about.rows:
        raise StoreDamaged(path, f"{len(rows)} rows of {about.rows}, or a broken one", AGAIN)
    return _table(path, about, "CSV", list(zip(*rows, strict=True)) or [()] * len(header))


def _columns(about: Description) -> list[str]:
    """The header of a table: text, digests, numbers."""
    digests = [f"sha256/{one.declared.name}" for one in about.sets]
    return [*about.texts, *digests, *(name for one in about.sets for name in one.columns)]


def _table(path: Path, about: Description, layout: str, columns: Sequence[Any]) -> Source:
    """From the columns of a table: those of text are sequences of cells, those of numbers are too
    or hold numbers."""
    at = len(about.texts)
    texts = dict(zip(about.texts, map(list, columns[:at]), strict=True))
    digests = columns[at : at + len(about.sets)]
    at += len(about.sets)
    sets = []
    for one, cells in zip(about.sets, digests, strict=True):
        mine = columns[at : at + len(one.columns)]
        at += len(one.columns)
        x = np.empty((about.rows, len(mine)), dtype=np.float32)
        for k, column in enumerate(mine):
            x[:, k] = [v if v not in ("", None) else np.nan for v in column]
        digest = digests_of(list(cells), path)
        sets.append(_vectors(path, one, about.rows, x.shape, digest, rows_of(x)))
    return _source(path, about, layout, texts, sets)


def _parquet(path: Path) -> Source | None:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OptionError(path, "Parquet needs pyarrow", "pip install pyarrow") from error
    with open(path, "rb") as raw:
        file: Any = pq.ParquetFile(raw)
        texts = [f.name for f in file.schema_arrow if str(f.type) in ("string", "large_string")]
        file = pq.ParquetFile(raw, read_dictionary=texts)
        text = (file.metadata.metadata or {}).get(KEY.encode())
        if text is None:
            return None
        about = Description.from_text(text, path)
        wanted = _columns(about)
        if file.schema_arrow.names != wanted or file.metadata.num_rows != about.rows:
            raise StoreDamaged(path, "its columns are not those of its description", AGAIN)
        return _table(path, about, "Parquet", parquet_columns(file, wanted, path))
