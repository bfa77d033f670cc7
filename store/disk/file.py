"""One of our HDF5 files, opened strictly: whatever it claims is checked before it is believed.

Only the root attributes are read through HDF5, from a Python file object, so that no file lock is
taken and no link, filter, external or virtual storage can be followed. The datasets themselves are
read with plain reads at the offsets of the checked schema.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import h5py
import numpy as np

from headstock.store.disk.checksum import crc32
from headstock.store.disk.hdf5 import CANNOT, LARGEST_SCHEMA, REPAIR, attribute, through_hdf5
from headstock.store.disk.layout import (
    FORMAT,
    LARGE_PAGE,
    ROOT,
    SKELETON,
    TYPES,
    VERSION,
    Region,
    gaps,
    root_crc,
    text_from,
)
from headstock.store.errors import StorageError, StoreDamaged, UnsafeInput, VersionError
from headstock.store.jsonfile import parse_json

__all__ = ["LARGEST_SCHEMA", "REPAIR", "StoreFile"]

T = TypeVar("T")

HUGE = 1 << 30  # from here on a file must hold a thousandth of its length: no sparse bombs
FEW = 48  # reads that are not worth a map
NEAR = 1 << 17  # bytes of a map that cost what one read costs
WIDEST = 1 << 26  # bytes of a map: they count as memory while it lasts
POPULATE = 22 if sys.platform == "linux" else None  # MADV_POPULATE_READ, of Linux 5.14


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a FIFO under a store's name must not hang us."""
    return os.open(path, flags | os.O_NONBLOCK)


