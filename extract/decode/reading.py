"""Reading one file on purpose: inside the data root, a plain file, of bounded size, hashed.

A manifest comes from anywhere. Unless the caller widens it, a path must resolve (symbolic links
followed) to a plain file inside a data root; a FIFO would block for ever, a device never end, and
``../../etc/passwd`` is nobody's picture.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shlex
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstock.extract.encoder import Loader
from headstock.store.errors import ItemError
from headstock.store.manifest.paths import several_files

__all__ = [
    "HEALS",
    "NOTHING",
    "SKIP",
    "Done",
    "Reader",
    "outside_folder",
    "Several",
    "Task",
    "peak_memory",
    "perform",
]

MAX_BYTES = 2 << 30
HEALS = frozenset({"unreadable", "out-of-memory", "timeout", "worker-killed", "needs-extra"})
"""Codes of failures that are not the file's: of the disk, of memory, of time. They may be gone at
the next try, so the next run tries such rows by itself."""
NOTHING = bytes(32)
OUTSIDE = "leads out of the data root"
ANYWHERE = " (in Python data_roots) lets it in"
UNKNOWN = (-1, -1)


@dataclass(frozen=True)
class Reader:
    """``root``: what relative paths are relative to. ``inside``: folders, resolved, one of which a
    file must lie in; empty for anywhere."""

    root: str = ""
    inside: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES

    @classmethod
    def of(cls, root: str, more: Sequence[str | Path], anywhere: bool) -> Reader:
        """Files must lie in ``root`` or in one of ``more``, unless ``anywhere``. Without a root the
        paths are the caller's own, and taken as they are."""
        if not root or anywhere:
            return cls(root)
        return cls(root, tuple(os.path.realpath(folder) for folder in (root, *more)))

    def path(self, path: str) -> str:
        return os.path.join(self.root, path)

    def allows(self, path: str) -> bool:
        """Whether ``path`` leads to a place inside the data root, links followed."""
        return self._inside(os.path.realpath(self.path(path)))

    def _inside(self, place: str) -> bool:
        return not self.inside or any(_within(place, root) for root in self.inside)

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
        ``unreadable``, ``too-large``, ``out-of-memory``, ``several-files``.
        """
        try:
            place = os.path.realpath(self.path(path))
            if not self._inside(place):
                fix = f"--data-root {shlex.quote(os.path.dirname(place))}{ANYWHERE}"
                raise ItemError(path, OUTSIDE, fix, code="unsafe-path")
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if names := several_files(path):
                what = f"no such file; the cell names {len(names)} files"
                fix = "a row has one: write a row for each"
                raise ItemError(path, what, fix, code="several-files") from error
            raise ItemError(path, "no such file", "check the path", code="missing") from error
        except ValueError as error:  # NUL in the name
            raise ItemError(path, "not a file name", "check the path", "unsafe-path") from error
        except OSError as error:
            raise _unreadable(path, error, "check the file's permissions") from error
        try:
            return self._all(path, descriptor)
        except OSError as error:
            raise _unreadable(path, error, "check the disk") from error
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
        except MemoryError as error:
            raise ItemError(path, "too large to read", "split it", "out-of-memory") from error
        where = self.path(path)
        then, now = mark(where, before), mark(where, os.fstat(descriptor))
        if then == now and len(data) < now[0]:
            what = f"gave {len(data):,} of its {now[0]:,} bytes"
            raise ItemError(path, what, "check the disk", code="unreadable")
        return data, now if then == now and len(data) == now[0] else UNKNOWN


def _unreadable(path: str, error: OSError, fix: str) -> ItemError:
    """The system refused. The one refusal that is the memory's is said as such."""
    code = "out-of-memory" if error.errno == errno.ENOMEM else "unreadable"
    return ItemError(path, error.strerror or "cannot be read", fix, code)


def outside_folder(line: str) -> str | None:
    """The folder that the line of a row outside the data root names; None for any other line."""
    before, _, rest = line.partition(f"{OUTSIDE}; --data-root ")
    told, end, _ = rest.rpartition(ANYWHERE)
    try:
        return shlex.split(told)[0] if before and end else None
    except (ValueError, IndexError):  # cut short, or with a letter that was escaped
        return None


def _within(place: str, root: str) -> bool:
    return os.path.commonpath((place, root)) == root


@dataclass(frozen=True)
class Task:
    """Read, hash and decode ``path``; ``known``: the digest of bytes whose item is not needed. For
    ``Several`` loaders it is a tuple, one for each; SKIP for a loader that does not want the file.
    ``hash_only``: no loader gets it.
    """

    number: int
    path: str
    known: bytes | tuple[bytes | None, ...] | None = None
    hash_only: bool = False


SKIP = b""


