"""Names of files: those that nobody reads, and those that are given once and to one of many."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

from headstock.store.errors import StoreBusy

__all__ = ["NO_LINKS", "host", "link_new", "temp_name"]

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
STALE_LOCK = 60.0
PATIENCE = 1.0  # seconds after which whoever waits is told for what
RENAME_NOREPLACE = 1

log = logging.getLogger("headstock")


def host() -> str:
    """This machine's name, as it stands in names of files."""
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())[:40] or "host"


def temp_name(directory: Path) -> Path:
    """A name for a file that nobody reads; it tells whose it is."""
    return directory / f"tmp-{host()}-{os.getpid()}-{secrets.token_hex(6)}"


def _rename_new(source: Path, target: Path) -> bool:
    """Rename without replacing, where the system can. Raises FileExistsError; False: cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    at_cwd = -100
    code = libc.renameat2(
        at_cwd, os.fsencode(source), at_cwd, os.fsencode(target), RENAME_NOREPLACE
    )
    if code == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(target))


def _rename_locked(source: Path, target: Path) -> None:
    """Rename under a lock directory: the last resort, where names can be neither linked nor
    renamed without replacing. Raises FileExistsError, StoreBusy."""
    lock = target.with_name(f"lock-{target.name}")
    held, since, warned = None, time.monotonic(), False
    for _ in range(int(STALE_LOCK * 20) + 100):
        try:
            lock.mkdir()
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                found, now = lock.stat(), time.monotonic()
                if held != found.st_ino:  # by the file system's clock if it tells, or by our own
                    held, since = found.st_ino, now
                age = max(source.stat().st_mtime - found.st_mtime, now - since)
                if age > STALE_LOCK:
                    lock.rename(temp_name(lock.parent))  # only one of several can break it
                elif now - since > PATIENCE and not warned:
                    warned = True
                    log.warning(f"{lock}: waiting for whoever holds it, {STALE_LOCK:.0f} s at most")
            time.sleep(0.05)
    else:
        raise StoreBusy(lock, "somebody has been holding this lock for a minute", "look who it is")
    try:
        if target.exists():
            raise FileExistsError(errno.EEXIST, "taken", str(target))
        source.rename(target)
    finally:
        lock.rmdir()


def link_new(source: Path, target: Path) -> None:
    """Give the file ``source`` the name ``target`` if that is free, else raise FileExistsError.

    With hard links ``source`` keeps its name as well, without them it loses it.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not _rename_new(source, target):
            _rename_locked(source, target)
