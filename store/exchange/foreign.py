"""Layouts of features that other tools write, read without trusting them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from headstock.store.errors import (
    HeadstockError,
    OptionError,
    StorageError,
    StoreDamaged,
    UnsafeInput,
)
from headstock.store.exchange.exported import h5_rows, open_exported, rows_of
from headstock.store.exchange.plain_h5 import plain_dataset, plain_texts, texts_of
from headstock.store.exchange.source import (
    IDS,
    LABELS,
    VECTORS,
    Source,
    Vectors,
    first_of,
    width_of,
)
from headstock.store.exchange.unpacked import Archive, mapped, parquet_columns
from headstock.store.items import Items, text_column
from headstock.store.manifest.columns import cells_of, taken_columns
from headstock.store.manifest.table import read_table
from headstock.store.textfile import lines_of, read_text, refuse_odd

__all__ = ["Source", "open_source"]

POOLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda bag: bag.mean(axis=0),
    "max": lambda bag: bag.max(axis=0),
}


def open_source(path: Path, pool: str | None = None) -> Source:
    """The rows in ``path``, an export of ours or of another tool. Raises OptionError when the
    layout is none we know, UnsafeInput for pickles and links, StoreDamaged for a file that is not
    whole, StorageError when it cannot be read."""
    if pool is not None and pool not in POOLS:
        raise OptionError("--pool", f"{pool} is no pooling", f"use {' or '.join(POOLS)}")
    refuse_odd(path, "give a file or a folder")
    readers = {".npz": _npz, ".csv": _csv, ".h5": _h5, ".hdf5": _h5, ".parquet": _parquet}
    try:
        if path.is_dir():
            return _folder(path, pool)
        if path.suffix in readers:
            with open(path, "rb"):  # what the disk refuses is told apart from a broken file
                pass
            return open_exported(path) or readers[path.suffix](path)
    except ValueError as error:
        if "pickle" in str(error):
            raise UnsafeInput(path, "holds pickled objects", "save plain arrays") from error
        if path.suffix == ".parquet":  # pyarrow's error for a broken file is a ValueError
            raise _refused_or_damaged(path, error) from error
        raise OptionError(path, f"does not read ({error})") from error
    except (OSError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise _refused_or_damaged(path, error) from error
    raise OptionError(
        path,
        "is no layout that can be imported",
        "give .npz, .csv, .h5, .parquet of ours, or a folder of features",
    )


def _refused_or_damaged(path: Path, error: Exception) -> HeadstockError:
    """What the system refused has a number; what a library could not read has none."""
    if isinstance(error, OSError) and error.errno:
        return StorageError(path, error.strerror or error, "check the path and its rights")
    return StoreDamaged(path, f"is cut short or damaged ({error})", "copy or make it again")


def _items(path: Path, ids: Sequence[str], texts: Mapping[str, Sequence[str]]) -> Items:
    """Rows with what the file says of them: label (by any of its names), split and group."""
    for name, cells in texts.items():
        if len(cells) != len(ids):
            raise OptionError(path, f"{len(cells)} of {name} for {len(ids)} ids")
    label = next((texts[k] for k in LABELS if k in texts), None)
    return Items.of(list(ids), label=label, split=texts.get("split"), group=texts.get("group"))


def _candidates(
    path: Path, shapes: Mapping[str, tuple[tuple[int, ...], np.dtype]], n: int
) -> tuple[list[str], list[str]]:
    """Names of the arrays that are a set, (n, d) of numbers each, and a note about the others.

    Raises OptionError when one that is called ``features`` or the like is not, or none is.
    """
    known = {*IDS, *LABELS, "split", "group"}
    found, others = [], []
    for name, (shape, dtype) in shapes.items():
        if len(shape) == 2 and shape[0] == n and dtype.kind in "fiu":
            found.append(name)
        elif name in VECTORS or (name not in known and len(shapes) == 1):
            width_of(path, shape, dtype, n)
        elif name not in known:
            others.append(f"{name} {shape}")
    if not found:
        first_of(VECTORS, list(shapes), path, "vectors")
    return found, [f"not taken: {', '.join(others)}"] if others else []


def _one(path: Path, layout: str, ids: list[str], x: np.ndarray) -> Source:
    width = width_of(path, x.shape, x.dtype, len(ids))
    return Source(path, layout, Items.of(ids), [Vectors("", width, rows_of(x))])


def _parquet(path: Path) -> Source:
    fix = "give .npz, .csv, .h5, or a folder of features"
    raise OptionError(path, "is no Parquet file that `headstock store export` wrote", fix)


def _npz(path: Path) -> Source:
    with Archive(path) as file:
        ids = texts_of(file.read(first_of(IDS, file.names, path, "ids")))
        texts = {k: texts_of(file.read(k)) for k in (*LABELS, "split", "group") if k in file}
        arrays = {k: file.read(k) for k in file.names if k not in {*IDS, *LABELS, "split", "group"}}
    shapes = {name: (x.shape, x.dtype) for name, x in arrays.items()}
    names, notes = _candidates(path, shapes, len(ids))
    sets = [Vectors(name, arrays[name].shape[1], rows_of(arrays[name])) for name in names]
    return Source(path, "npz", _items(path, ids, texts), sets, notes=notes)


def _csv(path: Path) -> Source:
    """A table: columns of numbers are features, columns of other text come as text."""
    table = read_table(path)
    at = table.index(first_of((*IDS, table.header[0]), table.header, path, "ids"))
    ids = [row[at] for row in table.rows]
    called = {name.casefold(): k for k, name in reversed([*enumerate(table.header)]) if k != at}
    where = {name: called[name] for name in (*LABELS, "split", "group") if name in called}
    label = next((name for name in LABELS if name in where), None)
    ours = [k for k, name in enumerate(table.header) if name.startswith(("path/", "sha256/"))]
    used = {at, *(where[n] for n in (label, "split", "group") if n in where)}
    claimed = {table.header[k] for k in used.union(ours)}
    names, _, notes = taken_columns(table, ["*"], claimed)
    texts = {name: [row[k] for row in table.rows] for name, k in where.items()}
    taken = set(names)
    for k, name in enumerate(table.header):
        if k not in used and name not in taken and not name.startswith("sha256/"):
            kept = name if name.startswith(("path/", "extra/")) else f"extra/{name}"
            texts[kept] = [row[k] for row in table.rows]
    numbers = {name: cells_of(table, name).astype(np.float32) for name in names}
    sets = []
    for name, columns in _runs(table.header, names).items():
        x = np.stack([numbers[column] for column in columns], axis=1)
        sets.append(Vectors(name, len(columns), rows_of(x), columns))
    items = _items(path, ids, texts)
    paths, extra = (
        {n.removeprefix(kind): text_column(cells) for n, cells in texts.items() if kind in n[:6]}
        for kind in ("path/", "extra/")
    )
    return Source(path, "CSV", replace(items, paths=paths, extra=extra), sets, notes=notes)


def _runs(header: Sequence[str], columns: list[str]) -> dict[str, list[str]]:
    """The sets of a table: several where it is an export of ours, whose columns are ``image_0``,
    ``image_1``, …, ``audio_0``, …; else all columns are one."""
    runs: dict[str, list[str]] = {}
    for column in columns:
        name, _, number = column.rpartition("_")
        if number != str(len(runs.setdefault(name, []))):
            return {"": columns}
        runs[name].append(column)
    return runs if header[:4] == ["id", "label", "split", "group"] else {"": columns}


def _h5(path: Path) -> Source:
    with open(path, "rb") as raw, h5py.File(raw, "r") as file:
        ids = plain_texts(file, first_of(IDS, list(file), path, "ids"), path)
        named = [k for k in (*LABELS, "split", "group") if k in file]
        texts = {k: plain_texts(file, k, path) for k in named}
        keys = [k for k in file if k not in {*IDS, *named}]
        if isinstance(file.get("features", getlink=True), h5py.HardLink):
            below = file["features"]
            if isinstance(below, h5py.Group):  # one dataset a set
                keys = [k for k in keys if k != "features"]
                keys += [f"features/{name}" for name in below]
        found = {key: plain_dataset(file, key, path) for key in keys}
        shapes = {key: (data.shape, data.dtype) for key, data in found.items()}
        names, notes = _candidates(path, shapes, len(ids))
        sets = [
            Vectors(key.rpartition("/")[2], shapes[key][0][1], h5_rows(path, key)) for key in names
        ]
    return Source(path, "HDF5", _items(path, ids, texts), sets, notes=notes)


def _folder(path: Path, pool: str | None) -> Source:
    bags = sorted(path.glob("*.h5")) + sorted(path.glob("*.hdf5"))
    if bags:
        return _bags(path, bags, pool)
    if metadata := sorted(path.glob("metadata/*.parquet")):
        return _clip(path, metadata)
    names = [f for f in (path / "file_names.txt", path / "filenames.txt") if f.is_file()]
    arrays = sorted(path.glob("*.npy"))
    if not names or len(arrays) != 1:
        raise OptionError(
            path, "is no folder of features", "per-item .h5, or one .npy with file_names.txt"
        )
    listed = lines_of(read_text(names[0], "give the names, one a line"))
    ids = [name for line in listed if (name := line.rstrip("\r\n"))]
    x = mapped(arrays[0])
    return _one(path, "thingsvision npy", ids, x)


def _bags(path: Path, files: list[Path], pool: str | None) -> Source:
    """One HDF5 file an item: a vector, or a bag of vectors (patches of a slide) to be pooled. A
    file that does not read costs its own item."""
    first, dim, broken = None, 0, []
    for file in files:
        try:
            bag = _bag(file)
        except (OptionError, StoreDamaged) as error:
            broken.append(error)
            continue
        if len(bag) > 1 and pool is None:
            what = f"holds {len(bag)} vectors for one item"
            raise OptionError(file, what, "say how with --pool mean or max")
        first, dim = file, bag.shape[1]
        break
    if first is None:
        raise broken[0]
    failures: dict[int, tuple[str, str]] = {}

    def read(rows: Sequence[int]) -> np.ndarray:
        out = np.full((len(rows), dim), np.nan, dtype=np.float32)
        for at, row in enumerate(rows):
            try:
                bag = _bag(files[row])
                if bag.shape[1] != dim or not len(bag) or (len(bag) > 1 and pool is None):
                    raise OptionError(files[row], f"{bag.shape} vectors, unlike {first.name}")
            except StoreDamaged as error:
                failures[row] = "damaged", str(error)
            except OptionError as error:
                failures[row] = "layout", str(error)
            else:
                out[at] = bag[0] if len(bag) == 1 else POOLS[str(pool)](bag)
        return out

    ids = [file.stem for file in files]
    vectors = Vectors("", dim, read, failures=failures)
    return Source(path, "per-item HDF5", Items.of(ids), [vectors], pool)


def _bag(path: Path) -> np.ndarray:
    """(m, d) vectors of one item. Raises OptionError, StoreDamaged, StorageError, UnsafeInput."""
    try:
        with open(path, "rb") as raw, h5py.File(raw, "r") as file:
            x = plain_dataset(file, first_of(VECTORS, list(file), path, "vectors"), path)[...]
    except (OSError, KeyError, RuntimeError) as error:
        raise _refused_or_damaged(path, error) from error
    if x.ndim not in (1, 2, 3) or x.dtype.kind not in "fiu" or (x.ndim == 3 and len(x) != 1):
        raise OptionError(path, f"{x.shape} {x.dtype} is no bag of vectors")
    return x.reshape(-1, x.shape[-1])


def _clip(path: Path, metadata: list[Path]) -> Source:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise OptionError(path, "has Parquet metadata", "pip install pyarrow") from error
    ids: list[str] = []
    for file in sorted(metadata, key=lambda f: (len(f.name), f.name)):
        name = first_of(IDS, pq.read_schema(file).names, file, "ids")
        with pq.ParquetFile(file, read_dictionary=[name]) as table:
            (cells,) = parquet_columns(table, [name], file)
        ids += texts_of(np.array(cells))
    arrays = [
        mapped(file)
        for file in sorted(path.glob("img_emb/*.npy"), key=lambda f: (len(f.name), f.name))
    ]
    if not arrays or any(a.ndim != 2 or a.shape[1] != arrays[0].shape[1] for a in arrays):
        raise OptionError(path, "has no img_emb/*.npy of one width", "give clip-retrieval's output")
    ends = np.cumsum([len(a) for a in arrays])
    if ends[-1] != len(ids):
        raise OptionError(path, f"{ends[-1]} vectors for {len(ids)} rows of metadata")

    def read(rows: Sequence[int]) -> np.ndarray:
        out = np.empty((len(rows), arrays[0].shape[1]), dtype=np.float32)
        for at, row in enumerate(rows):
            part = int(np.searchsorted(ends, row, side="right"))
            out[at] = arrays[part][row - (int(ends[part - 1]) if part else 0)]
        return out

    return Source(path, "clip-retrieval", Items.of(ids), [Vectors("", arrays[0].shape[1], read)])
