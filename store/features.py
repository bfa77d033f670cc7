"""FeatureStore and FeatureSet: rows, and columns of vectors that were computed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from headstock.store import commit
from headstock.store.batch import Batch, checked, shard_name, shard_plan
from headstock.store.compact import compact, empty_generation
from headstock.store.declared import ABSENT, OK, Declared
from headstock.store.depot import Depot
from headstock.store.errors import (
    IncompleteSet,
    MissingSet,
    OptionError,
    RecipeMismatch,
    StorageError,
    StoreBusy,
)
from headstock.store.feature_set import FeatureSet
from headstock.store.items import Items
from headstock.store.patch import Patch
from headstock.store.recipe import Recipe
from headstock.store.rows import Change, difference
from headstock.store.state import Column, State

__all__ = ["FeatureStore", "Progress", "RowError"]

T = TypeVar("T")
MANY_SHARDS = 512  # beyond this, and half of what is compacted, a commit compacts
LOOKS = 50


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
    row was made from, zeros when absent. ``stat`` (n, 2) int64: the file's size and mtime_ns then,
    -1 unknown: a hint that saves hashing, never a proof.
    """

    status: np.ndarray
    digest: np.ndarray
    stat: np.ndarray


class FeatureStore:
    """A store at ``path``. Open it with ``FeatureStore.open`` and as a context manager.

    It shows the moment it was opened (``refresh`` looks again) and, in mode ``a``, its own commits.
    Any number of processes may read and extend one store at the same time, without locks.
    """

    def __init__(self, depot: Depot, mode: str) -> None:
        self._depot, self._mode = depot, mode
        self._state = self._take()
        self._by_digest: dict[str, dict[bytes, int]] = {}
        self._pending = len(self._state.listing.shards)

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r") -> FeatureStore:
        """``r`` reads; ``a`` reads and extends, and makes the store when there is none.

        Raises OptionError (no store), StoreDamaged, StorageError, VersionError, UnsafeInput.
        """
        if mode not in ("r", "a"):
            raise OptionError(path, f"mode {mode!r} means nothing", "use 'r' or 'a'")
        depot = Depot(path)
        if mode == "a":
            uuid = depot.found()
            if not depot.generations() and not depot.path.exists():
                raw = empty_generation(uuid)
                commit.publish(depot.generation_path(1), lambda fd: commit.write_all(fd, raw, 0))
            depot.roll_forward()
            commit.sweep(depot.directory)
        elif depot.directory.is_dir():
            with suppress(StorageError):  # a reader may have no right to finish what was left
                depot.roll_forward()
        return cls(depot, mode)

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
        """See what others have committed since. Rows keep their numbers: stores only grow."""
        fresh = self._take()
        self._state.close()
        self._state = fresh
        self._by_digest.clear()
        self._pending = len(fresh.listing.shards)

    def close(self) -> None:
        self._state.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        return len(self._depot.listing().shards) + len(self._depot.listing().patches)

    @property
    def n(self) -> int:
        return self._state.n

    @property
    def items(self) -> Items:
        """The rows, in the order of their first registration."""
        return self._state.items

    @property
    def sets(self) -> list[str]:
        return list(self._state.declared)

    def declared(self, name: str) -> Declared:
        """Raises MissingSet with the names that exist."""
        if name not in self._state.declared:
            have = ", ".join(self.sets) or "none yet"
            raise MissingSet(self.path, f"has no feature set {name!r}", f"it has: {have}")
        return self._state.declared[name]

    def _column(self, name: str) -> Column:
        self.declared(name)
        return self._looking(lambda state: state.column(name))

    def progress(self, name: str, ids: Sequence[str] | None = None) -> Progress:
        """What is known of each row of the set; of ``ids`` (default: all rows) in that order."""
        column = self._column(name)
        if ids is None:
            return Progress(column.status.copy(), column.digest.copy(), column.stat.copy())
        index = self._state.index
        rows = np.array([index.get(i, -1) for i in ids], dtype=np.int64)
        column = Column.empty(column.declared, 1) if not self.n else column
        out = Progress(column.status[rows], column.digest[rows], column.stat[rows])
        out.status[rows < 0], out.digest[rows < 0], out.stat[rows < 0] = ABSENT, 0, -1
        return out

    def by_digest(self, name: str, digests: np.ndarray) -> dict[bytes, np.ndarray]:
        """Vectors already here for these content digests (m, 32), under whatever id: digest
        bytes -> (d,) vector."""
        column = self._column(name)
        if name not in self._by_digest:
            rows = np.flatnonzero(column.status == OK)
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

        Raises MissingSet, IncompleteSet, StoreDamaged. Memory: the result and 8 MB; a single
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

    # --- extending

    def _writable(self) -> None:
        if self._mode != "a":
            raise OptionError(self.path, "was opened for reading", "open it with mode 'a'")

    def register(self, items: Items) -> Change:
        """Make rows known: new ids are appended, other cells updated; empty cells say nothing.

        Durable when it returns. Raises ManifestError for duplicate ids.
        """
        changes: list[Change] = []

        def patch(state: State) -> Patch | None:
            told = difference(items, state.index, state.columns, state.root)
            changes.append(told.change)
            if not told.ids and told.root is None:
                return None
            return Patch(ids=told.ids, columns=told.columns, root=told.root)

        self.change(patch)
        return changes[-1]

    def declare(
        self,
        name: str,
        recipe: Recipe,
        dim: int,
        dtype: str = "float32",
        feature_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Make the set, or check that it is this one.

        Raises RecipeMismatch with the differing fields; ``overwrite`` replaces the column instead,
        and all its rows become absent.
        """
        wanted = Declared.of(name, recipe, dim, dtype, feature_names, provenance)

        def patch(state: State) -> Patch | None:
            have = state.declared.get(name)
            if have is not None and not overwrite:
                if lines := have.differences(wanted):
                    raise RecipeMismatch(
                        f"{self.path}, set {name}", f"was made another way ({', '.join(lines)})",
                        "use the same settings, another set name, or --overwrite",
                    )  # fmt: skip
                return None
            return Patch(declare=[wanted])

        self.change(patch)

    def change(self, patch: Callable[[State], Patch | None]) -> None:
        """Commit the patch that ``patch`` makes of the present state, or of the newer one when
        somebody else was faster."""
        self._writable()
        for _ in range(LOOKS):
            self.refresh()
            made = self._looking(patch)
            if made is None:
                return
            number = max((*self._state.listing.patches, self._state.watermark)) + 1
            raw = made.pack(number, self.uuid)
            target = self._depot.patch_path(number)
            with suppress(FileNotFoundError):
                if not commit.publish(target, lambda fd, raw=raw: commit.write_all(fd, raw, 0)):
                    continue
                self.refresh()
                if self._state.watermark < number:
                    return
                # The number was free because its patch had been absorbed: ours was not. (If a
                # compaction did see ours, saying it again changes nothing.)
                commit.remove([target])
        raise StoreBusy(self.path, "others keep changing its rows", "wait for them to end")

    def commit(self, name: str, batch: Batch) -> None:
        """Add rows of a set. When it returns they are durable and will never be computed again.

        Raises OptionError for a batch that no store takes, StorageError.
        """
        self._writable()
        column = self._column(name)
        batch = checked(batch, column.declared)
        state = self._state
        missing = [i for i in batch.ids if i not in state.index]
        if missing:
            raise OptionError(self.path, f"has no row {missing[0]}", "register rows first")
        seq = state.clock + 1
        plan, arrays = shard_plan(batch, column.declared, self.uuid, seq)
        raw, shard = plan.pack(arrays), shard_name(batch, column.declared)
        target = self._depot.directory / shard
        try:
            made = commit.publish(target, lambda fd: commit.write_all(fd, raw, 0))
        except FileNotFoundError as error:
            raise StorageError(self.path, f"{self._depot.directory.name} is gone") from error
        if not made:  # somebody else did the same work; theirs may have another number
            self.refresh()
            return
        rows = np.array([state.index[i] for i in batch.ids], dtype=np.int64)
        state.clock = seq
        column.lay(shard, seq, rows, replace(batch, x=batch.x[:, :0]))
        self._by_digest.get(name, {}).update(
            (batch.digest[at].tobytes(), int(rows[at])) for at in np.flatnonzero(batch.status == OK)
        )
        self._pending += 1
        if self._pending >= MANY_SHARDS and self._pending * len(rows) >= state.file.n / 2:
            self.compact()

    def compact(self, force: bool = False) -> int:
        """Bring everything committed into one plain HDF5 file; its generation number."""
        self._writable()
        number = compact(self._depot, self._take, force)
        self.refresh()
        return number

    def _incomplete(self, name: str, column: Column, rows: np.ndarray) -> IncompleteSet:
        absent = int((column.status[rows] == ABSENT).sum())
        failed = int((column.status[rows] != OK).sum()) - absent
        return IncompleteSet(
            f"{self.path}, set {name}",
            f"{absent + failed} of {len(rows)} rows have no vector ({absent} not extracted, "
            f"{failed} failed)",
            "run `headstock extract` again, or use the complete rows only",
        )
