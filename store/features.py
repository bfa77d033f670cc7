"""FeatureStore: the rows of a manifest, and columns of vectors that were computed once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, Self, overload

import numpy as np

from headstock.store.disk import commit, trace
from headstock.store.disk.batch import Batch, checked, shard_name, shard_plan
from headstock.store.disk.compact import compact, empty_generation
from headstock.store.disk.declared import ABSENT, FAILED, OK, Declared
from headstock.store.disk.depot import Depot, is_parts
from headstock.store.disk.patch import Patch
from headstock.store.disk.rows import UNSEEN, Change, difference, unseen_column
from headstock.store.disk.state import State
from headstock.store.errors import OptionError, StorageError, StoreBusy
from headstock.store.items import Items, text_column
from headstock.store.opening import open_store
from headstock.store.progress import Report, unheard
from headstock.store.reader import StoreReader
from headstock.store.recipe import Recipe
from headstock.store.sharing import share
from headstock.store.single import LOOKS, SingleStore

__all__ = ["ABSENT", "FAILED", "OK", "FeatureStore"]

MANY_SHARDS = 512  # beyond this, and half of what is compacted, a commit compacts


class FeatureStore(SingleStore):
    """A store at ``path``. Open it with ``FeatureStore.open`` and as a context manager.

    It shows the moment it was opened (``refresh`` looks again) and, in mode ``a``, its own commits.
    Any number of processes may read and extend one store at the same time, without locks.
    """

    def __init__(self, depot: Depot, mode: str) -> None:
        super().__init__(depot)
        self._mode = mode

    @overload
    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["a"]) -> Self: ...

    @overload
    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["r"] = "r") -> StoreReader: ...

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: str = "r") -> StoreReader:
        """``r`` reads, a list of parts as well (see ``open_store``); ``a`` reads and extends, and
        makes the store when there is none.

        Raises OptionError (no store), StoreDamaged, StorageError, VersionError, UnsafeInput.
        """
        if mode not in ("r", "a"):
            raise OptionError(path, f"mode {mode!r} means nothing", "use 'r' or 'a'")
        if mode == "r" and is_parts(path):
            return open_store(path)
        depot = Depot(path)
        if mode == "a":
            _not_lost(depot)
            uuid = depot.found()
            if not depot.generations() and not depot.path.exists():
                raw = empty_generation(uuid)
                commit.publish_bytes(depot.generation_path(1), raw)
            depot.roll_forward()
            commit.sweep(depot.directory)
            trace.sweep(depot.path)
        return cls(depot, mode)

    def _writable(self) -> None:
        if self._mode != "a":
            raise OptionError(self.path, "was opened for reading", "open it with mode 'a'")

    def register(self, items: Items) -> Change:
        """Make rows known: new ids are appended, other cells updated; empty cells say nothing.

        Durable when it returns. Raises ManifestError for duplicate ids.
        """
        changes: list[Change] = []

        def patch(state: State) -> Patch | None:
            differs = difference(items, state.known, state.columns, state.root)
            changes.append(differs.change)
            if not differs.ids and differs.root is None:
                return None
            return Patch(ids=differs.ids, columns=differs.columns, root=differs.root)

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
            if overwrite or not self.agrees(wanted):
                return Patch(declare=[wanted])
            return None

        self.change(patch)

    def mark_unseen(self, name: str, unseen: Mapping[str, str], seen: Sequence[str] = ()) -> None:
        """Mark rows whose file was not seen (id -> code of the reason); no vector is touched. Rows
        that were ``seen`` lose the mark. Durable when it returns."""
        column = unseen_column(name)

        def patch(state: State) -> Patch | None:
            now = state.columns.get(column)
            marked = (
                {} if now is None else {state.ids[r]: now[r] for r in np.flatnonzero(now != "")}
            )
            cells = {i: "" for i in seen if i in marked}
            cells |= {i: code for i, code in unseen.items() if marked.get(i) != code}
            if not cells:
                return None
            columns = {column: text_column(list(cells.values()))}
            return Patch(ids=list(cells), columns=columns, clear=[column])

        if unseen or self.unseen(name):
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
            trace_file = trace.begin(self.path, self.uuid, target.name, len(made.ids))
            with suppress(FileNotFoundError):
                if not commit.publish_bytes(target, raw):
                    trace.drop(trace_file)
                    continue
                self.refresh()
                if self._state.watermark < number:
                    trace.keep(trace_file)
                    return
                # The number was free because its patch had been absorbed: ours was not. (If a
                # compaction did see ours, saying it again changes nothing.)
                commit.remove([target])
            trace.drop(trace_file)
        raise StoreBusy(self.path, "others keep changing its rows", "wait for them to end")

    def forget(self, ids: Sequence[str]) -> None:
        """Empty everything that was said of these rows: label, split, group and further columns;
        their files and vectors stay."""

        def patch(state: State) -> Patch | None:
            others = ("path/", f"extra/{UNSEEN}")  # not said by anybody
            columns = {c: v for c, v in state.columns.items() if not c.startswith(others)}
            rows = np.array([state.index[i] for i in ids if i in state.index], dtype=np.int64)
            full = np.zeros(len(rows), dtype=bool)
            for cells in columns.values():
                full |= cells[rows] != ""
            if not full.any():
                return None
            named = [state.ids[row] for row in rows[full].tolist()]
            blank = text_column([""] * len(named))
            return Patch(named, dict.fromkeys(columns, blank), clear=list(columns))

        if len(ids):
            self.change(patch)

    def _changed(self, name: str, batch: Batch) -> list[str]:
        """The ids of rows whose content is another than the store knows. A failed row that could
        not be read keeps the digest that its label was said of."""
        rows, modality = self.rows(batch.ids), self.declared(name).recipe.modality
        known = self.column(name).digest[rows]
        unread = ~batch.digest.any(axis=1) & known.any(axis=1) & (batch.status == FAILED)
        if unread.any():
            batch.digest = np.where(unread[:, None], known, batch.digest)
        had, same = known.any(axis=1), (known == batch.digest).all(axis=1)
        if modality != "columns":  # files: other sets may know this content
            for other in self.all_sets:
                if (same | ~batch.digest.any(axis=1)).all():
                    break
                if other != name and self.declared(other).recipe.modality == modality:
                    known = self.column(other).digest[rows]
                    had |= known.any(axis=1)
                    same |= known.any(axis=1) & (known == batch.digest).all(axis=1)
        changed = np.flatnonzero(had & ~same & batch.digest.any(axis=1))
        return [batch.ids[at] for at in changed.tolist()]

    def commit(self, name: str, batch: Batch) -> None:
        """Add rows of a set. When it returns they are durable and will never be computed again.

        A row whose content is another than before loses its label, split and group: they were said
        of what it was. Raises OptionError for a batch that no store takes, StorageError.
        """
        self._writable()
        column = self.column(name)
        batch = checked(batch, column.declared)
        state = self._state
        missing = [i for i in batch.ids if i not in state.known]
        if missing:
            raise OptionError(self.path, f"has no row {missing[0]}", "register rows first")
        changed = self._changed(name, batch)
        self.forget(changed)
        self._still_ours(name, column.declared.epoch)
        self._publish(name, batch)
        if self._overtaken():
            self.refresh()
            self._still_ours(name, column.declared.epoch)
            self.forget(changed)  # what was said in between was said of the content before
        pending = len(self._depot.listing().shards)
        if pending >= MANY_SHARDS:
            column = self.column(name)
            compacted = int(((column.source == 0) & (column.status == OK)).sum())
            if pending * len(batch.ids) >= compacted / 2:
                self.compact()

    def _still_ours(self, name: str, epoch: int) -> None:
        """Somebody else may have changed the store, and declared this very set anew."""
        if self.declared(name).epoch != epoch:
            raise StoreBusy(
                f"{self.path}, set {name}", "was replaced by another process while rows were added",
                "let it finish, then run this again",
            )  # fmt: skip

    def _publish(self, name: str, batch: Batch) -> None:
        """Make the shard of a checked batch, and show it."""
        again = 0
        for _ in range(LOOKS):
            column = self.column(name)  # which may look again
            state, declared = self._state, column.declared
            seq = state.clock + 1
            plan, arrays = shard_plan(batch, declared, self.uuid, seq)
            raw, shard = plan.pack(arrays), shard_name(batch, declared, again)
            target = self._depot.directory / shard
            trace_file = trace.begin(self.path, self.uuid, shard, len(batch.ids))
            try:
                made = commit.publish_bytes(target, raw)
            except FileNotFoundError as error:
                raise StorageError(self.path, f"{self._depot.directory.name} is gone") from error
            if made:
                trace.keep(trace_file)
                rows = np.array([state.index[i] for i in batch.ids], dtype=np.int64)
                state.clock = seq
                column.lay(shard, seq, rows, replace(batch, x=batch.x[:, :0]))
                known = self._by_digest.get(name, {})
                for at in np.flatnonzero(batch.status == OK).tolist():
                    known[batch.digest[at].tobytes()] = int(rows[at])
                return
            trace.drop(trace_file)
            self.refresh()  # somebody, perhaps an earlier run, did the same work
            now = self.progress(name, batch.ids)
            if (now.digest == batch.digest).all() and (now.status == batch.status).all():
                return
            again = self._state.clock + 1  # and it was overruled since: say it once more
        raise StoreBusy(self.path, "others keep changing the same rows", "wait for them to end")

    def share(
        self, name: str, ids: Sequence[str], size: int = 1024
    ) -> Generator[list[str], None, None]:
        """Lists of ``ids`` to compute now, until all are done by this or another process.

        ``for some in store.share("image", ids): ... store.commit(...)``: each list is claimed while
        the loop works on it, so that several extractors on one store divide the rows.
        """
        self._writable()
        return share(self, name, ids, size)

    def compact(self, force: bool = False, progress: Report = unheard) -> int:
        """Bring everything committed into one plain HDF5 file; its generation number."""
        self._writable()
        number = compact(self._depot, self._take, force, progress)
        self._show(self._take())
        return number

    def drop(self, ids: Sequence[str], progress: Report = unheard) -> None:
        """Take rows out of the store, vectors and all, and compact it. Whoever has it open keeps
        what was there, and is told when it looks again. Ids that are not here are passed over."""

        def patch(state: State) -> Patch | None:
            here = [i for i in ids if i in state.known]
            return Patch(here, drop=True) if here else None

        self.change(patch)
        self.compact(progress=progress)


def _not_lost(depot: Depot) -> None:
    """Raises StoreDamaged, before anything is made in its place, where ``features.h5.d`` is gone
    and something that was acknowledged with it."""
    if depot.directory.is_dir() or not (traces := trace.kept(depot.path)):
        return
    try:
        State(depot).close()
    except OptionError:
        if lost := trace.missing(depot.directory, traces):
            fix = f"put it all back from a copy, or delete {trace.folder(depot.path)} to begin anew"
            raise trace.gone(depot.directory, lost, fix) from None
