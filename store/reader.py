"""Reading a store: its rows, its sets, what is done and what failed, and the vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from headstock.store.disk.declared import ABSENT, OK, Declared
from headstock.store.disk.depot import Depot
from headstock.store.disk.rows import unseen_column
from headstock.store.disk.state import Column, State
from headstock.store.errors import IncompleteSet, MissingSet, StoreBusy, near
from headstock.store.feature_set import FeatureSet
from headstock.store.fingerprints import is_fingerprint
from headstock.store.items import Items

__all__ = ["LOOKS", "Progress", "RowError", "StoreReader"]

T = TypeVar("T")
LOOKS = 50  # how often a moving store is looked at again before it counts as busy


class RowError(NamedTuple):
    """A row that could not be computed: set, id, a short code and one line of reason."""

    set: str
    id: str
    code: str
    line: str


@dataclass(frozen=True)
class Progress:
    """Rows of one set, aligned to the ids that were asked for.

    ``status`` (n,) uint8: ABSENT, OK or FAILED. ``digest`` (n, 32) uint8: sha256 of the content the
    row was made from, zeros when absent. ``stat`` (n, 2) int64: the file's size then and a mark of
    its path and times, -1 unknown: a hint that saves hashing, never a proof.
    """

    status: np.ndarray
    digest: np.ndarray
    stat: np.ndarray


class StoreReader:
    """The reading half of FeatureStore."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._state = self._take()
        self._by_digest: dict[str, dict[bytes, int]] = {}

    def _take(self) -> State:
        for _ in range(LOOKS):
            with suppress(FileNotFoundError):  # a compaction passed between two looks
                return State(self._depot)
        raise StoreBusy(self._depot.path, "changes faster than it can be read", "try again")

    def _looking(self, read: Callable[[State], T]) -> T:
        """``read(state)``, again on a fresh state when what it read from was absorbed meanwhile."""
        for _ in range(LOOKS):
            try:
                return read(self._state)
            except FileNotFoundError:
                self.refresh()
        raise StoreBusy(self._depot.path, "changes faster than it can be read", "try again")

    def refresh(self) -> None:
        """See what others have committed since. Rows keep their numbers: stores only grow, but for
        an explicit drop. Raises StoreBusy when somebody dropped rows meanwhile."""
        fresh = self._take()
        if fresh.drops != self._state.drops:
            fresh.close()
            raise StoreBusy(self.path, "rows were dropped from it meanwhile", "run this again")
        self._show(fresh)

    def _show(self, fresh: State) -> None:
        self._state.close()
        self._state = fresh
        self._by_digest.clear()

    def close(self) -> None:
        self._state.close()

    # --- what is here

    @property
    def path(self) -> Path:
        return self._depot.path

    @property
    def uuid(self) -> str:
        return self._state.file.uuid

    @property
    def generation(self) -> int:
        return self._state.file.generation

    @property
    def pending(self) -> int:
        """Files that wait for a compaction."""
        listing = self._depot.listing()
        return len(listing.shards) + len(listing.patches)

    @property
    def n(self) -> int:
        return self._state.n

    @property
    def items(self) -> Items:
        """The rows, in the order of their first registration."""
        return self._state.items

    @property
    def all_sets(self) -> list[str]:
        """All sets: ``sets`` and ``fingerprints``."""
        return list(self._state.declared)

    @property
    def sets(self) -> list[str]:
        """The feature sets."""
        return [n for n in self.all_sets if not is_fingerprint(self.declared(n).recipe)]

    @property
    def fingerprints(self) -> list[str]:
        """The sets that are kept to find copies by, and are no features."""
        return [n for n in self.all_sets if is_fingerprint(self.declared(n).recipe)]

    def declared(self, name: str) -> Declared:
        """Raises MissingSet with the names that exist."""
        if name not in self._state.declared:
            have = ", ".join(self.sets) or "none yet"
            fix = f"{near(name, self.sets)}it has: {have}"
            raise MissingSet(self.path, f"has no feature set {name!r}", fix)
        return self._state.declared[name]

    def _column(self, name: str) -> Column:
        self.declared(name)
        return self._looking(lambda state: state.column(name))

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """(m,) int64: the row of each id, -1 for an id that is not here."""
        index = self._state.index
        return np.array([index.get(i, -1) for i in ids], dtype=np.int64)

    def said(self, name: str, ids: Sequence[str]) -> np.ndarray:
        """(m,) int64: a number for each row that grows whenever something is committed for it."""
        return self._column(name).seq[self.rows(ids)]

    def behind(self) -> bool:
        """Whether others have committed something that is not seen here yet."""
        state = self._state
        known = set(state.listing.shards).union(*(c.sources for c in state.loaded.values()))
        return self._overtaken() or not known.issuperset(self._depot.listing().shards)

    def _overtaken(self) -> bool:
        """Whether others have changed rows or declared sets, or compacted."""
        seen = max((*self._state.listing.patches, self._state.watermark))
        if max(self._depot.listing().patches, default=0) > seen:
            return True
        return max(self._depot.generations(), default=0) > self.generation

    def progress(self, name: str, ids: Sequence[str] | np.ndarray | None = None) -> Progress:
        """What is known of each row of the set; of ``ids`` (default: all rows) in that order."""
        column = self._column(name)
        if ids is None:
            return Progress(column.status.copy(), column.digest.copy(), column.stat.copy())
        rows = self.rows(ids)
        column = Column.empty(column.declared, 1) if not self.n else column
        out = Progress(column.status[rows], column.digest[rows], column.stat[rows])
        out.status[rows < 0], out.digest[rows < 0], out.stat[rows < 0] = ABSENT, 0, -1
        return out

    def by_digest(self, name: str, digests: np.ndarray) -> dict[bytes, np.ndarray]:
        """Vectors already here for these content digests (m, 32), under whatever id: digest
        bytes -> (d,) vector."""
        column = self._column(name)
        if name not in self._by_digest:
            # rows that were imported have no digest and cannot be found by one
            rows = np.flatnonzero((column.status == OK) & column.digest.any(axis=1))
            keys = (d.tobytes() for d in column.digest[rows])
            self._by_digest[name] = dict(zip(keys, rows.tolist(), strict=True))
        known = self._by_digest[name]
        found = {k: known[k] for k in {d.tobytes() for d in digests} if k in known}
        if not found:
            return {}
        x = self.feature_set(name).x(np.array(list(found.values())))
        return dict(zip(found, x, strict=True))

    def errors(self, name: str | None = None) -> list[RowError]:
        """Rows that failed, of one set or of all."""
        names = self.sets if name is None else [name]
        return [
            RowError(each, self._state.ids[row], *said)
            for each in names
            for row, said in sorted(self._column(each).errors.items())
        ]

    def unseen(self, name: str) -> dict[str, str]:
        """Rows that have a vector of the set although the last extraction that looked for their
        file did not see it, by id: the code of the reason (``missing``, ``unreadable`` ...)."""
        status = self._column(name).status
        cells = self._looking(lambda state: state.columns.get(unseen_column(name)))
        if cells is None:
            return {}
        rows = np.flatnonzero((cells != "") & (status == OK)).tolist()
        return {self._state.ids[row]: cells[row] for row in rows}

    def feature_set(self, name: str) -> FeatureSet:
        """Raises MissingSet with the names that exist."""
        self._column(name)
        return FeatureSet(self, name)

    # --- reading

    def _on(self, on: str | Sequence[str]) -> list[str]:
        names = on.split("+") if isinstance(on, str) else list(on)
        for name in names:
            self.declared(name)
        return names

    def complete(self, on: str | Sequence[str]) -> np.ndarray:
        """(n,) bool: rows that have a vector in every one of the sets."""
        columns = [self._column(name) for name in self._on(on)]
        return np.logical_and.reduce([c.status == OK for c in columns])

    def matrix(
        self, on: str | Sequence[str], rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, dict[str, slice]]:
        """(m, sum of d) float32 and each set's columns in it; ``on`` is ``image+audio`` or names.

        Raises MissingSet, IncompleteSet, StoreDamaged. Memory: the result and 2 MB; a single
        compacted float32 set with all rows is mapped instead and costs none.
        """
        names = self._on(on)
        if len(names) == 1:
            x = self.feature_set(names[0]).x(rows)
            return x, {names[0]: slice(0, x.shape[1])}
        spans, at = {}, 0
        for name in names:
            spans[name] = slice(at, at := at + self.declared(name).dim)
        m = self.n if rows is None else len(np.arange(self.n)[rows])
        out = np.empty((m, at), dtype=np.float32)
        for name, span in spans.items():
            self.feature_set(name).read_into(out[:, span], rows)
        return out, spans

    def _incomplete(self, name: str, column: Column, rows: np.ndarray) -> IncompleteSet:
        absent = int((column.status[rows] == ABSENT).sum())
        failed = int((column.status[rows] != OK).sum()) - absent
        return IncompleteSet(
            f"{self.path}, set {name}",
            f"{absent + failed} of {len(rows)} rows have no vector ({absent} not extracted, "
            f"{failed} failed)",
            "run `headstock extract` again, or use the complete rows only",
        )
