"""How many threads, and who may start them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_thread_each", "threads"]


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
