"""Traces of what was acknowledged and waits, so that it cannot vanish unseen.

``features.h5.pending`` beside ``features.h5.d`` holds a file of a few bytes for each pending shard
and patch, whoever committed it, so that what is taken out of ``features.h5.d``, or all of it, is
missed:

want-<store>-<host>-<pid>-<r>-<name>   before the file <name> gets its name; says nothing yet
have-<store>-<host>-<pid>-<r>-<name>   the same, renamed when <name> is there for good

A compaction forgets the traces of what it has gathered, durably, before it deletes the files. So
where a ``have-`` stands and its file does not, nobody gathered that file. A trace is not synced: a
power cut may take it, it never runs ahead of what it tells of.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headstock.store.disk import commit
from headstock.store.errors import StorageError, StoreDamaged

if TYPE_CHECKING:
    from headstock.store.disk.depot import Depot, Listing

__all__ = ["Trace", "begin", "check", "drop", "folder", "forget", "gone", "keep", "kept", "missing",
           "of", "sweep"]  # fmt: skip

FIX = "put it back from a copy, or go on without it by `headstock store repair`"


def folder(path: Path) -> Path:
    """Where the traces of the store at ``path`` lie."""
    return path.with_name(path.name + ".pending")


@dataclass(frozen=True)
class Trace:
    """One trace: ``name`` is the file in ``features.h5.d`` that it tells of, ``store`` says of
    which store."""

    path: Path
    store: str
    owner: str
    pid: str
    name: str

    @property
    def rows(self) -> int:
        """How many rows were acknowledged; 0 for a declaration, and where a power cut took it."""
        try:
            return int(self.path.read_bytes()[:20])
        except (OSError, ValueError):
            return 0


def _mark(uuid: str) -> str:
    """A store's uuid, which a file may say as it likes, as a part of a name."""
    return hashlib.sha256(uuid.encode()).hexdigest()[:8]


def begin(path: Path, uuid: str, name: str, rows: int) -> Path:
    """Say that the store at ``path`` is about to get the pending file ``name``."""
    unique = commit.temp_name(folder(path)).name.removeprefix("tmp-")
    trace = folder(path) / f"want-{_mark(uuid)}-{unique}-{name}"
    with commit.storage(trace):
        for _ in range(3):
            try:
                fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # it is the first, or a compaction removed the empty folder
                with suppress(FileExistsError, FileNotFoundError):
                    os.mkdir(folder(path))
                continue
            try:
                os.write(fd, b"%d\n" % rows)
            finally:
                os.close(fd)
            return trace
    raise StorageError(folder(path), "cannot be made", "the store's own folder must be there")


def keep(trace: Path) -> None:
    """The file is there for good. (If it has been gathered meanwhile, its trace is gone.)"""
    with suppress(FileNotFoundError), commit.storage(trace):
        os.rename(trace, trace.with_name("have" + trace.name.removeprefix("want")))


def drop(trace: Path) -> None:
    """The file was not made: the same stands there already, or its number was taken."""
    with suppress(FileNotFoundError), commit.storage(trace):
        os.unlink(trace)


def _traces(path: Path, *kinds: str) -> list[Trace]:
    place = folder(path)
    with commit.storage(place):
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            return []
    split = [(name, name.split("-", 5)) for name in names]
    return [
        Trace(place / name, words[1], words[2], words[3], words[5])
        for name, words in split
        if words[0] in kinds and len(words) == 6
    ]


def kept(path: Path) -> list[Trace]:
    """The traces of what was acknowledged, for whichever store at ``path``."""
    return _traces(path, "have")


def of(traces: Iterable[Trace], uuid: str) -> list[Trace]:
    """Those of the store ``uuid``."""
    return [trace for trace in traces if trace.store == _mark(uuid)]


def missing(directory: Path, traces: Sequence[Trace], here: Iterable[str] = ()) -> list[Trace]:
    """Those of ``traces`` whose file is neither in ``here`` nor in ``directory`` any more, though
    nobody has gathered it."""
    known, out = set(here), []
    for trace in traces:
        if trace.name not in known:
            with commit.storage(trace.path):
                if not (directory / trace.name).exists() and trace.path.exists():
                    out.append(trace)
    return out


def gone(directory: Path, lost: Sequence[Trace], fix: str = FIX) -> StoreDamaged:
    """The error that says so."""
    first = lost[0]
    if len(lost) == 1:
        rows = f" ({first.rows:,} rows)" if first.rows else ""
        return StoreDamaged(directory / first.name, f"was acknowledged{rows} and is gone", fix)
    what = f"{len(lost):,} files that were acknowledged are gone, the first is {first.name}"
    return StoreDamaged(directory, what, fix)


def check(
    depot: Depot,
    listing: Listing,
    traces: Sequence[Trace],
    watermark: int,
    declared: Mapping[str, object],
) -> None:
    """Hold what was acknowledged against ``listing``, which was taken after ``traces``.

    Raises StoreDamaged for a pending file that has gone, a number that is missing among the
    patches, and a shard of a set that nothing declares; FileNotFoundError to look once more.
    """
    names = {*listing.shards, *(depot.patch_path(number).name for number in listing.patches)}
    if lost := missing(depot.directory, traces, names):
        raise gone(depot.directory, lost)
    pending = [number for number in listing.patches if number > watermark]
    for wanted, number in enumerate(pending, watermark + 1):
        if number != wanted:
            absent = depot.patch_path(wanted)
            with commit.storage(absent):
                if absent.exists():  # a listing may pass by what is made meanwhile
                    raise FileNotFoundError(absent)
            raise StoreDamaged(absent, f"is gone, and {number} is there", FIX)
    for name in listing.shards:
        if name.rsplit("-", 1)[0].removeprefix("shard-") not in declared:
            where = depot.directory / name
            raise StoreDamaged(where, "is of a set that no file here declares any more", FIX)


def forget(path: Path, names: Iterable[str]) -> None:
    """Delete the traces of files that a durable generation has gathered, for good."""
    every, wanted = _traces(path, "have", "want"), set(names)
    done = [trace for trace in every if trace.name in wanted]
    commit.remove(trace.path for trace in done)
    with commit.storage(folder(path)), suppress(FileNotFoundError):
        if done:
            commit.sync_directory(folder(path))
        if len(done) == len(every) and folder(path).is_dir():
            with suppress(OSError):  # somebody needs it again
                os.rmdir(folder(path))


def sweep(path: Path) -> None:
    """Delete what dead processes were about to say."""
    for trace in _traces(path, "want"):
        with suppress(FileNotFoundError), commit.storage(trace.path):
            if commit.abandoned(trace.path, trace.owner, trace.pid):
                os.unlink(trace.path)
