"""PartedStore: several stores behind one name, ``all.parts.json``, read as one.

The rows are those of the first part, then those of the second, and so on; no id comes twice, and
sets of one name were made by one recipe. A part is opened when something is asked of it, and few
are open at a time. Writing is done to a part, never to the whole. See ``disk.parts_file`` for the
list.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from headstock.store.disk.column import GENERATION, Column
from headstock.store.disk.declared import ABSENT, Declared
from headstock.store.disk.depot import Depot, is_parts
from headstock.store.disk.parts_file import read_parts
from headstock.store.disk.rows import columns_of, items_of
from headstock.store.disk.state import READ_BYTES
from headstock.store.errors import ManifestError, OptionError, RecipeMismatch, StoreBusy
from headstock.store.feature_set import FeatureSet
from headstock.store.items import Items, text_column
from headstock.store.reader import StoreReader
from headstock.store.single import SingleStore

__all__ = ["PartedStore"]

OPEN = 4  # parts open at a time


class PartedStore(StoreReader):
    """What ``open_store("all.parts.json")`` gives: the parts' rows one after the other.

    It shows the rows that the parts had when it was opened, in that order, also after ``refresh``.
    """

    def __init__(self, path: str | os.PathLike[str], parts: Sequence[Path] | None = None) -> None:
        super().__init__()
        self._path = Path(os.path.abspath(path))
        self._parts = list(parts or read_parts(self._path))
        self._open: OrderedDict[int, SingleStore] = OrderedDict()
        self._columns: dict[str, Column] = {}
        self._known: list[tuple[str, int]] = []  # uuid and rows of each part
        self._sets: dict[str, Declared] = {}
        self._generation = 0
        for number in range(len(self._parts)):
            part = self.part(number)
            self._known.append((part.uuid, part.n))
            self._generation = max(self._generation, part.generation)
            for made in part.declarations.values():
                self._agree(number, made)
        self.starts = np.concatenate([[0], np.cumsum([n for _, n in self._known])])

    def _agree(self, number: int, made: Declared) -> None:
        have = self._sets.setdefault(made.name, made)
        if lines := have.differences(made):
            raise RecipeMismatch(
                f"{self.parts[number]}, set {made.name}",
                f"was made another way than in {self.parts[0].name} ({', '.join(lines)})",
                "extract it again, or link stores of one recipe",
            )

    def part(self, number: int) -> SingleStore:
        """One of the parts, open for reading; it is closed when others have been asked for since.

        Raises StoreBusy when it is another store than it was.
        """
        store = self._open.get(number)
        if store is None:
            if is_parts(self.parts[number]):
                raise OptionError(self._path, "names a list of parts as a part", "name its parts")
            store = self._open[number] = SingleStore(Depot(self.parts[number]))
            while len(self._open) > OPEN:
                self._open.popitem(last=False)[1].close()
            if number < len(self._known):
                uuid, n = self._known[number]
                if store.uuid != uuid or store.n < n:
                    raise StoreBusy(self.parts[number], "was replaced meanwhile", "open it again")
        self._open.move_to_end(number)
        return store

    def each(self) -> Iterator[tuple[slice, SingleStore]]:
        for number in range(len(self.parts)):
            rows = slice(int(self.starts[number]), int(self.starts[number + 1]))
            yield rows, self.part(number)

    def refresh(self) -> None:
        self.close()
        self._columns.clear()
        self._by_digest.clear()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    # --- what is here

    @property
    def path(self) -> Path:
        return self._path

    @property
    def parts(self) -> Sequence[Path]:
        return self._parts

    @property
    def uuid(self) -> str:
        """Made of the parts' uuids."""
        joined = "\n".join(uuid for uuid, _ in self._known).encode()
        return hashlib.sha256(joined).hexdigest()[:32]

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def pending(self) -> int:
        return sum(part.pending for _, part in self.each())

    @property
    def n(self) -> int:
        return int(self.starts[-1])

    @property
    def declarations(self) -> Mapping[str, Declared]:
        return self._sets

    @property
    def items(self) -> Items:
        return self._items

    @cached_property
    def _items(self) -> Items:
        n, ids = self.n, np.empty(self.n, dtype=object)
        columns: dict[str, np.ndarray] = {}
        roots = [part.items.root for _, part in self.each()]
        same = len(set(roots)) == 1
        for span, part in self.each():
            items = part.items.take(np.arange(span.stop - span.start))
            ids[span] = items.id
            for name, cells in columns_of(items).items():
                if name.startswith("path/") and not same:
                    cells = text_column([os.path.join(items.root, p) if p else "" for p in cells])
                if name not in columns:
                    columns[name] = text_column([""] * n)
                columns[name][span] = cells
        if len(set(ids)) < n:
            raise _twice(self.path, ids)
        return items_of(ids, columns, roots[0] if same else "")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {identity: row for row, identity in enumerate(self.items.id.tolist())}

    def column(self, name: str) -> Column:
        if name not in self._columns:
            column = Column(
                declared=self.declared(name),
                status=np.full(self.n, ABSENT, dtype=np.uint8),
                digest=np.zeros((self.n, 32), dtype=np.uint8),
                # nothing reads these of a whole: they cost no memory
                stat=np.broadcast_to(np.int64(-1), (self.n, 2)),
                seq=np.broadcast_to(np.int64(0), (self.n,)),
                source=np.broadcast_to(np.int32(1), (self.n,)),
                position=np.broadcast_to(np.int64(0), (self.n,)),
                sources=[GENERATION],
                errors={},
            )
            for span, part in self.each():
                if name in part.all_sets:
                    theirs, n = part.column(name), span.stop - span.start
                    column.status[span], column.digest[span] = theirs.status[:n], theirs.digest[:n]
                    failed = {span.start + r: e for r, e in theirs.errors.items() if r < n}
                    column.errors.update(failed)
            self._columns[name] = column
        return self._columns[name]

    def unseen(self, name: str) -> dict[str, str]:
        self.declared(name)
        marks: dict[str, str] = {}
        for _, part in self.each():
            marks |= part.unseen(name) if name in part.all_sets else {}
        return marks

    def feature_set(self, name: str) -> FeatureSet:
        self.declared(name)
        return _PartedSet(self, name)

    def check_ids(self) -> None:
        """Raises ManifestError when two parts have a row of one id. Memory: 16 bytes a row."""
        marks = np.empty(self.n, dtype="<u8")
        for span, part in self.each():
            ids = part.items.id[: span.stop - span.start].tolist()
            raw = (
                hashlib.blake2b(i.encode("utf-8", "replace"), digest_size=8).digest() for i in ids
            )
            marks[span] = np.frombuffer(b"".join(raw), dtype="<u8")
        if len(np.unique(marks)) < len(marks):
            _ = self.items  # which says the id


class _PartedSet(FeatureSet):
    """A set over all parts: each part is read once, whatever the order of the rows asked for."""

    def __init__(self, store: PartedStore, name: str) -> None:
        super().__init__(name)
        self._store = store

    @property
    def _column(self) -> Column:
        return self._store.column(self.name)

    def read_into(self, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        wanted = self._wanted(rows)
        self._column.require(wanted, self._store.path)
        homes = np.searchsorted(self._store.starts, wanted, side="right") - 1
        step = max(1, READ_BYTES // (self.dim * 4))
        for number in np.unique(homes).tolist():
            theirs = self._store.part(number).feature_set(self.name)
            here = np.flatnonzero(homes == number)
            local = wanted[here] - self._store.starts[number]
            if here[-1] - here[0] + 1 == len(here):
                theirs.read_into(out[here[0] : here[-1] + 1], local)
                continue
            for start in range(0, len(here), step):
                part = slice(start, start + step)
                out[here[part]] = theirs.x(local[part])


def _twice(path: Path, ids: np.ndarray) -> ManifestError:
    seen: set[str] = set()
    for again in ids.tolist():
        if again in seen:
            break
        seen.add(again)
    what = f"the id {again!r} is in two parts"
    return ManifestError(path, what, "give every row an id of its own")
