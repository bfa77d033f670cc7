"""What a store holds at one moment: a generation, with the pending patches and shards over it.

A row's newest word wins: each shard carries a sequence number greater than all its writer had
seen, and a generation keeps the number of the shard that each row came from. An old shard that
survived its compaction therefore changes nothing.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from headstock.store.disk import trace
from headstock.store.disk.batch import read_batch
from headstock.store.disk.checksum import agree, block_crcs, crc32, row_crcs
from headstock.store.disk.column import Column
from headstock.store.disk.declared import Declared
from headstock.store.disk.depot import Depot
from headstock.store.disk.file import REPAIR, StoreFile
from headstock.store.disk.forms import DROPPED, generation_form, shard_form
from headstock.store.disk.layout import text_bytes
from headstock.store.disk.patch import Patch
from headstock.store.disk.rows import dataset, items_of
from headstock.store.errors import StoreDamaged
from headstock.store.items import Items, text_column

__all__ = ["State"]

OPEN_SHARDS = 32
READ_BYTES = 1 << 20  # of vectors that are read and checked in one go: they stay in the cache
STORED = {"digest": "content_sha256"}


class State:
    """A consistent view. Raises FileNotFoundError when a newer generation came while it was taken:
    take it again. ``close`` it to release the generation's file."""

    def __init__(self, depot: Depot) -> None:
        self.depot = depot
        # what was acknowledged first, then what is pending, the generation after it: a file that
        # vanishes in between has been absorbed by the generation we then read
        self.traces = trace.kept(depot.path)
        self.listing = depot.listing()
        self.file = depot.newest()
        self.loaded: dict[str, Column] = {}
        self._open: OrderedDict[str, StoreFile] = OrderedDict()
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        meta = self.file.meta
        self._names, declared = generation_form(self.file)
        self.watermark, self.clock, self.root = meta["patches"], meta["clock"], meta["root"]
        self.declared: dict[str, Declared] = {d.name: d for d in declared}
        self.patches: list[Patch] = []
        self.drops = int(meta.get("drops", 0))  # rows that compactions have left out so far
        self.dropped: set[str] = set()  # rows that the next one leaves out
        for number in self.listing.patches:
            if number > self.watermark:
                with self._file(self.depot.patch_path(number), "patch") as file:
                    if file.generation != number:
                        raise StoreDamaged(file.path, f"is patch {file.generation}", REPAIR)
                    self.patches.append(Patch.read(file))
                change = (
                    self.dropped.update if self.patches[-1].drop else self.dropped.difference_update
                )
                change(self.patches[-1].ids)
                self.clock = max(self.clock, number)
                for made in self.patches[-1].declare:
                    self.declared[made.name] = made
                self.root = self.root if self.patches[-1].root is None else self.patches[-1].root
        self._check()

    def _check(self) -> None:
        """Nothing acknowledged may be missing. A generation of a headstock that knew no traces may
        have gathered what they tell of."""
        known = self._held_to(self.traces)
        trace.check(self.depot, self.listing, known, self.watermark, self.declared)

    def _held_to(self, traces: list[trace.Trace]) -> list[trace.Trace]:
        return trace.of(traces, self.file.uuid) if "traces" in self.file.meta else []

    def _missed(self, name: str) -> None:
        """Raises StoreDamaged for a listed file that has gone, unless its compaction deleted it."""
        known = [t for t in self._held_to(trace.kept(self.depot.path)) if t.name == name]
        if lost := trace.missing(self.depot.directory, known):
            raise trace.gone(self.depot.directory, lost)

    def _file(self, path: Path, kind: str) -> StoreFile:
        file = StoreFile(path, kind)
        if file.uuid != self.file.uuid:
            file.close()
            raise StoreDamaged(path, "belongs to another store", "move it away")
        return file

    @property
    def uuid(self) -> str:
        return self.file.uuid

    @property
    def absorbed(self) -> int:
        """The highest number of a patch in what this state shows."""
        return max((*self.listing.patches, self.watermark))

    # --- rows

    @cached_property
    def _rows(self) -> tuple[list[str], dict[str, int] | None, dict[str, np.ndarray]]:
        ids = self.file.texts("/items/id")
        columns = {c: text_column(self.file.texts(dataset(c))) for c in self._names}
        index = None
        if self.patches:
            index = {identity: row for row, identity in enumerate(ids)}
            for patch in self.patches:
                columns = patch.apply(ids, index, columns)
        return ids, index, columns

    @property
    def n(self) -> int:
        return len(self.ids) if self.patches else self.file.n

    @cached_property
    def ids(self) -> list[str]:
        return self._rows[0] if self.patches else self.file.texts("/items/id")

    @cached_property
    def id_bytes(self) -> np.ndarray:
        """(n,) fixed-length UTF-8."""
        return text_bytes(self.ids) if self.patches else self.file.column("/items/id")

    @cached_property
    def index(self) -> dict[str, int]:
        known = self._rows[1] if self.patches else None
        return known or {identity: row for row, identity in enumerate(self.ids)}

    @cached_property
    def known(self) -> dict[str, int]:
        """``index`` without the rows that are to go."""
        if not self.dropped:
            return self.index
        return {i: row for i, row in self.index.items() if i not in self.dropped}

    @cached_property
    def gone(self) -> set[str]:
        """The ids of rows that were dropped, and are not here again."""
        stored = DROPPED in self.file.regions
        gone = set(self.file.texts(DROPPED)) if stored else set()
        return (gone | self.dropped) - self.known.keys()

    @property
    def kept(self) -> np.ndarray:
        """(m,) the rows that a compaction takes."""
        return np.array([row for row, i in enumerate(self.ids) if i not in self.dropped], np.int64)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        return self._rows[2]

    @cached_property
    def items(self) -> Items:
        return items_of(text_column(self.ids), self.columns, self.root)

    # --- sets

    def column(self, name: str) -> Column:
        """The set ``name``, which is declared. Raises FileNotFoundError, StoreDamaged."""
        if name not in self.loaded:
            self.loaded[name] = self._column(self.declared[name])
        return self.loaded[name]

    def _column(self, declared: Declared) -> Column:
        column = Column.empty(declared, self.n)
        kept = {s["name"]: s["epoch"] for s in self.file.meta["sets"]}
        if kept.get(declared.name) == declared.epoch:
            self._stored(column, f"/features/{declared.name}")
        batches = []
        for name in self.listing.shards:
            if name.rsplit("-", 1)[0] == f"shard-{declared.name}":
                try:
                    with self._file(self.depot.directory / name, "shard") as file:
                        shard_form(file)
                        if file.meta["epoch"] > declared.epoch:
                            what = "is of a newer set than any file here declares"
                            raise StoreDamaged(file.path, what, trace.FIX)
                        if file.meta["epoch"] == declared.epoch:
                            shard_form(file, declared)
                            batches.append((int(file.meta["seq"]), name, read_batch(file)))
                except FileNotFoundError:
                    if self.overtaken():
                        raise
                    self._missed(name)
        for seq, name, batch in sorted(batches, key=lambda each: each[:2]):
            rows = np.array([self.index.get(i, -1) for i in batch.ids], dtype=np.int64)
            strange = [batch.ids[at] for at in np.flatnonzero(rows < 0).tolist()]
            if odd := next((i for i in strange if i not in self.gone), None):
                where = self.depot.directory / name
                raise StoreDamaged(where, f"holds row {odd!r}, the store has none")
            self.clock = max(self.clock, seq)
            column.lay(name, seq, rows, batch)
        return column

    def _stored(self, column: Column, base: str) -> None:
        """Fill in what the generation says of a set."""
        m = self.file.n
        for name in ("status", "digest", "stat", "seq"):
            stored = self.file.column(f"{base}/{STORED.get(name, name)}")
            if m == self.n:
                setattr(column, name, stored)
            else:
                getattr(column, name)[:m] = stored
        column.errors = self._errors(column.declared.name)

    def _errors(self, name: str) -> dict[int, tuple[str, str]]:
        rows = self.file.column(f"/errors/{name}/row").tolist()
        if not rows:
            return {}
        if not all(0 <= row < self.file.n for row in rows):
            raise StoreDamaged(self.file.path, f"/errors/{name}/row names no row", REPAIR)
        codes, lines = (self.file.texts(f"/errors/{name}/{c}") for c in ("code", "line"))
        return dict(zip(rows, zip(map(sys.intern, codes), lines, strict=True), strict=True))

    def overtaken(self) -> bool:
        """Whether there is a newer generation than the one this state shows.

        A shard that has gone while there is none was absorbed by the generation that we hold: its
        compaction is still deleting, and looking again would only race with it.
        """
        return max(self.depot.generations(), default=0) > self.file.generation

    # --- vectors

    def vectors(self, column: Column, rows: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Read the vectors of OK rows, as stored, into ``out`` (m, d), each checked; their CRCs.

        Raises StoreDamaged by id, FileNotFoundError when a shard has been absorbed meanwhile.
        """
        crcs = np.empty(len(rows), "<u4")
        sources = column.source[rows]
        for source in np.unique(sources).tolist():
            here = np.flatnonzero(sources == source)
            file, base = self._source(column, source)
            picked = rows[here]
            positions = column.position[picked]
            alone = len(here) == len(rows)
            x = file.rows(f"{base}/x", positions, out if alone else None)
            stored = self._crcs(file, base)[positions]
            what = (self.id_bytes[picked], column.digest[picked], x)
            if not agree(*what, stored):
                wrong = np.flatnonzero(row_crcs(*what) != stored)
                identity = self.ids[int(picked[wrong[0]])]
                raise StoreDamaged(
                    file.path, f"set {column.declared.name}: the vector of {identity} fails its "
                    f"checksum ({wrong.size} in this read)", REPAIR,
                )  # fmt: skip
            crcs[here] = stored
            if not alone:
                out[here] = x
        return crcs

    def ready(self, column: Column) -> None:
        """Load what ``vectors`` needs of the generation, so that several threads may call it."""
        _ = (self.id_bytes, self.ids, self._crcs(self.file, f"/features/{column.declared.name}"))

    def block_crcs(self, column: Column, rows: np.ndarray, step: int) -> list[int]:
        """What the vectors of each ``step`` rows of the generation must have, joined."""
        crcs = self._crcs(self.file, f"/features/{column.declared.name}")
        width = column.declared.dim * column.declared.stored.itemsize
        return block_crcs(self.id_bytes[rows], column.digest[rows], crcs[rows], width, step)

    def matches(self, column: Column, rows: np.ndarray, out: np.ndarray, crc: int) -> bool:
        """Read vectors of the generation, as stored, into ``out``; whether joined they have the
        CRC32 ``crc``."""
        self.unchecked(column, rows, out)
        return crc32(out.reshape(-1).view(np.uint8).data) == crc

    def unchecked(self, column: Column, rows: np.ndarray, out: np.ndarray) -> None:
        """Read vectors of the generation, as stored, into ``out``."""
        self.file.rows(f"/features/{column.declared.name}/x", rows, out)

    def _source(self, column: Column, source: int) -> tuple[StoreFile, str]:
        if source == 0:
            return self.file, f"/features/{column.declared.name}"
        name = column.sources[source]
        if name not in self._open:
            self._open[name] = self._file(self.depot.directory / name, "shard")
            while len(self._open) > OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(name)
        return self._open[name], ""

    def _crcs(self, file: StoreFile, base: str) -> np.ndarray:
        if base not in file.crcs:
            file.crcs[base] = file.column(f"{base}/crc32")
        return file.crcs[base]

    def close(self) -> None:
        for file in (self.file, *self._open.values()):
            with suppress(OSError):
                file.close()
