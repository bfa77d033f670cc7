"""``store export``: rows and vectors as npz, CSV, Parquet or plain HDF5, for other tools and for
``store import``, which brings all of it back."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headstock.store.disk import commit
from headstock.store.disk.compact import reserve
from headstock.store.disk.declared import OK
from headstock.store.disk.layout import reserved, text_bytes
from headstock.store.disk.outputs import refuse_other
from headstock.store.disk.pages import PAGE, Pages
from headstock.store.disk.rows import columns_of, dataset
from headstock.store.errors import OptionError, StorageError
from headstock.store.exchange.description import (
    KEY,
    DescribedSet,
    Description,
    beside,
    hex_of,
    seal,
)
from headstock.store.exchange.views import feature_columns
from headstock.store.manifest.table import CsvWriter
from headstock.store.opening import open_store
from headstock.store.progress import Report, unheard
from headstock.store.reader import StoreReader

__all__ = ["Exported", "export"]

ROWS = 1024  # rows in memory at once
TAKEN = {"id", "ids", "label", "split", "group", "features", KEY}


@dataclass(frozen=True)
class Exported:
    """``rows`` written; ``left_out``: rows without a vector in one of the sets."""

    path: Path
    rows: int
    left_out: int
    sets: tuple[str, ...]

    def text(self) -> str:
        left = f", {self.left_out} left out for want of a vector (--all-rows keeps them)"
        line = f"{self.path}: {self.rows} rows of {', '.join(self.sets)}"
        return line + left if self.left_out else line


def export(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    sets: Sequence[str] | None = None,
    all_rows: bool = False,
    spreadsheet: bool = False,
    progress: Report = unheard,
) -> Exported:
    """Write the rows that are complete in ``sets`` (default all) to ``output``, by its suffix; with
    ``all_rows`` those that lack a vector too, with NaN (in a table: nothing) in its place.

    ``.npz``: ``ids``, ``label``, ``split``, ``group`` (text, no pickle) and an (m, d) array for
    each set. ``.csv`` and ``.parquet`` (needs pyarrow): a row a line, a column ``<set>_<k>`` or
    the feature's own name. ``.h5``: ``ids`` and ``features`` (m, d); with several sets a dataset
    for each below ``features``. Beside them ``path/<modality>``, ``extra/<column>``, the digest of
    each row's content, ``sha256/<set>``, and a description (see there), by which ``store import``
    brings all of it back. ``spreadsheet`` as in ``CsvWriter``, for ``.csv``.

    The file appears whole or not at all. Memory: the rows' text and 1024 vectors. Raises
    OptionError, MissingSet, StoreDamaged, StorageError.
    """
    target = Path(output)
    writers = {".npz": _npz, ".csv": _csv, ".parquet": _parquet, ".h5": _h5, ".hdf5": _h5}
    if target.suffix not in writers:
        raise OptionError(target, "is no format to export to", f"end it in {', '.join(writers)}")
    with open_store(path) as store:
        names = tuple(sets or store.sets)
        if not names:
            raise OptionError(path, "has no feature set to export", "run `headstock extract` first")
        if target.exists() and os.path.samefile(target, store.path):
            raise OptionError(target, "is the store itself", "name another file")
        refuse_other(target, "export")
        if target.suffix == ".csv":
            refuse_other(beside(target), "description")
        rows = np.arange(store.n) if all_rows else np.flatnonzero(store.complete(names))
        _room(target, len(rows) * sum(store.declared(name).dim for name in names) * 4)
        given = _Given(store, names, rows, progress, spreadsheet)
        with commit.written(target) as temp:
            writers[target.suffix](given, temp)
            if target.suffix == ".csv":
                beside(target).unlink(missing_ok=True)
        if target.suffix == ".csv":
            about = {"@context": "http://www.w3.org/ns/csvw", "url": target.name}
            body = {**about, KEY: given.description().to_json()}
            commit.write_whole(beside(target), json.dumps(body, indent=1).encode())
        return Exported(target, len(rows), store.n - len(rows), names)


def _room(target: Path, need: int) -> None:
    """A disk that is too full is known before we begin."""
    disk = os.statvfs(next(place for place in target.absolute().parents if place.is_dir()))
    if disk.f_bavail * disk.f_frsize < need:
        raise StorageError(target, f"needs {need:,} bytes, the disk has fewer", "free some space")


class _Given:
    """What is to be written, and the digests of what was handed out."""

    def __init__(
        self,
        store: StoreReader,
        names: tuple[str, ...],
        rows: np.ndarray,
        report: Report,
        spreadsheet: bool,
    ) -> None:
        self.store, self.names, self.rows = store, names, rows
        self.report, self.spreadsheet = report, spreadsheet
        items = store.items.take(rows)
        self.root = items.root
        self.texts = {"id": items.id, **columns_of(items)}
        self._seals = {name: seal(items.id.tolist()) for name in names}

    def digests(self, name: str) -> np.ndarray:
        """(m, 32) uint8, zeros for a row without a vector."""
        column = self.store.feature_set(name)
        there = column.status[self.rows] == OK
        return np.where(there[:, None], column.digest[self.rows], np.uint8(0))

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """(b, d) float32 of the set, NaN in rows without a vector."""
        for start in range(0, len(self.rows), ROWS):
            self.report(start, len(self.rows), name)
            yield self._vectors(name, self.rows[start : start + ROWS])

    def _vectors(self, name: str, rows: np.ndarray) -> np.ndarray:
        column = self.store.feature_set(name)
        there = column.status[rows] == OK
        if there.all():
            x = np.ascontiguousarray(column.x(rows), dtype="<f4")
        else:
            x = np.full((len(rows), column.dim), np.nan, dtype="<f4")
            x[there] = column.x(rows[there])
        self._seals[name].update(_raw(x))
        return x

    @cached_property
    def columns(self) -> list[list[str]]:
        """Names of each set's columns in a table."""
        taken = {*self.texts, *(f"sha256/{name}" for name in self.names)}
        flat = iter(feature_columns(self.store, self.names, taken))
        return [[next(flat) for _ in range(self.store.declared(n).dim)] for n in self.names]

    def table(self) -> Iterator[tuple[list[list[str]], np.ndarray]]:
        """(columns of text, (b, sum of d) float32) of each block of rows."""
        shas = {name: self.digests(name) for name in self.names}
        for start in range(0, len(self.rows), ROWS):
            self.report(start, len(self.rows), "rows")
            part = slice(start, start + ROWS)
            texts = [cells[part].tolist() for cells in self.texts.values()]
            texts += [hex_of(sha[part]) for sha in shas.values()]
            yield texts, np.hstack([self._vectors(name, self.rows[part]) for name in self.names])

    def header(self) -> list[str]:
        """Names of all columns of a table: of text, of digests, of numbers."""
        numbers = [name for names in self.columns for name in names]
        return [*self.texts, *(f"sha256/{name}" for name in self.names), *numbers]

    def description(self) -> Description:
        """Complete once all vectors have been handed out."""
        sets = tuple(
            DescribedSet(self.store.declared(n), self._seals[n].hexdigest(), tuple(columns))
            for n, columns in zip(self.names, self.columns, strict=True)
        )
        return Description(len(self.rows), tuple(self.texts), self.root, sets)

    def arrays(self) -> dict[str, np.ndarray]:
        """Text columns and digests by the name they have in a file of arrays."""
        named = {"ids": self.texts["id"]}
        named |= {array_name(c): cells for c, cells in self.texts.items() if c != "id"}
        return named | {f"sha256/{name}": self.digests(name) for name in self.names}


