"""SingleStore: a store in one file, and what waits beside it, read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from headstock.store.disk import vectors
from headstock.store.disk.column import Column
from headstock.store.disk.declared import OK, Declared
from headstock.store.disk.depot import Depot
from headstock.store.disk.rows import unseen_column
from headstock.store.disk.state import State
from headstock.store.errors import StorageError, StoreBusy
from headstock.store.feature_set import FeatureSet
from headstock.store.items import Items
from headstock.store.reader import StoreReader

__all__ = ["LOOKS", "SingleStore"]

T = TypeVar("T")
LOOKS = 50  # how often a moving store is looked at again before it counts as busy


class SingleStore(StoreReader):
    """The reading half of FeatureStore."""

    def __init__(self, depot: Depot) -> None:
        super().__init__()
        self._depot = depot
        if depot.directory.is_dir():
            with suppress(StorageError):  # a reader may have no right to finish what was left
                depot.roll_forward()
        self._state = self._take()

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
        listing = self._depot.listing()
        return len(listing.shards) + len(listing.patches)

    @property
    def n(self) -> int:
        return self._state.n

    @property
    def items(self) -> Items:
        return self._state.items

    @property
    def declarations(self) -> Mapping[str, Declared]:
        return self._state.declared

    @property
    def _index(self) -> Mapping[str, int]:
        return self._state.index

    def each(self) -> Iterator[tuple[slice, SingleStore]]:
        yield slice(0, self.n), self

    def column(self, name: str) -> Column:
        self.declared(name)
        return self._looking(lambda state: state.column(name))

    def feature_set(self, name: str) -> FeatureSet:
        self.column(name)
        return _SingleSet(self, name)

    def unseen(self, name: str) -> dict[str, str]:
        status = self.column(name).status
        cells = self._looking(lambda state: state.columns.get(unseen_column(name)))
        if cells is None:
            return {}
        rows = np.flatnonzero((cells != "") & (status == OK)).tolist()
        return {self._state.ids[row]: cells[row] for row in rows}

    def sequence(self, name: str, ids: Sequence[str]) -> np.ndarray:
        """(m,) int64: a number for each row that grows whenever something is committed for it."""
        return self.column(name).seq[self.rows(ids)]

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


class _SingleSet(FeatureSet):
    """A set of it: the whole of a compacted one lies in place, and may be mapped."""

    def __init__(self, store: SingleStore, name: str) -> None:
        super().__init__(name)
        self._store, self._x = store, f"/features/{name}/x"

    @property
    def _column(self) -> Column:
        return self._store.column(self.name)

    def x(self, rows: np.ndarray | None = None) -> np.ndarray:
        if rows is None and (mapped := self._mapped()) is not None:
            return mapped
        return super().x(rows)

    def read_into(self, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        wanted, epoch = self._wanted(rows), self._column.declared.epoch

        def read(state: State) -> None:
            fresh = state.column(self.name)
            if fresh.declared.epoch != epoch:
                raise StoreBusy(self._store.path, f"set {self.name} was replaced", "try again")
            fresh.require(wanted, self._store.path)
            if not len(wanted) or fresh.source[wanted].any():
                vectors.read(state, fresh, wanted, out)
                return
            checked = state.file.checked(self._x)
            known = bool(checked[wanted].all())
            if known and state.file.is_mapped(self._x):
                vectors.gather(state.file.mapped(self._x), wanted, out)
            else:  # no map where nobody asked for one: its pages would count as memory
                vectors.read(state, fresh, wanted, out, known)
                checked[wanted] = True

        self._store._looking(read)

    def _mapped(self) -> np.ndarray | None:
        """The whole column in place, when it lies in one piece and every row is there."""
        column, state = self._column, self._store._state
        whole = (column.status == OK).all() and not column.source.any() and state.n == state.file.n
        if not whole or self.dtype != "float32" or not state.n:
            return None
        checked = state.file.checked(self._x)
        if not checked.all():
            vectors.read(state, column, np.arange(state.n), None)
            checked[:] = True
        return state.file.mapped(self._x)
