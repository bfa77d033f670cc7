"""Reading one file on purpose: inside the data root, a plain file, of bounded size, hashed.

A manifest comes from anywhere. Unless the caller widens it, a path must resolve (symbolic links
followed) to a plain file inside a data root; a FIFO would block for ever, a device never end, and
``../../etc/passwd`` is nobody's picture.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headstock.store.errors import ItemError

__all__ = ["Done", "Reader", "Task", "peak_memory", "perform"]

MAX_BYTES = 2 << 30
NOTHING = bytes(32)
UNKNOWN = (-1, -1)


@dataclass(frozen=True)
class Reader:
    """``root``: what relative paths are relative to. ``inside``: folders, resolved, one of which a
    file must lie in; empty for anywhere."""

    root: str = ""
    inside: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES

    def path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def mark(self, path: str) -> tuple[int, int]:
        """``mark`` of what lies at ``path`` now; UNKNOWN when that is nothing."""
        try:
            return mark(self.path(path), os.stat(self.path(path)))
        except (OSError, ValueError):
            return UNKNOWN

    def read(self, path: str) -> tuple[bytes, tuple[int, int]]:
        """The bytes at ``path`` and their ``mark``; UNKNOWN when the file changed while it was
        read, so that it is looked at again.

        Raises ItemError with one of the codes ``unsafe-path``, ``missing``, ``not-a-file``,
        ``unreadable``, ``too-large``, ``out-of-memory``.
        """
        try:
            place = os.path.realpath(self.path(path))
            if self.inside and not any(_within(place, root) for root in self.inside):
                fix = "move it inside, or name its folder as a data root"
                raise ItemError(path, "leads out of the data root", fix, code="unsafe-path")
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ItemError(path, "no such file", "check the path", code="missing") from error
        except ValueError as error:  # NUL in the name
            raise ItemError(path, "not a file name", "check the path", "unsafe-path") from error
        except OSError as error:
            what = error.strerror or "cannot be opened"
            raise ItemError(path, what, "check the file's permissions", "unreadable") from error
        try:
            return self._all(path, descriptor)
        finally:
            os.close(descriptor)

    def _all(self, path: str, descriptor: int) -> tuple[bytes, tuple[int, int]]:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise ItemError(path, "is not a plain file", "check the path", code="not-a-file")
        if before.st_size > self.max_bytes:
            what = f"{before.st_size:,} bytes, more than {self.max_bytes:,}"
            raise ItemError(path, what, "split it", code="too-large")
        try:
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
                data = file.readall()
        except OSError as error:
            what = error.strerror or "cannot be read"
            raise ItemError(path, what, "check the disk", code="unreadable") from error
        except MemoryError as error:
            raise ItemError(path, "too large to read", "split it", "out-of-memory") from error
        where = self.path(path)
        then, now = mark(where, before), mark(where, os.fstat(descriptor))
        return data, now if then == now and len(data) == now[0] else UNKNOWN


def _within(place: str, root: str) -> bool:
    return os.path.commonpath((place, root)) == root


@dataclass(frozen=True)
class Task:
    """Read, hash and decode ``path``; ``known`` is the digest of bytes whose vector exists."""

    number: int
    path: str
    known: bytes | None = None


@dataclass
class Done:
    """What became of a Task. ``item`` is None when it failed (``error``: code, line) or when its
    bytes are the ``known`` ones. ``read`` and ``decode`` are seconds, ``peak`` the most memory that
    the worker had, in bytes."""

    number: int
    digest: bytes = NOTHING
    stat: tuple[int, int] = UNKNOWN
    item: Any = None
    error: tuple[str, str] | None = None
    read: float = 0.0
    decode: float = 0.0
    peak: int = 0


def perform(task: Task, reader: Reader, loader: Callable[[bytes], Any]) -> Done:
    """Do one task. No failure of the file, or of the loader on it, leaves as an exception."""
    done = Done(task.number)
    begin = time.perf_counter()
    try:
        data, done.stat = reader.read(task.path)
        done.digest = hashlib.sha256(data).digest()
        done.read = time.perf_counter() - begin
        if done.digest != task.known:
            done.item = loader(data)
    except ItemError as error:
        done.error = error.code, str(_at(task.path, error))
        done.item = None
    except MemoryError:
        full = ItemError(task.path, "decoding needs too much memory", code="out-of-memory")
        done.error = full.code, str(full)
    except Exception as bug:  # noqa: BLE001  a loader may be anybody's: one bad item, one row
        odd = ItemError(task.path, f"{type(bug).__name__}: {bug}", code="loader-error")
        done.error = odd.code, str(odd)
    done.decode = time.perf_counter() - begin - done.read
    if done.digest == NOTHING:  # never read: what lies there now is what will be compared
        done.stat = reader.mark(task.path)
    return done


def peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 where the system does not say."""
    try:  # not getrusage: its maximum is inherited from whoever started the process
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def mark(path: str, found: os.stat_result) -> tuple[int, int]:
    """(size, mark): two numbers that change when the file or the row's ``path`` does.

    The mark hashes the path, root and all, and both times of the file. Time and size
    alone are not enough: archives unpack whole folders of equal size within one tick of the clock,
    and a manifest may then point a row at the neighbour.
    """
    said = f"{path}\0{found.st_mtime_ns}\0{found.st_ctime_ns}".encode("utf-8", "surrogateescape")
    return found.st_size, int.from_bytes(hashlib.sha256(said).digest()[:8], "little") >> 1


def _at(path: str, error: ItemError) -> ItemError:
    """``error`` with the row's path for the loader's general word."""
    return ItemError(path, error.what, error.fix, error.code)
