"""Layouts of features that other tools write, read without trusting them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from headstock.store.errors import OptionError, StorageError, UnsafeInput
from headstock.store.manifest.columns import numbers_of, numeric_columns
from headstock.store.manifest.table import read_table
from headstock.store.textfile import lines_of, read_text, refuse_odd

__all__ = ["Source", "open_source"]

IDS = ("ids", "id", "names", "filenames", "file_names", "image_path", "paths")
VECTORS = ("features", "feats", "x", "embeddings", "image_embs", "embs", "data")
LABELS = ("label", "labels", "target", "class", "y")
LARGEST_ITEM = 4 << 30  # bytes of one item's bag of vectors
POOLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda bag: bag.mean(axis=0),
    "max": lambda bag: bag.max(axis=0),
}


@dataclass
class Source:
    """Rows of another tool: ``read(rows)`` gives (b, d) float32. ``notes``: what was left out."""

    path: Path
    layout: str
    ids: list[str]
    dim: int
    read: Callable[[Sequence[int]], np.ndarray]
    label: list[str] | None = None
    feature_names: list[str] | None = None
    pool: str | None = None
    notes: list[str] = field(default_factory=list)

    def labels(self) -> list[str]:
        return self.label or [""] * len(self.ids)


def open_source(path: Path, pool: str | None = None) -> Source:
    """The rows in ``path``. Raises OptionError when the layout is none we know, UnsafeInput for
    pickles and links, StorageError when it cannot be read."""
    if pool is not None and pool not in POOLS:
        raise OptionError("--pool", f"{pool} is no pooling", f"use {' or '.join(POOLS)}")
    refuse_odd(path, "give a file or a folder")
    try:
        if path.is_dir():
            return _folder(path, pool)
        readers = {".npz": _npz, ".csv": _csv, ".h5": _h5, ".hdf5": _h5}
        if path.suffix in readers:
            return readers[path.suffix](path)
    except ValueError as error:
        if "pickle" in str(error):
            raise UnsafeInput(path, "holds pickled objects", "save plain arrays") from error
        raise OptionError(path, f"does not read ({error})") from error
    except (OSError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise StorageError(path, f"cannot be read ({error})", "is it whole?") from error
    raise OptionError(
        path, "is no layout that can be imported", "give .npz, .csv, .h5, or a folder of features"
    )


def _first(names: Sequence[str], have: Sequence[str], path: Path, what: str) -> str:
    for name in names:
        if name in have:
            return name
    raise OptionError(path, f"has no {what}", f"name it {' or '.join(names[:3])}; it has: {have}")


def _texts(array: np.ndarray) -> list[str]:
    flat = np.asarray(array).reshape(-1).tolist()
    return [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in flat]


def _matrix(path: Path, x: Any, n: int) -> int:
    if len(x.shape) != 2 or x.shape[0] != n or x.dtype.kind not in "fiu":
        raise OptionError(path, f"{x.shape} {x.dtype} vectors for {n} ids", "one numeric row an id")
    return int(x.shape[1])


def _in_memory(path: Path, layout: str, ids: list[str], x: np.ndarray, **more: Any) -> Source:
    dim = _matrix(path, x, len(ids))
    return Source(path, layout, ids, dim, lambda rows: x[list(rows)].astype(np.float32), **more)


def _npz(path: Path) -> Source:
    with np.load(path, allow_pickle=False) as file:
        ids = _texts(file[_first(IDS, file.files, path, "ids")])
        known = [k for k in VECTORS if k in file.files]
        others = [k for k in file.files if k not in (*IDS, *LABELS, "split", "group")]
        x = file[_first(known or others[:1], file.files, path, "vectors")]
        label = next((_texts(file[k]) for k in LABELS if k in file.files), None)
    return _in_memory(path, "npz", ids, x, label=label)


def _csv(path: Path) -> Source:
    table = read_table(path)
    at = table.index(_first((*IDS, table.header[0]), table.header, path, "ids"))
    called = {name.casefold(): k for k, name in reversed([*enumerate(table.header)]) if k != at}
    label = next((called[name] for name in LABELS if name in called), None)
    claimed = [table.header[k] for k in (at, label) if k is not None]
    names, _, notes = numeric_columns(table, ["*"], claimed)
    x = np.stack([numbers_of(table, name) for name in names], axis=1).astype(np.float32)
    return _in_memory(
        path, "CSV", [row[at] for row in table.rows], x,
        label=None if label is None else [row[label] for row in table.rows],
        feature_names=names, notes=notes,
    )  # fmt: skip


def _plain(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """A dataset that keeps its data inside this very file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UnsafeInput(path, f"{name} is a link to elsewhere", "copy the data into the file")
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise OptionError(path, f"{name} is a group", "export one set at a time")
    if found.is_virtual or found.external:
        raise UnsafeInput(path, f"{name} keeps its data elsewhere", "copy the data into the file")
    if found.size * found.dtype.itemsize > max(LARGEST_ITEM, 2000 * path.stat().st_size):
        raise UnsafeInput(path, f"{name} declares {found.shape}, absurd for this file")
    return found


