"""Reading what a damaged generation still holds, row by row, for ``store repair``."""

from __future__ import annotations

import json
import re
import uuid as uuids
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from headstock.store.disk.checksum import row_crcs
from headstock.store.disk.declared import ABSENT, FAILED, OK
from headstock.store.disk.depot import Depot
from headstock.store.disk.file import LARGEST_SCHEMA, REPAIR, StoreFile
from headstock.store.disk.layout import root_crc, text_bytes
from headstock.store.disk.state import BLOCK, Column, State
from headstock.store.errors import StoreDamaged
from headstock.store.items import text_column

__all__ = ["RawFile", "Repaired", "Salvage", "uuid_of"]

SCHEMA = b'{"datasets":{'  # how every schema begins
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Repaired:
    """What was lost: ``rows`` by set, that the next ``extract`` computes again; text ``columns``
    that are empty now; ``nameless`` rows whose id was damaged, dropped; ``files`` set aside in
    ``features.h5.d`` under the name ``damaged-...``."""

    path: Path
    rows: dict[str, list[str]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    nameless: int = 0

    @property
    def changed(self) -> bool:
        return bool(self.rows or self.columns or self.files or self.nameless)

    def text(self) -> str:
        lines = [f"{name}: damaged, set aside" for name in self.files]
        lines += [
            f"column {name}: damaged, now empty; `headstock store label`" for name in self.columns
        ]
        if self.nameless:
            lines.append(f"{self.nameless} rows with a damaged id: dropped, labels and all")
        for name, ids in self.rows.items():
            shown = ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")
            lines.append(f"set {name}: {len(ids)} rows to extract again: {shown}")
        done = "repaired; run `headstock extract` again" if self.changed else "nothing to repair"
        return "\n".join([*lines, f"{self.path}: {done}"])


class RawFile(StoreFile):
    """A generation whose metadata is damaged, read by its schema alone, which is text and is looked
    for in the raw bytes. Its parts are to be believed only where their own checksums hold.

    Raises StoreDamaged when no schema is found that fits the file.
    """

    def _parse(self, kind: str | None) -> None:
        self._measure()
        self.kind, self.generation, self.uuid, self.writer = "generation", 0, "", ""
        self._read_schema(self._found)
        self._check_places()
        if "/items/id" not in self.regions:
            raise StoreDamaged(self.path, "has no rows", REPAIR)
        self.n = self.regions["/items/id"].shape[0]
        try:
            root = self._root()
        except StoreDamaged:
            root = {}
        if root and root["root_crc"] == root_crc(root):
            self.generation, self.uuid = root["generation"], root["uuid"].decode()
        elif len(said := set(UUID.findall(self._head))) == 1:
            self.uuid = said.pop().decode()

    @cached_property
    def _head(self) -> bytes:
        """Root attributes are written first and lie in front of all data."""
        return bytes(self.bytes_at(0, min(self.size, 2 * LARGEST_SCHEMA)))

    def _found(self) -> object:
        at = self._head.find(SCHEMA)
        if at < 0:
            raise ValueError("none is there")
        text = self._head[at : at + LARGEST_SCHEMA].decode("ascii", "replace")
        return json.JSONDecoder().raw_decode(text)[0]


class Salvage(State):
    """A state read leniently: what fails its checksum is left out, and told."""

    def __init__(self, depot: Depot, told: Repaired, file: StoreFile | None = None) -> None:
        self.told = told
        super().__init__(depot, file)

    @cached_property
    def _id_bytes(self) -> np.ndarray:
        return self.file.column("/items/id", check=False)

    @cached_property
    def _kept(self) -> np.ndarray:
        """(m,) rows of the generation: all when the ids hold as a whole, else those whose id some
        row checksum confirms."""
        if self._holds("/items/id"):
            return np.arange(self.file.n)
        known = np.zeros(self.file.n, dtype=bool)
        for one in self.file.meta["sets"]:
            base = f"/features/{one['name']}"
            digests = self.file.column(f"{base}/content_sha256", check=False)
            known |= self._matching(base, digests)[0]
        if not known.any():
            raise StoreDamaged(self.file.path, "no row of it can be told", "extract it anew")
        self.told.nameless = int((~known).sum())
        return np.flatnonzero(known)

    @property
    def n(self) -> int:
        return len(self.ids)

    @cached_property
    def ids(self) -> list[str]:
        return self._rows[0]

    @cached_property
    def id_bytes(self) -> np.ndarray:
        return text_bytes(self.ids)

    def _stored_ids(self) -> list[str]:
        return [
            raw.decode("utf-8", "surrogateescape") for raw in self._id_bytes[self._kept].tolist()
        ]

    def _cells(self, column: str) -> np.ndarray:
        try:
            return super()._cells(column)[self._kept]
        except StoreDamaged:
            if column not in self.told.columns:
                self.told.columns.append(column)
            return text_column([""] * len(self._kept))

    def _stored(self, column: Column, base: str) -> None:
        """A row of the generation stays when its own checksum holds."""
        kept, m = self._kept, len(self._kept)
        column.position[:m] = kept
        digests = self.file.column(f"{base}/content_sha256", check=False)
        match, finite = self._matching(base, digests)
        good = (match & finite)[kept]
        status, digests = self.file.column(f"{base}/status", check=False)[kept], digests[kept]
        if not self._holds(f"{base}/status"):
            # then a row counts as done when it has content and its checksum holds
            status = np.where(digests.any(axis=1), OK, ABSENT).astype(np.uint8)
        column.status[:m] = np.where(good | (status == FAILED), status, ABSENT)
        column.digest[:m] = np.where((column.status[:m] == ABSENT)[:, None], 0, digests)
        if self._holds(f"{base}/stat"):
            column.stat[:m] = self.file.column(f"{base}/stat")[kept]
        # without its own number a row counts as newer than any shard that a crash left behind
        column.seq[:m] = self.clock
        if self._holds(f"{base}/seq"):
            column.seq[:m] = self.file.column(f"{base}/seq")[kept]
        try:
            new = {row: at for at, row in enumerate(kept.tolist())}
            told = self._errors(column.declared.name)
            column.errors = {new[row]: said for row, said in told.items() if row in new}
        except StoreDamaged:
            column.errors = {}
        lost = np.flatnonzero((status != ABSENT) & (column.status[:m] == ABSENT))
        if lost.size:
            ids = [self.ids[row] for row in lost.tolist()]
            self.told.rows.setdefault(column.declared.name, []).extend(ids)

    def _holds(self, path: str) -> bool:
        try:
            self.file.column(path)
        except StoreDamaged:
            return False
        return True

    def _matching(self, base: str, digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bool twice: rows that match their CRC32, and rows that hold a vector (no NaN)."""
        region = self.file.regions[f"{base}/x"]
        crcs = self.file.column(f"{base}/crc32", check=False)
        match, finite = np.zeros(self.file.n, dtype=bool), np.zeros(self.file.n, dtype=bool)
        step = max(1, BLOCK // (region.shape[1] * region.dtype.itemsize))
        for start in range(0, self.file.n, step):
            rows = np.arange(start, min(start + step, self.file.n))
            x = self.file.rows(f"{base}/x", rows)
            match[rows] = row_crcs(self._id_bytes[rows], digests[rows], x) == crcs[rows]
            finite[rows] = np.isfinite(x).all(axis=1)
        return match, finite

    def _crcs(self, file: StoreFile, base: str) -> np.ndarray:
        # a damaged checksum has cost its own row already
        return file.column(f"{base}/crc32", check=file is not self.file)


def uuid_of(depot: Depot, file: RawFile) -> str:
    """The identity that a salvaged store gets. Raises StoreDamaged when the file is another's."""
    beside = depot.uuid()
    if beside and file.uuid and beside != file.uuid:
        raise StoreDamaged(
            file.path, f"belongs to another store than {depot.directory.name}",
            "put the file that belongs there back, or move one of the two away",
        )  # fmt: skip
    return beside or file.uuid or str(uuids.uuid4())