class StoreFile:
    """One of our files, open for reading. Its form has been checked, its data not yet.

    Raises FileNotFoundError, StorageError (the disk), StoreDamaged, VersionError, UnsafeInput.
    """

    def __init__(self, path: Path, kind: str | None = None) -> None:
        self.path = path
        self.crcs: dict[str, np.ndarray] = {}  # row checksums read so far, by group
        self._checked: dict[str, np.ndarray] = {}
        self._maps: dict[str, np.ndarray] = {}
        try:
            self.file = open(path, "rb", buffering=0, opener=_at_once)  # noqa: SIM115  see close()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(path, f"cannot be opened ({error.strerror})", CANNOT) from error
        try:
            self._parse(kind)
        except BaseException:
            self.close()
            raise

    def _measure(self) -> None:
        about = self._about()
        if not stat.S_ISREG(about.st_mode):
            raise UnsafeInput(self.path, "is not a regular file", "name the store's own file")
        self.size = about.st_size
        if self.size > HUGE and 0 < about.st_blocks * 512 * 1000 < self.size:
            what = f"claims {self.size:,} bytes and holds almost none of them"
            raise UnsafeInput(self.path, what, "do not open this file")

    def _about(self) -> os.stat_result:
        try:
            return os.fstat(self.file.fileno())
        except OSError as error:
            raise StorageError(self.path, f"cannot be read ({error.strerror})", CANNOT) from error

    def through_hdf5(self, read: Callable[[h5py.File], T]) -> T:
        """``read(file)`` of what HDF5 makes of this file; see ``hdf5.through_hdf5``."""
        return through_hdf5(self.path, self.size, self.read_into, read)

    def _root(self) -> dict[str, Any]:
        """The root attributes, read through HDF5."""
        return self.through_hdf5(
            lambda file: {k: attribute(file, k, self.path) for k in (*ROOT, "root_crc")}
        )

    def _parse(self, kind: str | None) -> None:
        self._measure()
        root = self._root()
        ours = root["format"] == FORMAT.encode() and root["root_crc"] == root_crc(root)
        if ours and root["min_reader_version"] > VERSION:  # which every format says in this way
            raise VersionError(
                self.path,
                f"written by headstock {root['writer'].decode(errors='replace')} in format "
                f"{root['format_version']}, this one reads up to format {VERSION}",
                "upgrade headstock",
            )
        if not ours:
            raise StoreDamaged(self.path, "its root attributes fail their checksum", REPAIR)
        self.kind, self.uuid = root["kind"].decode(), root["uuid"].decode()
        self.generation, self.n = root["generation"], root["n"]
        self.writer = root["writer"].decode()
        if self.generation < 0 or self.n < 0:
            raise StoreDamaged(self.path, "its numbers make no sense", REPAIR)
        if kind is not None and self.kind != kind:
            raise StoreDamaged(self.path, f"is a {self.kind}, not a {kind}", REPAIR)
        self._read_schema(lambda: parse_json(root["schema"]))
        self._check_form()

    def _read_schema(self, load: Callable[[], Any]) -> None:
        try:
            body = load()
            self.meta: dict[str, Any] = dict(body["meta"])
            self.length = int(body["length"])
            self.regions = {p: self._region(p, *spec) for p, spec in body["datasets"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise StoreDamaged(self.path, f"its schema does not read ({error})", REPAIR) from error

    def _region(self, path: str, dtype: str, shape: list, offset: int, crc: int | None) -> Region:
        if dtype not in TYPES and not (dtype[:2] == "|S" and dtype[2:].isdecimal()):
            raise UnsafeInput(self.path, f"{path} has the type {dtype}, which no store uses")
        numbers = [*shape, offset, 0 if crc is None else crc]
        if len(shape) not in (1, 2) or any(type(v) is not int or v < 0 for v in numbers):
            raise UnsafeInput(self.path, f"{path} has the shape {shape} at {offset}")
        return Region(np.dtype(dtype), tuple(shape), offset, crc)

    def _check_places(self) -> None:
        if self.length != self.size:
            raise StoreDamaged(self.path, f"{self.size} bytes long, not {self.length}", REPAIR)
        end = 0
        for path, region in sorted(self.regions.items(), key=lambda pair: pair[1].offset):
            if region.nbytes and (region.offset < end or region.end > self.size):
                raise UnsafeInput(self.path, f"{path} claims bytes that are not its own")
            end = max(end, region.end if region.nbytes else 0)

    def _check_form(self) -> None:
        self._check_places()
        crc = 0
        for start, stop in gaps(self.regions, self.length):
            crc = crc32(self.bytes_at(start, stop - start), crc)
        if SKELETON not in self.regions or int(self.column(SKELETON, check=False)[0]) != crc:
            raise StoreDamaged(self.path, "its metadata fails its checksum", REPAIR)

    def bytes_at(self, offset: int, length: int) -> bytearray:
        """``length`` bytes at ``offset``. Raises StorageError when the disk does not give them."""
        out = bytearray(length)
        self.read_into(offset, out)
        return out

    def read_into(self, offset: int, buffer: Any) -> None:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view):
            try:
                step = os.preadv(self.file.fileno(), [view[done:]], offset + done)
            except OSError as error:
                what = f"cannot be read ({error.strerror})"
                raise StorageError(self.path, what, CANNOT) from error
            if not step:
                if self._about().st_size >= offset + len(view):
                    raise StorageError(self.path, "gives no bytes where it has some", CANNOT)
                raise StoreDamaged(self.path, f"ends before byte {offset + len(view)}", REPAIR)
            done += step

    def column(self, path: str, check: bool = True) -> np.ndarray:
        """A dataset as an array. Raises StoreDamaged when it fails its checksum or is missing."""
        region = self.regions.get(path)
        if region is None:
            raise StoreDamaged(self.path, f"has no {path}", REPAIR)
        out = np.empty(region.shape, region.dtype)
        if out.nbytes:
            self.read_into(region.offset, out.reshape(-1).view(np.uint8))
        if check and path != SKELETON and crc32(out.reshape(-1).view(np.uint8).data) != region.crc:
            raise StoreDamaged(self.path, f"{path} fails its checksum", REPAIR)
        return out

    def rows(self, path: str, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The given rows of a matrix, unchecked, in one read for each unbroken run of rows.

        Into ``out`` when given: (m, d), of the stored type and in one piece.
        """
        region = self.regions[path]
        width = region.shape[1] * region.dtype.itemsize
        if out is None:
            out = np.empty((len(rows), region.shape[1]), region.dtype)
        breaks = (rows[1:] - rows[:-1] != 1).nonzero()[0] + 1
        if len(breaks) >= FEW and self._gather(region, rows, len(breaks), out):
            return out
        starts = [0, *breaks.tolist()] if len(rows) else []
        raw: Any = out.reshape(-1).view(np.uint8).data if out.size else memoryview(b"")
        firsts = (region.offset + rows[starts].astype(np.int64) * width).tolist()
        fd, read = self.file.fileno(), os.preadv
        for start, stop, at in zip(starts, [*starts[1:], len(rows)], firsts, strict=True):
            part = raw[start * width : stop * width]
            try:
                short = read(fd, [part], at) != len(part)
            except OSError:
                short = True
            if short:  # read_into says why
                self.read_into(at, part)
        return out

    def _gather(self, region: Region, rows: np.ndarray, reads: int, out: np.ndarray) -> bool:
        """Copy ``rows`` out of a map that lasts as long as the copy, where that costs less than
        ``reads`` reads; False where it does not, or could not be done.

        The pages are asked for beforehand: what a file cut short or a failing disk would answer by
        a signal is then an error, which the reads that follow put into words.
        """
        d, width = region.shape[1], region.shape[1] * region.dtype.itemsize
        low, high = int(rows.min()), int(rows.max()) + 1
        begin = region.offset + low * width
        base, m = begin // LARGE_PAGE * LARGE_PAGE, high - low
        if m * width > min(reads * NEAR, WIDEST) or POPULATE is None:
            return False
        try:
            length = begin - base + m * width
            with mmap.mmap(self.file.fileno(), length, prot=mmap.PROT_READ, offset=base) as pages:
                pages.madvise(POPULATE)
                window = np.frombuffer(pages, region.dtype, m * d, begin - base).reshape(m, d)
                np.take(window, rows - low, axis=0, out=out, mode="clip")
                del window
        except (OSError, ValueError):
            return False
        return True

    def mapped(self, path: str) -> np.ndarray:
        """A matrix in place, read-only and unchecked; always the same map, whose pages stay."""
        if path not in self._maps:
            r = self.regions[path]
            try:
                self._maps[path] = np.memmap(self.file, r.dtype, "r", r.offset, r.shape)
            except OSError as error:
                what = f"cannot be mapped ({error.strerror})"
                raise StorageError(self.path, what, CANNOT) from error
        return self._maps[path]

    def is_mapped(self, path: str) -> bool:
        """Whether somebody has asked for ``mapped``."""
        return path in self._maps

    def checked(self, path: str) -> np.ndarray:
        """(m,) bool, to be written to: which rows of a matrix have matched their checksums."""
        if path not in self._checked:
            self._checked[path] = np.zeros(self.regions[path].shape[0], dtype=bool)
        return self._checked[path]

    def texts(self, path: str) -> list[str]:
        """A text dataset as ``str``."""
        try:
            return text_from(self.column(path))
        except UnicodeDecodeError as error:
            raise StoreDamaged(self.path, f"{path} is not UTF-8", REPAIR) from error

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
