"""Reading one file on purpose: inside the data root, a plain file, of bounded size.

A manifest comes from anywhere. Unless the caller widens it, a path must resolve (symbolic links
followed) to a plain file inside a data root; a FIFO would block for ever, a device never end, and
``../../etc/passwd`` is nobody's picture.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstock.store.errors import ItemError
from headstock.store.manifest.paths import several_files

__all__ = ["UNKNOWN", "Reader", "inside", "mark", "outside_folder", "unreadable"]

MAX_BYTES = 2 << 30
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
        return not self.inside or any(inside(place, root) for root in self.inside)

    def mark(self, path: str) -> tuple[int, int]:
        """``mark`` of what lies at ``path`` now; UNKNOWN when that is nothing."""
        try:
            return mark(self.path(path), os.stat(self.path(path)))
        except (OSError, ValueError):
            return UNKNOWN

    def open(self, path: str) -> io.FileIO:
        """The plain file at ``path``, to read, close it.

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
            raise unreadable(path, error, "check the file's permissions") from error
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ItemError(path, "is not a plain file", "check the path", code="not-a-file")
            if about.st_size > self.max_bytes:
                what = f"{about.st_size:,} bytes, more than {self.max_bytes:,}"
                raise ItemError(path, what, "split it", code="too-large")
            return os.fdopen(descriptor, "rb", buffering=0)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise unreadable(path, error, "check the disk") from error
            raise

    def read(self, path: str) -> tuple[bytes, tuple[int, int]]:
        """The bytes at ``path`` and their ``mark``; UNKNOWN when the file changed while it was
        read, so that it is looked at again. Raises ItemError as ``open`` does."""
        where = self.path(path)
        with self.open(path) as file:
            try:
                then = mark(where, os.fstat(file.fileno()))
                data = file.readall()
                now = mark(where, os.fstat(file.fileno()))
            except MemoryError as error:
                raise ItemError(path, "too large to read", "split it", "out-of-memory") from error
            except OSError as error:
                raise unreadable(path, error, "check the disk") from error
        if then == now and len(data) < now[0]:
            what = f"gave {len(data):,} of its {now[0]:,} bytes"
            raise ItemError(path, what, "check the disk", code="unreadable")
        return data, now if then == now and len(data) == now[0] else UNKNOWN


def unreadable(path: str, error: OSError, fix: str) -> ItemError:
    """The system refused. The one refusal that is the memory's is said as such."""
    code = "out-of-memory" if error.errno == errno.ENOMEM else "unreadable"
    return ItemError(path, error.strerror or "cannot be read", fix, code)


def outside_folder(line: str) -> str | None:
    """The folder that the line of a row outside the data root names; None for any other line."""
    before, _, rest = line.partition(f"{OUTSIDE}; --data-root ")
    folder, end, _ = rest.rpartition(ANYWHERE)
    try:
        return shlex.split(folder)[0] if before and end else None
    except (ValueError, IndexError):  # cut short, or with a letter that was escaped
        return None


def mark(path: str, found: os.stat_result) -> tuple[int, int]:
    """(size, mark): two numbers that change when the file or the row's ``path`` does.

    The mark hashes the path, root and all, and both times of the file. Time and size
    alone are not enough: archives unpack whole folders of equal size within one tick of the clock,
    and a manifest may then point a row at the neighbour.
    """
    key = f"{path}\0{found.st_mtime_ns}\0{found.st_ctime_ns}".encode("utf-8", "surrogateescape")
    return found.st_size, int.from_bytes(hashlib.sha256(key).digest()[:8], "little") >> 1


def inside(place: str, folder: str) -> bool:
    """Whether ``place`` is ``folder`` or lies in it; both resolved."""
    try:
        return os.path.commonpath((place, folder)) == folder
    except ValueError:  # two drives
        return False
