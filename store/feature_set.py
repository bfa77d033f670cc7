"""FeatureSet: one column of vectors, read by rows, checked as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.store.declared import OK
from headstock.store.errors import StoreBusy
from headstock.store.recipe import Recipe
from headstock.store.state import BLOCK, Column, State

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["FeatureSet"]


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

        All rows of a compacted float32 set come as a read-only memory map, checked once; anything
        else is a copy. Raises IncompleteSet by name and count, StoreDamaged by id.
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
        stored = declared.stored
        step = max(1, BLOCK // (self.dim * stored.itemsize))
        direct = out.flags.c_contiguous and out.dtype == stored
        scratch = np.empty((0 if direct else step, self.dim), stored)

        def read(state: State) -> None:
            fresh = state.column(self.name)
            if fresh.declared.epoch != declared.epoch:
                raise StoreBusy(self._store.path, f"set {self.name} was replaced", "try again")
            if (fresh.status[wanted] != OK).any():
                raise self._store._incomplete(self.name, fresh, wanted)
            for start in range(0, len(wanted), step):
                block = wanted[start : start + step]
                part = out[start : start + len(block)]
                x = part if direct else scratch[: len(block)]
                state.vectors(fresh, block, x)
                if not direct:
                    part[:] = x

        self._store._looking(read)

    def _mapped(self) -> np.ndarray | None:
        """The whole column in place, when it lies in one piece and every row is there."""
        column, state = self._column, self._store._state
        whole = (column.status == OK).all() and not column.source.any() and state.n == state.file.n
        if not whole or self.dtype != "float32" or not state.n:
            return None
        checked = state.file.__dict__.setdefault("checked", set())
        if self.name not in checked:
            step = max(1, BLOCK // (self.dim * 4))
            scratch = np.empty((step, self.dim), np.float32)
            for start in range(0, state.n, step):
                rows = np.arange(start, min(start + step, state.n))
                state.vectors(column, rows, scratch[: len(rows)])
            checked.add(self.name)
        region = state.file.regions[f"/features/{self.name}/x"]
        return np.memmap(
            state.file.file, dtype=region.dtype, mode="r", offset=region.offset, shape=region.shape
        )
