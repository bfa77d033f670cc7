"""What is known of each row of one set, and of each vector where it lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headstock.store.disk.batch import Batch
from headstock.store.disk.declared import ABSENT, OK, Declared
from headstock.store.errors import IncompleteSet

__all__ = ["GENERATION", "Column"]

GENERATION = ""  # the source that is no shard


@dataclass
class Column:
    """A set's rows, aligned to the store's n rows.

    ``source`` (n,) indexes ``sources`` (0: the generation, then shard names), ``position`` (n,) is
    the row inside that file. ``seq`` orders what was committed for a row. ``errors`` maps the row
    of a failed item to (code, line).
    """

    declared: Declared
    status: np.ndarray
    digest: np.ndarray
    stat: np.ndarray
    seq: np.ndarray
    source: np.ndarray
    position: np.ndarray
    sources: list[str]
    errors: dict[int, tuple[str, str]]

    @classmethod
    def empty(cls, declared: Declared, n: int) -> Column:
        return cls(
            declared=declared,
            status=np.full(n, ABSENT, dtype=np.uint8),
            digest=np.zeros((n, 32), dtype=np.uint8),
            stat=np.full((n, 2), -1, dtype=np.int64),
            seq=np.zeros(n, dtype=np.int64),
            source=np.zeros(n, dtype=np.int32),
            position=np.arange(n, dtype=np.int64),
            sources=[GENERATION],
            errors={},
        )

    def lay(self, name: str, seq: int, rows: np.ndarray, batch: Batch) -> None:
        """Lay a shard over the column: its row wins where it is newer than what is there. ``rows``
        (b,): -1 for one that was dropped."""
        if not (rows >= 0).any():
            return
        ties = (self.seq[rows] == seq) & (self.status[rows] != OK) & (batch.status == OK)
        newer = (self.seq[rows] < seq) | (self.status[rows] == ABSENT) | ties
        wins = np.flatnonzero(newer & (rows >= 0))
        if not wins.size:
            return
        won = rows[wins]
        self.sources.append(name)
        self.source[won] = len(self.sources) - 1
        self.position[won] = wins
        self.status[won], self.digest[won] = batch.status[wins], batch.digest[wins]
        self.stat[won], self.seq[won] = batch.stat[wins], seq
        for row in won.tolist():
            self.errors.pop(row, None)
        reasons = {identity: (code, line) for identity, code, line in batch.errors}
        for at, row in zip(wins.tolist(), won.tolist(), strict=True):
            if batch.ids[at] in reasons:
                self.errors[row] = reasons[batch.ids[at]]

    def require(self, rows: np.ndarray, where: object) -> None:
        """Raises IncompleteSet, by counts, when one of ``rows`` has no vector; ``where`` names the
        store."""
        status = self.status[rows]
        missing, absent = int((status != OK).sum()), int((status == ABSENT).sum())
        if missing:
            raise IncompleteSet(
                f"{where}, set {self.declared.name}",
                f"{missing} of {len(rows)} rows have no vector ({absent} not extracted, "
                f"{missing - absent} failed)",
                "run `headstock extract` again, or use the complete rows only",
            )
