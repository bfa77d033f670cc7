"""Arrays of files that may unpack to far more than they are: npz, npy and HDF5, within bounds.

A file may unpack to ``FACTOR`` times its own size, and to ``FREE`` in any case: features compress
to a half, sparse ones to a twentieth. What declares more is refused before it is unpacked.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from headstock.store.errors import StorageError, UnsafeInput
from headstock.store.textfile import refuse_odd

__all__ = ["FIX", "Archive", "parquet_columns", "mapped", "room"]

FACTOR = 64
FREE = 64 << 20  # bytes
MEMBERS = 1 << 16
FIX = "save it without compression"
BROKEN = (
    ValueError, KeyError, EOFError, NotImplementedError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What readers raise for a file that is none. Sizes are bounded before anything is read, so memory
that ends is no fault of the file."""
READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def room(path: Path) -> int:
    """Bytes that the file at ``path`` may unpack to."""
    return FACTOR * os.stat(path).st_size + FREE


class Archive:
    """The arrays of an npz file, by name. Raises ValueError for what is no npz, UnsafeInput for
    objects and for one that unpacks to more than ``room``; FileNotFoundError, StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_odd(path, "give an npz file")
        with self._plainly():
            self._zip = zipfile.ZipFile(path)
        entries = self._zip.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > room(path) or len(entries) > MEMBERS:
            what = f"unpacks to {total:,} bytes in {len(entries):,} arrays"
            raise UnsafeInput(path, what, FIX)
        self._entries = {e.filename.removesuffix(".npy"): e for e in entries}

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> np.ndarray:
        """The array ``name``. Raises as the class, and ValueError for one that is not there."""
        entry = self._entries.get(name)
        if entry is None:
            raise ValueError(f"has no array {name}")
        with self._plainly(), self._zip.open(entry) as file:
            _check_header(self.path, name, file, entry.file_size)
        with self._plainly(), self._zip.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            what = f"cannot be read ({error.strerror or error})"
            raise StorageError(self.path, what, "check the disk") from error
        except BROKEN as error:
            raise ValueError(f"does not read ({type(error).__name__}: {error})") from error

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_header(path: Path, name: str, file: IO[bytes], size: int) -> None:
    version = np.lib.format.read_magic(file)
    if version not in READERS:
        raise ValueError(f"{name} is of an npy version that is not read here")
    shape, _, dtype = READERS[version](file)
    if dtype.hasobject:
        raise UnsafeInput(path, f"{name} holds pickled objects", "save plain arrays")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize > size:
        what = f"{name} declares {shape} of {dtype}, more than is there"
        raise UnsafeInput(path, what, FIX)


def mapped(path: Path) -> np.ndarray:
    """An npy file in place. Raises ValueError, and UnsafeInput for a file that claims bytes which
    it does not hold."""
    refuse_odd(path, "give an npy file")
    about = os.stat(path)
    if about.st_size > FREE and 0 < about.st_blocks * 512 * FACTOR < about.st_size:
        what = f"claims {about.st_size:,} bytes and holds almost none of them"
        raise UnsafeInput(path, what, "do not open this file")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def parquet_columns(file: Any, names: Sequence[str], path: Path) -> list[list[Any]]:
    """Columns of an open ``pyarrow.parquet.ParquetFile``, whose texts come as dictionaries.

    One value may stand for a million rows there. Raises UnsafeInput.
    """
    total, most = file.metadata.num_rows * len(names) * 8, room(path)
    if total > most:
        what = f"declares {file.metadata.num_rows:,} rows of {len(names):,} columns"
        raise UnsafeInput(path, what, "absurd for this file")
    table, out = file.read(columns=list(names)), []
    for name in names:
        column = table[name]
        for chunk in column.chunks:
            if hasattr(chunk, "dictionary"):
                sizes = (len(str(value)) for value in chunk.dictionary.to_pylist())
                total += max(sizes, default=0) * len(chunk)
        if total > most:
            raise UnsafeInput(path, f"{name} unpacks to more than {most:,} bytes", FIX)
        out.append(column.to_pylist())
    return out
