"""How many threads, and who may start them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

__all__ = ["by_rows", "one_thread_each", "threads"]

ROWS = 256
"""Of a piece of ``by_rows``: short enough for a float64 copy of wide rows to stay in cache."""


def threads() -> int:
    """How many threads to use: those this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each(beside: bool = True) -> Iterator[None]:
    """While fits run beside each other, no library starts threads of its own."""
    if not beside:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def by_rows(work: Callable[..., None], *of: np.ndarray) -> np.ndarray:
    """A new float32 matrix (n, d) as wide as the matrices ``of`` (n, ...) together, which
    ``work(rows, out, *of)`` fills a slice of rows at a time, slices beside each other: the
    pages of new memory take longer than what is written into them."""
    out = np.empty((len(of[0]), sum(x.shape[1] for x in of)), dtype=np.float32)
    slices = [slice(s, min(s + ROWS, len(out))) for s in range(0, len(out), ROWS)]
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(lambda rows: work(rows, out, *of), slices))
    return out
