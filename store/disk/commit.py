"""Making a file exist whole or not at all, for good, and never twice.

``publish`` is the one way anything enters a store: write a temp file that nobody reads, fsync it,
give it its name by a hard link (which fails when the name is taken, the compare-and-swap that the
protocol rests on), fsync the directory. When it returns, the file survives a kill and a power cut;
when it raises, the name was not made, or a whole file stands under it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headstock.store.disk.naming import NO_LINKS, host, link_new, temp_name
from headstock.store.errors import StorageError

__all__ = [
    "abandoned",
    "alive",
    "host",
    "link_new",
    "make_folder",
    "number_again",
    "publish",
    "publish_bytes",
    "remove",
    "replace",
    "storage",
    "sweep",
    "sync_directory",
    "temp_name",
    "write_all",
    "write_whole",
    "written",
]

NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
STALE_TEMP = 24 * 3600.0  # seconds; for temps whose owner this machine cannot ask about
OWN_TEMP = ".headstock."  # before the names of temps in folders that are not the store's


@contextmanager
def storage(path: object) -> Iterator[None]:
    """Turn the disk's refusals into StorageError. A missing or a taken name stays what it is:
    somebody else may have moved the store on, and the caller looks again."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        what = error.strerror or str(error)
        fix = {
            errno.ENOSPC: "free some space and run it again; nothing committed is lost",
            errno.EDQUOT: "free some quota and run it again; nothing committed is lost",
            errno.EROFS: "the directory must be writable",
            errno.EACCES: "check the permissions",
            errno.EMFILE: "raise the limit of open files (ulimit -n)",
        }.get(error.errno or 0, "check the disk and run it again; nothing committed is lost")
        raise StorageError(path, f"cannot be written or read ({what})", fix) from error


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``, however often the system stops short."""
    view, done = memoryview(data).cast("B"), 0
    while done < len(view):
        step = os.pwrite(fd, view[done:], offset + done)
        if step == 0:
            raise OSError(errno.EIO, "the disk takes no more bytes")
        done += step


def sync_directory(path: Path) -> None:
    """fsync a directory, so that the names in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_SYNC:  # some network file systems cannot, and sync at once
            raise
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """fsync what was written to a file by whatever wrote it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(
    target: Path, write: Callable[[int], None], check: Callable[[Path], None] | None = None
) -> bool:
    """Make ``target`` of what ``write(fd)`` writes, whole and durable, unless it exists.

    ``check(path)`` may read the written file and raise before it gets its name. Returns False when
    the name was taken: that file stays. Raises StorageError.
    """
    with storage(target):
        for attempt in (1, 2, 3):
            temp = temp_name(target.parent)
            try:
                fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    write(fd)
                    os.fsync(fd)  # never tried twice: a failure may have dropped the bytes
                finally:
                    os.close(fd)
                if check is not None:
                    check(temp)
                link_new(temp, target)
                made = True
            except FileExistsError:
                made = False
            except FileNotFoundError:
                # somebody took our temp for a dead one: possible when machines share a host name
                if attempt == 3 or not target.parent.is_dir():
                    raise
                continue
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temp)
            # also when the name was taken: its maker may not have come to this yet
            sync_directory(target.parent)
            return made
    raise StorageError(target, "could not be made in three attempts", "run it again")


def publish_bytes(target: Path, raw: bytes | bytearray) -> bool:
    """``publish`` for what fits into memory."""
    return publish(target, lambda fd: write_all(fd, raw, 0))


def replace(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` (or, without hard links, a copy), durably."""
    temp = temp_name(source.parent)
    with storage(target):
        try:
            try:
                os.link(source, temp)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    _copy(source, fd)
                    os.fsync(fd)
                finally:
                    os.close(fd)
            os.replace(temp, target)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temp)
        sync_directory(target.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, so that they survive a power cut."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


@contextmanager
def written(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A name to write a file under, which is ``target`` when the context ends, durably, in a folder
    that is made where it is missing: a kill or a power cut leaves what was there or all of it.
    What killed writers left beside it is swept. A device, such as /dev/null, is written into, and
    of a link (/dev/stdout is one) what it leads to is replaced. Raises StorageError."""
    path = Path(os.path.abspath(target))
    if path.exists() and not (path.is_file() or path.is_char_device()):
        raise StorageError(target, "is no regular file", "name a file")
    if path.is_char_device():  # replacing /dev/null would be a pity
        with storage(target), tempfile.TemporaryDirectory(prefix="headstock-") as folder:
            yield (made := Path(folder, "whole"))
            with open(path, "wb") as out:
                out.write(made.read_bytes())
        return
    path = Path(os.path.realpath(path))
    temp = path.with_name(f"{OWN_TEMP}{temp_name(path.parent).name}")
    try:
        with storage(target):
            make_folder(path.parent)
            with suppress(StorageError):  # another user's, say
                sweep(path.parent, OWN_TEMP)
            try:
                yield temp
                sync_file(temp)
                os.replace(temp, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temp)
                raise
            sync_directory(path.parent)
    except FileNotFoundError as error:
        raise StorageError(target, "its folder is gone", "run it again") from error


def write_whole(target: str | os.PathLike[str], raw: bytes) -> None:
    """Make the file ``target`` hold ``raw``, as ``written`` does. Raises StorageError."""
    with written(target) as temp:
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            write_all(fd, raw, 0)
        finally:
            os.close(fd)


def number_again(source: Path, target: Path) -> None:
    """Give the file ``source`` the second name ``target``, as a copy where links do not exist."""
    try:
        with storage(target):
            try:
                os.link(source, target)
                sync_directory(target.parent)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                publish(target, lambda fd: _copy(source, fd))
    except FileExistsError:
        return


def _copy(source: Path, fd: int) -> None:
    with open(source, "rb") as read:
        at = 0
        while block := read.read(1 << 22):
            write_all(fd, block, at)
            at += len(block)


def remove(paths: Iterable[Path]) -> None:
    """Delete files that the newest generation has made needless; what is gone already is fine."""
    for path in paths:
        with suppress(FileNotFoundError), storage(path):
            os.unlink(path)


def sweep(directory: Path, prefix: str = "") -> None:
    """Delete temp files of processes that are dead, never those of one that may be alive."""
    for path in directory.glob(f"{prefix}tmp-*"):
        _, owner, pid, _ = (*path.name.removeprefix(prefix).split("-"), "", "", "")[:4]
        with suppress(FileNotFoundError), storage(path):
            if abandoned(path, owner, pid):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def abandoned(path: Path, owner: str, pid: str) -> bool:
    """Whether the process ``pid`` of the machine ``owner`` that made ``path`` is dead, or so old
    that it must be."""
    dead = owner == host() and pid.isdecimal() and not alive(int(pid))
    return dead or _old(path)


def _old(path: Path) -> bool:
    """Whether a file is of yesterday or before. What our clock says is held against the file
    system's own: one of the two may be wrong by days."""
    touched = path.stat().st_mtime
    if time.time() - touched <= STALE_TEMP:
        return False
    probe = temp_name(path.parent)
    try:
        probe.touch()
        return probe.stat().st_mtime - touched > STALE_TEMP
    finally:
        probe.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
