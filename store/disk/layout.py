"""The form of every HDF5 file we write, and its bytes.

Shards, patches and generations share the form. Every dataset is contiguous, aligned to 4096 and
free of filters, links and variable-length text, so a plain HDF5 reader sees an ordinary file and we
may read a dataset straight from its offset. Checksums cover every byte of a file:

- a *schema* (JSON, a root attribute) lists each dataset's type, shape, offset and CRC32;
- ``root_crc`` covers the root attributes, the schema among them;
- ``/skeleton_crc32`` covers all bytes outside the datasets: HDF5's own metadata and the padding;
- a matrix of vectors has a CRC32 for each row instead (see checksum.py).

HDF5 does no file I/O when we write: it builds its metadata in a ``Pages`` object in memory, and we
put those pages and the data into a file with plain writes whose errors we see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import h5py
import numpy as np

from headstock import __version__
from headstock.store.disk.checksum import crc32
from headstock.store.disk.pages import PAGE, Pages

__all__ = ["Plan", "Region", "gaps", "reserved", "root_crc", "text_bytes", "text_from"]

FORMAT = "headstock"
VERSION = 1  # what this code writes, and the newest it reads
LARGE_PAGE = 1 << 21  # bytes; such a piece that was written at once, Linux also maps at once
SKELETON = "/skeleton_crc32"
TYPES = {"<f4", "<f2", "<u4", "|u1", "<i8", "<i4"}  # beside fixed-length text, S1 and up
ROOT = ("format", "format_version", "generation", "kind", "min_reader_version", "n", "schema",
        "uuid", "writer")  # fmt: skip


@dataclass(frozen=True)
class Region:
    """Where a dataset lies in its file. ``crc`` is None for a matrix that has row checksums."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    crc: int | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


def gaps(regions: Mapping[str, Region], length: int) -> Iterator[tuple[int, int]]:
    """The byte ranges outside all datasets."""
    at = 0
    for region in sorted(regions.values(), key=lambda r: r.offset):
        if region.nbytes:
            yield at, region.offset
            at = region.end
    yield at, length


def _h5_type(dtype: np.dtype) -> Any:
    kind = h5py.string_dtype("utf-8", dtype.itemsize) if dtype.kind == "S" else dtype
    return h5py.h5t.py_create(kind, logical=True)


