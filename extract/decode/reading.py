"""One file read, hashed and decoded: what a worker does, and nothing of it leaves as an error."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from headstock.extract.encoder import Loader
from headstock.store.datafile import UNKNOWN, Reader, unreadable
from headstock.store.errors import ItemError

__all__ = ["HEALS", "NOTHING", "SKIP", "Done", "Several", "Task", "peak_memory", "perform"]

HEALS = frozenset({"unreadable", "out-of-memory", "timeout", "worker-killed", "needs-extra"})
"""Codes of failures that are not the file's: of the disk, of memory, of time. They may be gone at
the next try, so the next run tries such rows by itself."""
NOTHING = bytes(32)


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
        odd = unreadable(path, error, "check the disk and the limits") if error.errno else odd
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


def _at(path: str, error: ItemError) -> ItemError:
    """``error`` with the row's path for the loader's general word."""
    return ItemError(path, error.what, error.fix, error.code)