def _h5(path: Path) -> Source:
    with open(path, "rb") as raw, h5py.File(raw, "r") as file:
        ids = _texts(_plain(file, _first(IDS, list(file), path, "ids"), path)[...])
        key = _first(VECTORS, list(file), path, "vectors")
        dim = _matrix(path, _plain(file, key, path), len(ids))
        named = [k for k in LABELS if k in file]
        label = _texts(_plain(file, named[0], path)[...]) if named else None

    def read(rows: Sequence[int]) -> np.ndarray:
        with open(path, "rb") as raw, h5py.File(raw, "r") as file:
            return _plain(file, key, path)[rows[0] : rows[-1] + 1][
                np.asarray(rows) - rows[0]
            ].astype(np.float32)

    return Source(path, "HDF5", ids, dim, read, label=label)


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
    lines = lines_of(read_text(names[0], "give a list of names, one a line"))
    ids = [name for line in lines if (name := line.rstrip("\r\n"))]
    x = np.load(arrays[0], mmap_mode="r", allow_pickle=False)
    return _in_memory(path, "thingsvision npy", ids, x)


def _bags(path: Path, files: list[Path], pool: str | None) -> Source:
    """One HDF5 file an item: a vector, or a bag of vectors (patches of a slide) to be pooled."""
    first = _bag(files[0])
    if len(first) > 1 and pool is None:
        raise OptionError(
            files[0], f"holds {len(first)} vectors for one item", "say how with --pool mean or max"
        )

    def read(rows: Sequence[int]) -> np.ndarray:
        out = np.empty((len(rows), first.shape[1]), dtype=np.float32)
        for at, row in enumerate(rows):
            bag = _bag(files[row])
            if bag.shape[1] != first.shape[1] or not len(bag) or (len(bag) > 1 and pool is None):
                raise OptionError(files[row], f"{bag.shape} vectors, unlike {files[0].name}")
            out[at] = bag[0] if len(bag) == 1 else POOLS[str(pool)](bag)
        return out

    ids = [file.stem for file in files]
    return Source(path, "per-item HDF5", ids, first.shape[1], read, pool=pool)


def _bag(path: Path) -> np.ndarray:
    """(m, d) vectors of one item."""
    with open(path, "rb") as raw, h5py.File(raw, "r") as file:
        x = _plain(file, _first(VECTORS, list(file), path, "vectors"), path)[...]
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
        table = pq.read_table(file)
        ids += _texts(np.array(table[_first(IDS, table.column_names, file, "ids")].to_pylist()))
    arrays = [
        np.load(file, mmap_mode="r", allow_pickle=False)
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

    return Source(path, "clip-retrieval", ids, arrays[0].shape[1], read)
