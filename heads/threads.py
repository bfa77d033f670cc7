"""How many threads, and who may start them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from headstock.store.cores import cores

__all__ = ["beside", "by_rows", "libraries", "one_thread_each", "threads"]

ROWS = 256
"""Of a piece of ``by_rows``: short enough for a float64 copy of wide rows to stay in cache."""
SMALL = 1 << 20
"""Entries of a matrix that is filled sooner than threads have started."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_known: list[Any] = [0, None]


def threads() -> int:
    """How many threads to use: those this process may run on."""
    return cores()


def libraries() -> Any:
    """The controller of the libraries with threads of their own; they are looked for again once
    more modules have been imported, for that takes as long as a small fit."""
    if _known[0] != len(sys.modules):
        from threadpoolctl import ThreadpoolController

        _known[:] = len(sys.modules), ThreadpoolController()
    return _known[1]


@contextmanager
def one_thread_each(beside: bool = True) -> Iterator[None]:
    """While fits run beside each other, no library starts threads of its own."""
    if not beside:
        yield
        return
    with libraries().limit(limits=1):
        yield


def beside(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of each item, a thread each, whose libraries start none; in the order of items."""
    with one_thread_each(), ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(work, items))


def by_rows(work: Callable[..., None], *of: np.ndarray) -> np.ndarray:
    """A new float32 matrix (n, d) as wide as the matrices ``of`` (n, ...) together, which
    ``work(rows, out, *of)`` fills a slice of rows at a time, slices beside each other: the
    pages of new memory take longer than what is written into them."""
    out = np.empty((len(of[0]), sum(x.shape[1] for x in of)), dtype=np.float32)
    slices = [slice(s, min(s + ROWS, len(out))) for s in range(0, len(out), ROWS)]
    with ThreadPoolExecutor(threads() if out.size > SMALL else 1) as pool:
        list(pool.map(lambda rows: work(rows, out, *of), slices))
    return out
