"""Reading through HDF5 what only HDF5 can read, with the disk's errors kept apart from its own.

HDF5 sees a file through our reads. They are whole, or they raise an error of ours, which h5py hands
on as it is; so what HDF5 itself complains of is the file, or the lack of memory.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from headstock.store.errors import StorageError, StoreDamaged, UnsafeInput

__all__ = ["CANNOT", "REPAIR", "attribute", "through_hdf5"]

T = TypeVar("T")
LARGEST_SCHEMA = 16 << 20
PROBE = 32 << 20  # bytes; where so little is not to be had, HDF5's complaint is about memory
CANNOT = "check the disk, permissions and limits; nothing was changed"
REPAIR = "run `headstock store verify`, then `headstock store repair`"
COMPLAINTS = (KeyError, OSError, RuntimeError, ValueError, TypeError, OverflowError)


class _Bytes(io.RawIOBase):
    """A file of ``size`` bytes, read by ``read_into(offset, buffer)``, which fills the buffer."""

    def __init__(self, size: int, read_into: Callable[[int, Any], None]) -> None:
        self._size, self._read_into, self._at = size, read_into, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._size)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._read_into(self._at, buffer)
        self._at += len(buffer)
        return len(buffer)


def through_hdf5(
    path: Path, size: int, read_into: Callable[[int, Any], None], read: Callable[[h5py.File], T]
) -> T:
    """``read(file)`` of what HDF5 makes of the ``size`` bytes that ``read_into`` gives.

    Raises StoreDamaged for what HDF5 makes no sense of, twice and with memory to spare; whatever
    ``read_into`` and ``read`` raise.
    """
    for again in (True, False):
        try:
            with h5py.File(_Bytes(size, read_into), "r") as file:
                return read(file)
        except COMPLAINTS as error:
            if not again:
                _memory_is_left(path)
                what = f"not a whole headstock file ({error})"
                raise StoreDamaged(path, what, REPAIR) from error
    raise AssertionError("neither attempt ended")


def _memory_is_left(path: Path) -> None:
    """Raises StorageError when there is none: then nothing that HDF5 says is about the file."""
    try:
        mmap.mmap(-1, PROBE).close()
    except OSError as error:
        raise StorageError(path, "no memory is left to read it", "give it more") from error


def attribute(file: h5py.File, name: str, path: Path) -> Any:
    """A root attribute of the only kinds we write: a scalar of fixed-length text, or int64."""
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    plain_text = kind.get_class() == h5py.h5t.STRING and not kind.is_variable_str()
    if attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
        raise UnsafeInput(path, f"attribute {name} is not a single value", REPAIR)
    if attribute.get_storage_size() > LARGEST_SCHEMA:
        raise UnsafeInput(path, f"attribute {name} is absurdly large", "do not open this file")
    if plain_text:
        value = np.empty((), dtype=f"S{kind.get_size()}")
        attribute.read(value, mtype=kind)
        return value.item()
    if kind.get_class() != h5py.h5t.INTEGER:
        raise UnsafeInput(path, f"attribute {name} is neither text nor a number", REPAIR)
    number = np.empty((), dtype="<i8")
    attribute.read(number)
    return int(number)
