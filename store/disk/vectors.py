"""Reading the vectors of many rows at once, checked, by threads where that pays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headstock.store.cores import cores
from headstock.store.disk.column import Column
from headstock.store.disk.float16 import widen
from headstock.store.disk.state import READ_BYTES, State

__all__ = ["gather", "read"]

MANY = 8  # blocks from which on threads pay
READS = 48  # a block, from which on they cost more than they give: each holds the lock in between
WIDER = 4  # such a block: what a map costs is shared by more rows
MOST = 4  # threads


def read(
    state: State, column: Column, rows: np.ndarray, out: np.ndarray | None, known: bool = False
) -> None:
    """Read ``rows`` and check each, into ``out`` when given; ``known``: all were checked before.

    Much of it by threads: reading and checking a block leaves the others the interpreter.
    """
    dim, stored = column.declared.dim, column.declared.stored
    step = max(1, READ_BYTES // (dim * stored.itemsize))
    direct = out is not None and out.flags.c_contiguous and out.dtype == stored
    scattered = _scattered(rows, step)
    if scattered and direct:
        step *= WIDER

    def work(starts: np.ndarray) -> None:
        scratch = np.empty((0 if direct else min(step, len(rows)), dim), stored)
        mine = rows[starts[0] : starts[-1] + step]
        wanted = iter(()) if pending or known else iter(state.block_crcs(column, mine, step))
        for start in starts.tolist():
            block = rows[start : start + step]
            part = None if out is None else out[start : start + len(block)]
            x = part if direct and part is not None else scratch[: len(block)]
            if known:
                state.unchecked(column, block, x)
            elif pending or not state.matches(column, block, x, next(wanted)):
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


def gather(x: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Copy rows of a map that has been checked."""
    step = max(1, READ_BYTES // (x.shape[1] * x.dtype.itemsize))
    plain = x.view(np.ndarray)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        unbroken = block[-1] - block[0] == len(block) - 1 and (np.diff(block) == 1).all()
        source = plain[block[0] : block[-1] + 1] if unbroken else plain[block]
        widen(source, out[start : start + len(block)])


def _threads() -> int:
    return min(cores(), MOST)