@dataclass
class Done:
    """What became of a Task. ``item`` is None when it failed (``error``: code, line) or when its
    bytes are the ``known`` ones; from ``Several`` loaders, ``items`` and ``errors`` hold one each.
    ``read``, ``decode`` and ``transform`` are seconds, ``peak`` the most memory that the worker
    had, in bytes."""

    number: int
    digest: bytes = NOTHING
    stat: tuple[int, int] = UNKNOWN
    item: Any = None
    error: tuple[str, str] | None = None
    items: tuple[Any, ...] = ()
    errors: tuple[tuple[str, str] | None, ...] = ()
    read: float = 0.0
    decode: float = 0.0
    transform: float = 0.0
    peak: int = 0

    def of(self, loader: int) -> Done:
        """What became of it for one of several loaders."""
        if not self.items:
            return self
        return replace(self, item=self.items[loader], error=self.errors[loader])


@dataclass(frozen=True)
class Several:
    """Loaders that each make an item of one file. Those that are equal load it once, and those that
    decode alike (see ``Loader``) decode it once."""

    loaders: tuple[Loader, ...]


def perform(task: Task, reader: Reader, loader: Loader | Several) -> Done:
    """Do one task. No failure of the file, or of the loader on it, leaves as an exception."""
    done = Done(task.number)
    begin = time.perf_counter()
    with _blamed(task.path, done):
        data, done.stat = reader.read(task.path)
        done.digest = hashlib.sha256(data).digest()
    done.read = time.perf_counter() - begin
    wanted = done.error is None and not task.hash_only
    if isinstance(loader, Several):
        if wanted:
            _load_several(task, data, loader.loaders, done)
    elif wanted and done.digest != task.known:
        _load(task.path, data, loader, done, {}, alone=True)
    if done.digest == NOTHING:  # never read: what lies there now is what will be compared
        done.stat = reader.mark(task.path)
    return done


def _load_several(task: Task, data: bytes, loaders: tuple[Loader, ...], done: Done) -> None:
    known = task.known if isinstance(task.known, tuple) else (task.known,) * len(loaders)
    wanted = [k not in (SKIP, done.digest) for k in known]
    ways = Counter(loader.decoding for loader in _unlike(loaders, wanted))
    decoded: dict[Any, Any] = {}
    made: dict[Any, tuple[Any, tuple[str, str] | None]] = {}
    for loader, want in zip(loaders, wanted):
        if want and loader not in made:
            alone = ways[loader.decoding] == 1
            done.item, done.error = None, None
            _load(task.path, data, loader, done, decoded, alone)
            made[loader] = done.item, done.error
    nothing = (None, None)
    told = [made[loader] if want else nothing for loader, want in zip(loaders, wanted)]
    done.item, done.error = None, None
    done.items, done.errors = tuple(t[0] for t in told), tuple(t[1] for t in told)


def _unlike(loaders: tuple[Loader, ...], wanted: list[bool]) -> list[Loader]:
    return list(dict.fromkeys(loader for loader, want in zip(loaders, wanted) if want))


def _load(
    path: str, data: bytes, loader: Loader, done: Done, decoded: dict[Any, Any], alone: bool
) -> None:
    """``done.item`` or ``done.error``, and the clocks. ``decoded``: pictures and sounds so far, by
    the way they were decoded; what ``alone`` needs is not kept."""
    begin = time.perf_counter()
    clock = _Clock()
    with _blamed(path, done):
        way = loader.decoding
        if way not in decoded:
            found = loader.decode(data)
            if isinstance(found, Iterator):  # a sound: block by block if nobody else wants it
                found = clock.around(found) if alone else list(found)
            decoded[way] = found
        middle = time.perf_counter()
        done.item = loader.transform(decoded[way])
        done.transform += time.perf_counter() - middle - clock.seconds
        begin += time.perf_counter() - middle - clock.seconds
    done.decode += time.perf_counter() - begin


class _Clock:
    """The seconds that an iterator takes for itself while another works with what it gives."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, values: Iterator[Any]) -> Iterator[Any]:
        while True:
            begin = time.perf_counter()
            try:
                value = next(values)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - begin
            yield value


@contextmanager
def _blamed(path: str, done: Done) -> Iterator[None]:
    """Whatever goes wrong within it is the file's fault, and said so in ``done.error``."""
    try:
        yield
    except ItemError as error:
        done.error = error.code, str(_at(path, error))
    except MemoryError:
        full = ItemError(path, "decoding needs too much memory", code="out-of-memory")
        done.error = full.code, str(full)
    except OSError as error:  # libraries raise it for odd files too, then without a number
        odd = ItemError(path, f"{type(error).__name__}: {error}", code="loader-error")
        odd = _unreadable(path, error, "check the disk and the limits") if error.errno else odd
        done.error = odd.code, str(odd)
    except Exception as bug:  # noqa: BLE001  a loader may be anybody's: one bad item, one row
        odd = ItemError(path, f"{type(bug).__name__}: {bug}", code="loader-error")
        done.error = odd.code, str(odd)
    if done.error is not None:
        done.item = None


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