def _raw(x: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, in place: a copy would be as large as a block again."""
    return x.reshape(-1).view(np.uint8).data


def array_name(column: str) -> str:
    """A text column's name in a file of arrays: an extra column's may hold what HDF5 cannot."""
    return "ids" if column == "id" else dataset(column).removeprefix("/items/")


def set_name(name: str, several: bool, suffix: str) -> str:
    """What a set's vectors are called in a file of arrays."""
    if suffix == ".npz":
        return f"set/{name}" if name in TAKEN else name
    return f"features/{name}" if several else "features"


def _npz(given: _Given, temp: Path) -> None:
    with zipfile.ZipFile(temp, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def write(key: str, array: np.ndarray) -> None:
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)

        for key, cells in given.arrays().items():
            write(key, cells.astype(str) if cells.dtype == object else cells)
        for name in given.names:
            shape = (len(given.rows), given.store.declared(name).dim)
            form = {"descr": "<f4", "fortran_order": False, "shape": shape}
            key = set_name(name, len(given.names) > 1, ".npz")
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_2_0(file, form)
                for block in given.blocks(name):
                    file.write(_raw(block))
        write(KEY, np.array(json.dumps(given.description().to_json())))


def _h5(given: _Given, temp: Path) -> None:
    """HDF5 builds its metadata in memory, and plain writes, whose errors we see, do the rest: on a
    disk that is full, HDF5's own end the process."""
    arrays = {
        key: text_bytes(cells.tolist()) if cells.dtype == object else cells
        for key, cells in given.arrays().items()
    }
    about = json.dumps(given.description().to_json()).encode()  # as long as it will be
    arrays[KEY] = np.frombuffer(about, dtype=np.uint8)
    sets = {name: set_name(name, len(given.names) > 1, ".h5") for name in given.names}
    pages, places = Pages(), {}
    with h5py.File(pages, "w") as file:

        def place(where: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
            group, _, last = where.rpartition("/")
            parent = file.require_group(group) if group else file
            places[where] = reserved(parent, last, dtype, shape)

        for key, cells in arrays.items():
            place(key, cells.dtype, cells.shape)
        for name, where in sets.items():
            declared = given.store.declared(name)
            place(where, np.dtype("<f4"), (len(given.rows), declared.dim))
            file[where].attrs["recipe"] = declared.recipe.to_json()
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        reserve(fd, pages.size)
        for page in sorted(pages.pages):
            end = min((page + 1) * PAGE, pages.size)
            commit.write_all(fd, pages.span(page * PAGE, end), page * PAGE)
        for name, where in sets.items():
            at = places[where]
            for block in given.blocks(name):
                commit.write_all(fd, _raw(block), at)
                at += block.nbytes
        about = json.dumps(given.description().to_json()).encode()  # with the digests of all rows
        arrays[KEY] = np.frombuffer(about, dtype=np.uint8)
        for key, cells in arrays.items():
            commit.write_all(fd, np.ascontiguousarray(cells).tobytes(), places[key])
    finally:
        os.close(fd)


def _csv(given: _Given, temp: Path) -> None:
    with open(temp, "x", newline="", encoding="utf-8", errors="surrogateescape") as file:
        out = CsvWriter(file, given.spreadsheet)
        out.row(given.header())
        for texts, x in given.table():
            # nine digits bring every float32 back exactly
            numbers = (["" if v != v else f"{v:.9g}" for v in row] for row in x.tolist())
            out.rows([*text, *row] for text, row in zip(zip(*texts), numbers, strict=True))


def _parquet(given: _Given, temp: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OptionError("--format parquet", "needs pyarrow", "pip install pyarrow") from error
    numbers = sum(map(len, given.columns))
    header = given.header()
    kinds = [pa.string()] * (len(header) - numbers) + [pa.float32()] * numbers
    form = pa.schema(list(zip(header, kinds, strict=True)))
    out: Any = pq.ParquetWriter(temp, form)
    with out:
        for texts, x in given.table():
            arrays = [pa.array(cells, pa.string()) for cells in texts]
            columns = (np.ascontiguousarray(x[:, k]) for k in range(x.shape[1]))
            arrays += [pa.array(column, from_pandas=True) for column in columns]
            out.write_table(pa.Table.from_arrays(arrays, schema=form))
        out.add_key_value_metadata({KEY: json.dumps(given.description().to_json())})
