"""FeatureSet: one column of vectors, read by rows, checked as it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.store.disk.declared import OK
from headstock.store.disk.halves import widen
from headstock.store.disk.state import BLOCK, Column, State
from headstock.store.errors import StoreBusy
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["FeatureSet"]

MANY = 8  # blocks from which on threads pay
READS = 48  # a block, from which on they cost more than they give: each holds the lock in between
WIDER = 4  # such a block: what a map costs is shared by more rows
MOST = 4  # threads


class FeatureSet:
    """The set ``name`` of a store; it shows what the store shows."""

    def __init__(self, store: StoreReader, name: str) -> None:
        self._store, self.name = store, name

    @property
    def _column(self) -> Column:
        return self._store._column(self.name)

    @property
    def recipe(self) -> Recipe:
        return self._column.declared.recipe

    @property
    def dim(self) -> int:
        return self._column.declared.dim

    @property
    def dtype(self) -> str:
        """``float32`` or ``float16``, as stored; reading gives float32 always."""
        return self._column.declared.dtype

    @property
    def feature_names(self) -> list[str] | None:
        names = self._column.declared.feature_names
        return None if names is None else list(names)

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, device and the like when the set was declared: what changes no vector."""
        told: Mapping[str, Any] = self._column.declared.provenance
        return dict(told)

    @property
    def status(self) -> np.ndarray:
        """(n,) uint8: ABSENT, OK or FAILED."""
        return self._column.status

    @property
    def digest(self) -> np.ndarray:
        """(n, 32) uint8: sha256 of the content each row was made from."""
        return self._column.digest

    def x(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) float32 vectors of ``rows`` (integers or a mask; default all n), each checked.

        All rows of a compacted float32 set come as a read-only memory map; anything else is a copy.
        A row of a compacted set that was checked is not checked again while the store is open.
        Raises IncompleteSet by name and count, StoreDamaged by id.
        """
        if rows is None and (mapped := self._mapped()) is not None:
            return mapped
        m = self._store.n if rows is None else len(np.arange(self._store.n)[rows])
        out = np.empty((m, self.dim), dtype=np.float32)
        self.read_into(out, rows)
        return out

    def read_into(self, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        """``x`` into an (m, d) float32 array (a part of a larger one, say)."""
        every = np.arange(self._store.n)
        wanted = every if rows is None else every[rows]  # rows keep their numbers as stores grow
        declared = self._column.declared

        def read(state: State) -> None:
            fresh = state.column(self.name)
            if fresh.declared.epoch != declared.epoch:
                raise StoreBusy(self._store.path, f"set {self.name} was replaced", "try again")
            if (fresh.status[wanted] != OK).any():
                raise self._store._incomplete(self.name, fresh, wanted)
            if not len(wanted) or fresh.source[wanted].any():
                _read(state, fresh, wanted, out)
                return
            checked = state.file.checked(self._path)
            known = bool(checked[wanted].all())
            if known and state.file.is_mapped(self._path):
                _gather(state.file.mapped(self._path), wanted, out)
            else:  # no map where nobody asked for one: its pages would count as memory
                _read(state, fresh, wanted, out, known)
                checked[wanted] = True

        self._store._looking(read)

    @property
    def _path(self) -> str:
        return f"/features/{self.name}/x"

    def _mapped(self) -> np.ndarray | None:
        """The whole column in place, when it lies in one piece and every row is there."""
        column, state = self._column, self._store._state
        whole = (column.status == OK).all() and not column.source.any() and state.n == state.file.n
        if not whole or self.dtype != "float32" or not state.n:
            return None
        checked = state.file.checked(self._path)
        if not checked.all():
            _read(state, column, np.arange(state.n), None)
            checked[:] = True
        return state.file.mapped(self._path)


def _read(
    state: State, column: Column, rows: np.ndarray, out: np.ndarray | None, known: bool = False
) -> None:
    """Read ``rows`` and check each, into ``out`` when given; ``known``: all were checked before.

    Much of it by threads: reading and checking a block leaves the others the interpreter.
    """
    dim, stored = column.declared.dim, column.declared.stored
    step = max(1, BLOCK // (dim * stored.itemsize))
    direct = out is not None and out.flags.c_contiguous and out.dtype == stored
    scattered = _scattered(rows, step)
    if scattered and direct:
        step *= WIDER

    def work(starts: np.ndarray) -> None:
        scratch = np.empty((0 if direct else min(step, len(rows)), dim), stored)
        mine = rows[starts[0] : starts[-1] + step]
        told = iter(()) if pending or known else iter(state.block_crcs(column, mine, step))
        for start in starts.tolist():
            block = rows[start : start + step]
            part = None if out is None else out[start : start + len(block)]
            x = part if direct and part is not None else scratch[: len(block)]
            if known:
                state.unchecked(column, block, x)
            elif pending or not state.matches(column, block, x, next(told)):
                state.vectors(column, block, x)  # which checks row by row, and says which
            if part is not None and not direct:
                widen(x, part)

    if not len(rows):
        return
    starts = np.arange(0, len(rows), step)
    pending = bool(column.source[rows].any())
    threads = _threads() if len(starts) >= MANY and not scattered else 1
    if threads == 1 or pending:  # shards are opened one after the other
        work(starts)
        return
    state.ready(column)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, np.array_split(starts, min(threads, len(starts)))))


def _scattered(rows: np.ndarray, step: int) -> bool:
    """Whether a block takes so many reads that threads would wait for the interpreter's lock."""
    return int(np.count_nonzero(rows[1:] - rows[:-1] != 1)) * step > READS * len(rows)


def _gather(x: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy rows of a map that has been checked."""
    step = max(1, BLOCK // (x.shape[1] * x.dtype.itemsize))
    plain = x.view(np.ndarray)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        unbroken = block[-1] - block[0] == len(block) - 1 and (np.diff(block) == 1).all()
        source = plain[block[0] : block[-1] + 1] if unbroken else plain[block]
        widen(source, out[start : start + len(block)])


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST)
