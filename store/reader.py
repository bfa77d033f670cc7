"""StoreReader: what every store answers, whether its rows lie in one file or in several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from headstock.store.disk.column import Column
from headstock.store.disk.declared import ABSENT, OK, Declared
from headstock.store.errors import MissingSet, RecipeMismatch, near
from headstock.store.feature_set import FeatureSet
from headstock.store.fingerprints import is_fingerprint
from headstock.store.items import Items

__all__ = ["Progress", "RowError", "StoreReader"]


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


class StoreReader(ABC):
    """A store open for reading, as a context manager. ``open_store`` makes one.

    It shows the moment it was opened; ``refresh`` looks again. What is abstract here is all that a
    store of another kind has to bring; ``tests/store/test_contract.py`` is what it must pass.
    """

    def __init__(self) -> None:
        self._by_digest: dict[str, dict[bytes, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the files."""

    @abstractmethod
    def refresh(self) -> None:
        """See what others have committed since. Rows keep their numbers: stores only grow, but for
        an explicit drop. Raises StoreBusy when somebody dropped rows meanwhile."""

    # --- what is here

    @property
    @abstractmethod
    def path(self) -> Path: ...

    @property
    @abstractmethod
    def uuid(self) -> str: ...

    @property
    @abstractmethod
    def generation(self) -> int:
        """How often it was compacted; of parts, the highest of theirs."""

    @property
    @abstractmethod
    def pending(self) -> int:
        """Files that wait for a compaction."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Rows."""

    @property
    @abstractmethod
    def items(self) -> Items:
        """The rows, in the order of their first registration; those of parts one after the other.
        Paths keep their root where the parts have one root."""

    @property
    @abstractmethod
    def declarations(self) -> Mapping[str, Declared]:
        """All sets, by name."""

    @property
    def parts(self) -> Sequence[Path]:
        """The stores that it is made of; none for a store in one file."""
        return ()

    @abstractmethod
    def each(self) -> Iterator[tuple[slice, StoreReader]]:
        """Each part and its rows of the whole; a store in one file is its only part."""

    @abstractmethod
    def column(self, name: str) -> Column:
        """What is known of each row of the set. Raises MissingSet."""

    @abstractmethod
    def feature_set(self, name: str) -> FeatureSet:
        """Raises MissingSet with the names that exist."""

    @abstractmethod
    def unseen(self, name: str) -> dict[str, str]:
        """Rows that have a vector of the set although the last extraction that looked for their
        file did not see it, by id: the code of the reason (``missing``, ``unreadable`` ...)."""

    @property
    @abstractmethod
    def _index(self) -> Mapping[str, int]:
        """The row of each id."""

    # --- what follows from it

    @property
    def all_sets(self) -> list[str]:
        """All sets: ``sets`` and ``fingerprints``."""
        return list(self.declarations)

    @property
    def sets(self) -> list[str]:
        """The feature sets."""
        return [n for n, d in self.declarations.items() if not is_fingerprint(d.recipe)]

    @property
    def fingerprints(self) -> list[str]:
        """The sets that are kept to find copies by, and are no features."""
        return [n for n, d in self.declarations.items() if is_fingerprint(d.recipe)]

    def declared(self, name: str) -> Declared:
        """Raises MissingSet with the names that exist."""
        if (have := self.declarations.get(name)) is None:
            have_names = ", ".join(self.sets) or "none yet"
            fix = f"{near(name, self.sets)}it has: {have_names}"
            raise MissingSet(self.path, f"has no feature set {name!r}", fix)
        return have

    def agrees(self, wanted: Declared) -> bool:
        """Whether the set exists and was made this way; False when there is none.

        Raises RecipeMismatch with the differing fields.
        """
        have = self.declarations.get(wanted.name)
        if have is not None and (lines := have.differences(wanted)):
            raise RecipeMismatch(
                f"{self.path}, set {wanted.name}", f"was made another way ({', '.join(lines)})",
                "use the same settings, another set name, or --overwrite",
            )  # fmt: skip
        return have is not None

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """(m,) int64: the row of each id, -1 for an id that is not here."""
        index = self._index
        return np.array([index.get(i, -1) for i in ids], dtype=np.int64)

    def progress(self, name: str, ids: Sequence[str] | np.ndarray | None = None) -> Progress:
        """What is known of each row of the set; of ``ids`` (default: all rows) in that order."""
        column = self.column(name)
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
        column = self.column(name)
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
        return [
            RowError(each, self.items.id[row], *reason)
            for each in (self.sets if name is None else [name])
            for row, reason in sorted(self.column(each).errors.items())
        ]

    def _on(self, on: str | Sequence[str]) -> list[str]:
        names = on.split("+") if isinstance(on, str) else list(on)
        for name in names:
            self.declared(name)
        return names

    def complete(self, on: str | Sequence[str]) -> np.ndarray:
        """(n,) bool: rows that have a vector in every one of the sets."""
        columns = [self.column(name) for name in self._on(on)]
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
