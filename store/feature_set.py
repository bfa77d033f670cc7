"""FeatureSet: one column of vectors, read by rows, checked as it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from headstock.store.disk.column import Column
from headstock.store.recipe import Recipe

__all__ = ["FeatureSet"]


class FeatureSet(ABC):
    """The set ``name`` of a store; it shows what the store shows."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def _column(self) -> Column:
        """What the store knows of each of its rows."""

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
        return dict(self._column.declared.provenance)

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
        wanted = self._wanted(rows)
        out = np.empty((len(wanted), self.dim), dtype=np.float32)
        self.read_into(out, wanted)
        return out

    @abstractmethod
    def read_into(self, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        """``x`` into an (m, d) float32 array (a part of a larger one, say)."""

    def _wanted(self, rows: np.ndarray | None) -> np.ndarray:
        """(m,) int64: the numbers of ``rows``, which they keep as the store grows."""
        every = np.arange(len(self.status))
        return every if rows is None else every[rows]
