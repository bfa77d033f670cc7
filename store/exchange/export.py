"""``store export``: rows and vectors as npz, CSV, Parquet or plain HDF5, for other tools."""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headstock.store.disk import commit
from headstock.store.disk.compact import reserve
from headstock.store.disk.layout import reserved, text_bytes
from headstock.store.disk.pages import PAGE, Pages
from headstock.store.errors import OptionError, StorageError
from headstock.store.exchange.views import feature_columns
from headstock.store.features import FeatureStore
from headstock.store.manifest.table import safe_cell
from headstock.store.progress import Report, unheard

__all__ = ["Exported", "export"]

BLOCK = 1024  # rows in memory at once


@dataclass(frozen=True)
class Exported:
    """``rows`` written; ``left_out``: rows without a vector in one of the sets."""

    path: Path
    rows: int
    left_out: int
    sets: tuple[str, ...]

    def text(self) -> str:
        left = f", {self.left_out} left out for want of a vector" if self.left_out else ""
        return f"{self.path}: {self.rows} rows of {', '.join(self.sets)}{left}"


def export(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    sets: Sequence[str] | None = None,
    progress: Report = unheard,
) -> Exported:
    """Write the rows that are complete in ``sets`` (default all) to ``output``, by its suffix.

    ``.npz``: ``ids``, ``label``, ``split``, ``group`` (text, no pickle) and an (m, d) array for
    each set. ``.csv`` and ``.parquet`` (needs pyarrow): a row a line, a column ``<set>_<k>`` or
    the feature's own name. ``.h5``: ``ids`` and ``features`` (m, d); with several sets a dataset
    for each below ``features``. The file appears whole or not at all. Memory: the rows' text and
    1024 vectors. Raises OptionError, MissingSet, StoreDamaged, StorageError.
    """
    target = Path(output)
    writers = {".npz": _npz, ".csv": _csv, ".parquet": _parquet, ".h5": _h5, ".hdf5": _h5}
    if target.suffix not in writers:
        raise OptionError(target, "is no format to export to", f"end it in {', '.join(writers)}")
    with FeatureStore.open(path) as store:
        names = tuple(sets or store.sets)
        if not names:
            raise OptionError(path, "has no feature set to export", "run `headstock extract` first")
        if target.exists() and os.path.samefile(target, store.path):
            raise OptionError(target, "is the store itself", "name another file")
        rows = np.flatnonzero(store.complete(names))
        _room(target, len(rows) * sum(store.declared(name).dim for name in names) * 4)
        with commit.written(target) as temp:
            writers[target.suffix](store, names, rows, temp, progress)
        return Exported(target, len(rows), store.n - len(rows), names)


def _room(target: Path, need: int) -> None:
    """A disk that is too full is known before we begin."""
    try:
        disk = os.statvfs(target.absolute().parent)
    except FileNotFoundError as error:
        raise OptionError(target.parent, "is no folder", "make it first") from error
    if disk.f_bavail * disk.f_frsize < need:
        raise StorageError(target, f"needs {need:,} bytes, the disk has fewer", "free some space")


def _blocks(
    store: FeatureStore, name: str, rows: np.ndarray, progress: Report
) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        progress(start, len(rows), name)
        yield store.feature_set(name).x(rows[start : start + BLOCK])


def _texts(store: FeatureStore, rows: np.ndarray) -> dict[str, np.ndarray]:
    items = store.items.take(rows)
    return {"ids": items.id, "label": items.label, "split": items.split, "group": items.group}


def _npz(
    store: FeatureStore, names: Sequence[str], rows: np.ndarray, temp: Path, progress: Report
) -> None:
    with zipfile.ZipFile(temp, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for key, cells in _texts(store, rows).items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, cells.astype(str), allow_pickle=False)
        for name in names:
            form = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (len(rows), store.declared(name).dim),
            }
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, form)
                for block in _blocks(store, name, rows, progress):
                    file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())


def _h5(
    store: FeatureStore, names: Sequence[str], rows: np.ndarray, temp: Path, progress: Report
) -> None:
    """HDF5 builds its metadata in memory, and plain writes, whose errors we see, do the rest: on a
    disk that is full, HDF5's own end the process."""
    arrays = {key: text_bytes(text.tolist()) for key, text in _texts(store, rows).items()}
    pages, places = Pages(), {}
    with h5py.File(pages, "w") as file:
        for key, cells in arrays.items():
            places[key] = reserved(file, key, cells.dtype, cells.shape)
        for name in names:
            where = "features" if len(names) == 1 else f"features/{name}"
            group, _, last = where.rpartition("/")
            parent = file.require_group(group) if group else file
            shape = (len(rows), store.declared(name).dim)
            places[name] = reserved(parent, last, np.dtype("<f4"), shape)
            file[where].attrs["recipe"] = store.declared(name).recipe.to_json()
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        reserve(fd, pages.size)
        for page in sorted(pages.pages):
            end = min((page + 1) * PAGE, pages.size)
            commit.write_all(fd, pages.span(page * PAGE, end), page * PAGE)
        for key, cells in arrays.items():
            commit.write_all(fd, cells.tobytes(), places[key])
        for name in names:
            at = places[name]
            for block in _blocks(store, name, rows, progress):
                raw = np.ascontiguousarray(block, dtype="<f4").tobytes()
                commit.write_all(fd, raw, at)
                at += len(raw)
    finally:
        os.close(fd)


def _table(
    store: FeatureStore, names: Sequence[str], rows: np.ndarray, progress: Report
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """(text columns, (b, sum of d) float32) of each block of rows."""
    for start in range(0, len(rows), BLOCK):
        progress(start, len(rows), "rows")
        block = rows[start : start + BLOCK]
        texts = _texts(store, block)
        yield {"id": texts.pop("ids"), **texts}, store.matrix(names, block)[0]


def _csv(
    store: FeatureStore, names: Sequence[str], rows: np.ndarray, temp: Path, progress: Report
) -> None:
    with open(temp, "x", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        features = [safe_cell(c) for c in feature_columns(store, names)]
        out.writerow(["id", "label", "split", "group", *features])
        for texts, x in _table(store, names, rows, progress):
            cells = zip(
                *(map(safe_cell, column.tolist()) for column in texts.values()), strict=True
            )
            # nine digits bring every float32 back exactly
            numbers = ([f"{v:.9g}" for v in row] for row in x.tolist())
            out.writerows([*text, *row] for text, row in zip(cells, numbers, strict=True))


def _parquet(
    store: FeatureStore, names: Sequence[str], rows: np.ndarray, temp: Path, progress: Report
) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OptionError("--format parquet", "needs pyarrow", "pip install pyarrow") from error
    columns = feature_columns(store, names)
    fields = [(key, pa.string()) for key in ("id", "label", "split", "group")]
    form = pa.schema([*fields, *((column, pa.float32()) for column in columns)])
    out: Any = pq.ParquetWriter(temp, form)
    with out:
        for texts, x in _table(store, names, rows, progress):
            arrays = [pa.array(column.tolist(), pa.string()) for column in texts.values()]
            arrays += [pa.array(np.ascontiguousarray(x[:, k])) for k in range(x.shape[1])]
            out.write_table(pa.Table.from_arrays(arrays, schema=form))
