"""What is left to do for one feature set: which rows need their file looked at, which not."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from headstock.extract.decode.reading import Reader
from headstock.store import FAILED, OK, Items

__all__ = ["Pending", "pending"]


@dataclass
class Pending:
    """``rows`` (indices into the items) have to be looked at; ``reused`` and ``failed`` stand as
    they are; ``missing`` have no path; ``left``: how many rows are beyond the limit; ``made``: the
    digest that a row was made from, for those whose file may have changed."""

    rows: np.ndarray
    reused: np.ndarray
    failed: np.ndarray
    missing: np.ndarray
    left: int
    made: dict[int, bytes]


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
    is done or failed stands while its file has the mark it had; failed ones are looked
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
    return Pending(
        rows=kept,
        reused=np.flatnonzero(stands & (status == OK)),
        failed=np.flatnonzero(stands & (status == FAILED)),
        missing=np.flatnonzero(missing),
        left=len(todo) - len(kept),
        made={row: digest[row].tobytes() for row in kept[status[kept] == OK].tolist()},
    )


def _unchanged(reader: Reader, paths: Sequence[str], stat: np.ndarray) -> np.ndarray:
    """(m,) bool: the file at each path has the mark in ``stat``, or is absent as it was.

    In threads, for network file systems answer one question slowly and many quickly.
    """
    if not len(paths):
        return np.zeros(0, dtype=bool)
    with ThreadPoolExecutor(16) as pool:
        now = np.array(list(pool.map(reader.mark, paths, chunksize=64)))
    return (now == stat).all(axis=1)
