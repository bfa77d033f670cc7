"""Every call by which a store changes or looks at its files, seen and, on request, spoilt.

The store does all its file work through ``os`` (HDF5 writes into memory only), so these wrappers
see it whole; the preloaded shim of ``shim.c`` counts the same calls below Python to prove it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headstock.store.disk import file as store_file

MUTATING = (
    "open", "write", "pwrite", "fsync", "link", "unlink", "rename", "replace", "mkdir", "rmdir",
    "ftruncate", "posix_fallocate",
)  # fmt: skip
LOOKING = ("listdir", "look")

Hook = Callable[[str, Callable[..., Any], tuple], Any]
REAL = {name: getattr(os, name) for name in (*MUTATING, "listdir")}


@contextmanager
def watched(hook: Hook, under: str, looks: bool = False) -> Iterator[None]:
    """Call ``hook(name, real, args)`` in place of each call on files below ``under``.

    The hook makes the real call itself, or does not. Calls it makes are not watched.
    """
    busy = False

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal busy
            if busy or not _below(name, args, under):
                return real(*args, **options)
            busy = True
            try:
                return hook(name, lambda *a: real(*a, **options), args)
            finally:
                busy = False

        return call

    for name in MUTATING:
        setattr(os, name, wrap(name, REAL[name]))
    if looks:
        os.listdir = wrap("listdir", REAL["listdir"])
        store_file.open = wrap("look", open)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name, real in REAL.items():
            setattr(os, name, real)
        store_file.__dict__.pop("open", None)


@contextmanager
def no_links() -> Iterator[None]:
    """A file system without hard links."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    real = REAL["link"]
    os.link = REAL["link"] = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os.link = REAL["link"] = real


def _below(name: str, args: tuple, under: str) -> bool:
    if name == "open" and not args[1] & os.O_CREAT:
        return False
    target = args[0]
    if isinstance(target, int):
        target = os.readlink(f"/proc/self/fd/{target}")
    return os.fspath(target).startswith(under)
