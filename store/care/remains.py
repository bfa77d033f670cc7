"""One file of a store, read as far as anything in it can still be located.

A damaged file is not read through HDF5: its schema is text, and is looked for in the raw bytes. The
checksum of the root attributes proves it, and tells which bit of it has flipped where that is all.
However a dataset was found, what it holds is believed only where a checksum of its own proves it.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.disk.checksum import crc32
from headstock.store.disk.file import LARGEST_SCHEMA, REPAIR, StoreFile
from headstock.store.disk.hdf5 import attribute
from headstock.store.disk.layout import ROOT, SKELETON, Region, root_crc
from headstock.store.errors import StoreDamaged, UnsafeInput

__all__ = ["Remains"]

SCHEMA = b'{"datasets":{'  # how every schema begins
TEXTS = {"format", "kind", "schema", "uuid", "writer"}  # of the root attributes; others are int64
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONGEST = 1 << 16  # bytes of a schema in which a flipped bit is looked for
KINDS = {"generation": "sets", "shard": "fingerprint", "patch": "declare"}  # by a key of its schema


class Remains(StoreFile):
    """A file that may be damaged. ``whole``: its form is as it was written. ``proven``: its schema
    is, whatever else is not; without it ``uuid`` ("" where it cannot be told) and ``generation``
    (0) are guesses.

    Raises FileNotFoundError, StorageError, VersionError, UnsafeInput; StoreDamaged when nothing in
    it can be located.
    """

    def __init__(self, path: Path) -> None:
        self.whole = self.proven = False
        super().__init__(path)

    def _parse(self, kind: str | None) -> None:
        try:
            super()._parse(kind)
            self.whole = self.proven = True
        except (StoreDamaged, UnsafeInput):
            self._measure()
            self._locate()
        rows = self.regions.get("/id" if self.kind == "shard" else "/items/id")
        if (
            KINDS.get(self.kind) not in self.meta
            or rows is None
            or (rows.dtype.kind, len(rows.shape)) != ("S", 1)
        ):
            raise StoreDamaged(self.path, "nothing in it can be located", REPAIR)
        self.n = self.room("/id" if self.kind == "shard" else "/items/id")

    def _locate(self) -> None:
        self.generation, self.uuid, self.writer = 0, "", ""
        root = self._attributes()
        self._read_schema(lambda: self._body(root))
        self.kind = next((name for name, key in KINDS.items() if key in self.meta), "")
        named = re.search(r"(?:gen|patch)-(\d+)\.h5$", self.path.name)
        if self.proven:
            self.uuid, self.generation = root["uuid"].decode(errors="replace"), root["generation"]
            return
        self.generation = int(named[1]) if named else 0
        if len(uuids := set(UUID.findall(root.get("uuid") or self._head))) == 1:
            self.uuid = uuids.pop().decode()

    @cached_property
    def _head(self) -> bytes:
        """Root attributes are written first and lie in front of all data."""
        return bytes(self.bytes_at(0, min(self.size, 2 * LARGEST_SCHEMA)))

    def _attributes(self) -> dict[str, Any]:
        """The root attributes: by HDF5, or out of the bytes of their messages (name, type of 8 or
        12 bytes, space of 4, value), where all are found."""
        with suppress(StoreDamaged, UnsafeInput):
            return self.through_hdf5(
                lambda file: {k: attribute(file, k, self.path) for k in (*ROOT, "root_crc")}
            )
        found: dict[str, Any] = {}
        for name in (*ROOT, "root_crc"):
            at = self._message(name.encode())
            if name in TEXTS:
                size = int.from_bytes(self._head[at + 4 : at + 8], "little")
                found[name] = self._head[at + 12 : at + 12 + size]
            else:
                found[name] = int.from_bytes(self._head[at + 16 : at + 24], "little")
            if at < 0:
                return {}
        return found

    def _message(self, name: bytes) -> int:
        """Where the type of a root attribute is described; -1 when it is not found."""
        for match in re.finditer(re.escape(name) + rb"\0", self._head):
            before = self._head[match.start() - 7 : match.start() - 5]
            if before == (len(name) + 1).to_bytes(2, "little"):
                return match.end()
        return -1

    def _body(self, root: dict[str, Any]) -> Any:
        """The schema: that of the root attributes, else the first text that looks like one."""
        if root:
            with suppress(ValueError):
                return json.JSONDecoder().raw_decode(self._mended(root))[0]
        self.proven = False
        at = self._head.find(SCHEMA)
        if at < 0:
            raise ValueError("none is there")
        text = self._head[at : at + LARGEST_SCHEMA].decode("ascii", "replace")
        return json.JSONDecoder().raw_decode(text)[0]

    def _mended(self, root: dict[str, Any]) -> str:
        """The schema's text. It is proven where the checksum of the root attributes holds, as they
        are or with one bit of the schema changed, which is then changed back."""
        text = root["schema"]
        change = root_crc(root) ^ root["root_crc"]
        after = len(root["uuid"]) + len(root["writer"]) + 2
        bit = _flipped(change, len(text), after) if change and len(text) <= LONGEST else None
        if bit is not None:
            place, byte = bit // 8, text[bit // 8] ^ 1 << bit % 8
            text = text[:place] + bytes([byte]) + text[place + 1 :]
        self.proven = not change or bit is not None
        return text.decode("ascii", "replace")

    def room(self, path: str) -> int:
        """How many rows of a dataset lie inside the file."""
        region = self.regions[path]
        width = region.nbytes // max(1, region.shape[0])
        if not width:
            return min(region.shape[0], self.size)
        return max(0, min(region.shape[0], (self.size - region.offset) // width))

    def first(self, path: str, rows: int) -> np.ndarray:
        """The first ``rows`` rows of a dataset, unchecked."""
        region = self.regions[path]
        out = np.empty((rows, *region.shape[1:]), region.dtype)
        if out.nbytes:
            self.read_into(region.offset, out.reshape(-1).view(np.uint8))
        return out

    def holds(self, path: str, kind: str = "") -> bool:
        """Whether a dataset is here, of the numpy type ``kind``, and matches its own checksum."""
        region: Region | None = self.regions.get(path)
        if region is None or region.crc is None or path == SKELETON or region.end > self.size:
            return False
        if kind and region.dtype.str != kind:
            return False
        try:
            self.column(path)
        except StoreDamaged:
            return False
        return True


KINDS = {"generation": "sets", "shard": "fingerprint", "patch": "declare"}  # by a key of its schema


def _flipped(change: int, length: int, after: int) -> int | None:
    """The bit, of ``length`` bytes that ``after`` others follow, whose flip alone changes a CRC32
    by ``change``: by how much it does depends on its distance to the end only."""
    table = [crc32(bytes([value])) ^ crc32(b"\0") for value in range(256)]
    images = [table[1 << bit] for bit in range(8)]
    for place in range(length + after - 1, -1, -1):
        if place < length and change in images:
            return place * 8 + images.index(change)
        images = [table[image & 255] ^ image >> 8 for image in images]
    return None
