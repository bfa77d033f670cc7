"""A folder of files that belong together: all of the new ones, or all of the old.

The new folder is written beside the old one and changes places with it in one step. Where the
system cannot do that, and in a folder that a mount or a shell stands in, the files are replaced one
by one, the ``last`` at the end; whoever reads them must see by it whether they belong together.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from headstock.store.disk import commit
from headstock.store.errors import StorageError

__all__ = ["write_folder"]

RENAME_EXCHANGE = 2
AT_CWD = -100


def write_folder(
    target: str | os.PathLike[str],
    files: Mapping[str, bytes],
    ours: Callable[[str], bool],
    last: str,
) -> None:
    """Make the folder ``target`` hold ``files`` (by name, with ``/`` for a folder within).

    Older files whose name is ``ours`` are gone afterwards, all others stay as they are. Durable
    when it returns. Raises StorageError.
    """
    path = Path(os.path.realpath(target))
    if path.exists() and not path.is_dir():
        raise StorageError(target, "is no folder", "name another")
    fresh = path.with_name(f"{commit.OWN_TEMP}{commit.temp_name(path.parent).name}")
    try:
        with commit.storage(target):
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(StorageError):  # another user's, say
                commit.sweep(path.parent, commit.OWN_TEMP)
            try:
                if not _beside(fresh, path, files, ours):
                    _one_by_one(path, files, ours, last)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    except (FileExistsError, FileNotFoundError) as error:
        what = f"cannot be made ({error.strerror})"
        raise StorageError(target, what, "name another folder") from error


def _beside(
    fresh: Path, path: Path, files: Mapping[str, bytes], ours: Callable[[str], bool]
) -> bool:
    """Write ``fresh`` and make it ``path`` in one step; False where that cannot be."""
    try:
        fresh.mkdir()
    except OSError as error:
        if path.is_dir() and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise
    _fill(fresh, files)
    if path.exists():
        return _exchanged(fresh, path, ours)
    fresh.rename(path)
    commit.sync_directory(path.parent)
    return True


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    folders = {folder}
    for name, raw in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        folders.add(file.parent)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            commit.write_all(fd, raw, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
    for one in folders:
        commit.sync_directory(one)


def _exchanged(fresh: Path, path: Path, ours: Callable[[str], bool]) -> bool:
    """Let the two change places, what is not ours in both of them; False where that cannot be."""
    here = os.path.realpath(os.curdir)
    if os.path.commonpath((here, path)) == str(path):
        return False  # a shell would stand in the old folder
    for name in _names(path):
        if not ours(name) and not (fresh / name).exists():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path / name, fresh / name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in commit.NO_LINKS:
                    raise
                shutil.copy2(path / name, fresh / name, follow_symlinks=False)
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = (AT_CWD, os.fsencode(fresh), AT_CWD, os.fsencode(path), RENAME_EXCHANGE)
    if libc.renameat2(*names):
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBUSY, errno.EXDEV):
            return False
        raise OSError(number, os.strerror(number), str(path))
    commit.sync_directory(path.parent)
    return True


def _one_by_one(
    path: Path, files: Mapping[str, bytes], ours: Callable[[str], bool], last: str
) -> None:
    for name in sorted(files, key=lambda name: name == last):
        if name == last:  # what is stale is gone before the new whole is said to be there
            commit.remove(path / old for old in _names(path) if ours(old) and old not in files)
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        commit.write_whole(path / name, files[name])


def _names(folder: Path) -> list[str]:
    """Every file in ``folder`` and below, by its name in it; links are files."""
    found = []
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in (*files, *links):
            found.append(os.path.relpath(os.path.join(where, name), folder))
    return found
