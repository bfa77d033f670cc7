"""What is left to do for one feature set: which rows need their file looked at, which not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from headstock.extract.reading import Reader, Task, stat_of
from headstock.store.items import Items

__all__ = ["Pending", "pending"]

ABSENT, OK, FAILED = 0, 1, 2


@dataclass
class Pending:
    """``groups``: rows (indices into the items) that share one path, in order of their first row;
    one task each. ``known``: the digest that a group's row was made from, for rows whose file may
    have changed. ``reused``, ``failed``: rows that stand as they are; ``missing``: rows without a
    path; ``left``: rows beyond the limit."""

    groups: list[list[int]]
    paths: list[str]
    known: list[bytes | None]
    reused: np.ndarray
    failed: np.ndarray
    missing: np.ndarray
    left: int

    @property
    def rows(self) -> int:
        return sum(len(group) for group in self.groups)

    def tasks(self) -> Iterator[Task]:
        """A Task for each group, numbered as ``groups``."""
        for number, (path, known) in enumerate(zip(self.paths, self.known)):
            yield Task(number, path, known)


def pending(
    items: Items,
    modality: str,
    status: np.ndarray,
    digest: np.ndarray,
    stat: np.ndarray,
    reader: Reader,
    retry_failed: bool = False,
    limit: int | None = None,
) -> Pending:
    """Compare what the store knows of each row with what lies on the disk now.

    ``status`` (n,), ``digest`` (n, 32) and ``stat`` (n, 2) as in the store's Progress. A row that
    is done or failed stands while its file has the size and time it had; failed ones are looked
    at again with ``retry_failed``. At most ``limit`` rows are planned.
    """
    paths = items.paths[modality]
    missing = np.array([not p for p in paths], dtype=bool)
    settled = (status == OK) | ((status == FAILED) & (not retry_failed))
    asked = np.flatnonzero(settled & ~missing)
    stands = np.zeros(len(paths), dtype=bool)
    stands[asked] = _unchanged(reader, [paths[i] for i in asked], stat[asked])
    todo = np.flatnonzero(~stands & ~missing)
    kept = todo if limit is None else todo[:limit]
    groups: dict[str, list[int]] = {}
    for row in kept.tolist():
        groups.setdefault(paths[row], []).append(row)
    firsts = [rows[0] for rows in groups.values()]
    return Pending(
        groups=list(groups.values()),
        paths=list(groups),
        known=[digest[row].tobytes() if status[row] == OK else None for row in firsts],
        reused=np.flatnonzero(stands & (status == OK)),
        failed=np.flatnonzero(stands & (status == FAILED)),
        missing=np.flatnonzero(missing),
        left=len(todo) - len(kept),
    )


def _unchanged(reader: Reader, paths: Sequence[str], stat: np.ndarray) -> np.ndarray:
    """(m,) bool: the file at each path has the size and time of ``stat``, or is absent as it was.

    In threads, for network file systems answer one question slowly and many quickly.
    """
    if not len(paths):
        return np.zeros(0, dtype=bool)
    with ThreadPoolExecutor(16) as pool:
        now = np.array(list(pool.map(lambda p: stat_of(reader.path(p)), paths, chunksize=64)))
    return (now == stat).all(axis=1)