def reserved(parent: Any, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Make a dataset in one piece, without filling it; the offset of its data, 0 for none."""
    form = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    form.set_layout(h5py.h5d.CONTIGUOUS)
    form.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    form.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    form.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape)
    made = h5py.h5d.create(parent.id, name.encode(), _h5_type(dtype), space, form)
    return made.get_offset() or 0


@dataclass
class Plan:
    """A file before its bytes: datasets by path, and where each of them will lie.

    ``specs`` maps a dataset's path to (dtype, shape); ``row_checked`` are those without a CRC of
    their own; ``notes`` are plain attributes put on groups for people who use h5py. Make it, write
    the data at ``regions``, then write ``skeleton(crcs)``.
    """

    kind: str
    uuid: str
    generation: int
    n: int
    meta: Mapping[str, Any]
    specs: Mapping[str, tuple[Any, tuple[int, ...]]]
    row_checked: frozenset[str] = frozenset()
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    regions: dict[str, Region] = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        far = 10**17  # wider than any real offset: the schema's length is fixed before they exist
        blank = {p: Region(np.dtype(t), s, far, 2**32) for p, (t, s) in self._all().items()}
        self._width = len(self._schema(blank, far))
        pages, self.regions = self._build(self._schema(blank, far))
        self.length = pages.size

    def _all(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        return {**self.specs, SKELETON: ("<u4", (1,))}

    def _schema(self, regions: Mapping[str, Region], length: int) -> bytes:
        datasets = {
            path: [
                r.dtype.str,
                list(r.shape),
                r.offset,
                None if path in self.row_checked else r.crc,
            ]
            for path, r in regions.items()
        }
        body = {"datasets": datasets, "length": length, "meta": self.meta}
        return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def _build(self, schema: bytes) -> tuple[Pages, dict[str, Region]]:
        root = {
            "format": FORMAT, "format_version": VERSION, "min_reader_version": VERSION,
            "kind": self.kind, "uuid": self.uuid, "generation": self.generation, "n": self.n,
            "schema": schema, "writer": __version__,
        }  # fmt: skip
        root["root_crc"] = root_crc(root)
        pages, regions = Pages(), {}
        with h5py.File(
            pages, "w", libver=("v108", "v108"), alignment_threshold=1, alignment_interval=PAGE,
            meta_block_size=PAGE,
        ) as file:  # fmt: skip
            for key, value in root.items():
                _set_attribute(file, key, value)
            for path, (dtype, shape) in self._all().items():
                group, name = path.rsplit("/", 1)
                parent = file.require_group(group) if group else file
                offset = reserved(parent, name, np.dtype(dtype), shape)
                regions[path] = Region(np.dtype(dtype), tuple(shape), offset)
            for path, values in self.notes.items():
                for key, value in values.items():
                    _set_attribute(file.require_group(path), key, value)
        return pages, regions

    def skeleton(self, crcs: Mapping[str, int]) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of everything that is not data, the last checksum included."""
        final = {
            path: Region(r.dtype, r.shape, r.offset, crcs.get(path, 0))
            for path, r in self.regions.items()
        }
        schema = self._schema(final, self.length).ljust(self._width)
        pages, regions = self._build(schema)
        if (regions, pages.size) != (self.regions, self.length):
            raise AssertionError("HDF5 laid the same file out in two ways")
        crc = 0
        for start, end in gaps(regions, self.length):
            crc = crc32(pages.span(start, end), crc)
        pages.seek(regions[SKELETON].offset)
        pages.write(np.array([crc], "<u4").tobytes())
        # a page may hold metadata before or after data: never write over the data
        data = {path: r for path, r in regions.items() if path != SKELETON}
        for low, high in gaps(data, self.length):
            for page in sorted(p for p in pages.pages if low < (p + 1) * PAGE and p * PAGE < high):
                start, end = max(low, page * PAGE), min(high, (page + 1) * PAGE)
                yield start, bytes(pages.span(start, end))

    def pack(self, arrays: Mapping[str, np.ndarray]) -> bytearray:
        """The whole file in memory, for small ones."""
        out, crcs = bytearray(self.length), {}
        for path, region in self.regions.items():
            if path != SKELETON:
                data = np.ascontiguousarray(arrays[path], dtype=region.dtype)
                if data.shape != region.shape:
                    raise AssertionError(f"{path}: {data.shape} is not {region.shape}")
                raw = data.reshape(-1).view(np.uint8).data if data.nbytes else b""
                out[region.offset : region.end] = raw
                crcs[path] = 0 if path in self.row_checked else crc32(raw)
        for start, raw in self.skeleton(crcs):
            out[start : start + len(raw)] = raw
        return out


def _set_attribute(target: Any, key: str, value: Any) -> None:
    if isinstance(value, str | bytes):
        raw = value.encode() if isinstance(value, str) else value
        kind = h5py.string_dtype("utf-8", max(1, len(raw)))
        target.attrs.create(key, np.array(raw, dtype=f"S{max(1, len(raw))}"), dtype=kind)
    else:
        target.attrs.create(key, value, dtype="<i8")


def root_crc(root: Mapping[str, Any]) -> int:
    parts = [root[k] if isinstance(root[k], bytes) else str(root[k]).encode() for k in ROOT]
    return crc32(b"\0".join(parts))


def text_bytes(values: Sequence[str]) -> np.ndarray:
    """``values`` as an (n,) array of fixed-length UTF-8, just wide enough."""
    raw = [v.encode("utf-8", "surrogateescape") for v in values]
    return np.array(raw, dtype=f"S{max(1, max(map(len, raw), default=1))}")


def text_from(column: np.ndarray) -> list[str]:
    return [v.decode("utf-8", "surrogateescape") for v in column.tolist()]
