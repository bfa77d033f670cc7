"""``store repair``: a new store of all that still proves itself, and the old one kept whole.

As SQLite's ``.recover``: nothing is mended in place. Every file of the store is read, the whole and
the damaged, the current and the old; every row that matches its own checksum goes into a new
generation, by its newest word. The old store is put into a folder of its own, as it is. What cannot
be read for the disk's or the system's reasons ends the repair, and nothing was changed.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid as uuids
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

from headstock.store.care.evidence import Evidence, examine
from headstock.store.care.salvage import Salvage
from headstock.store.care.verify import ASIDE, verify
from headstock.store.disk import commit, trace
from headstock.store.disk.compact import check_file, write_generation
from headstock.store.disk.depot import Depot, is_parts
from headstock.store.disk.file import StoreFile
from headstock.store.disk.hdf5 import CANNOT
from headstock.store.errors import (
    OptionError,
    StorageError,
    StoreDamaged,
    UnsafeInput,
)
from headstock.store.progress import Report, unheard

__all__ = ["Repaired", "repair"]

KINDS = ("gen-", "patch-", "shard-", ASIDE)
NEW = "new.h5"  # the new store, before it is put in its place
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


@dataclass
class Repaired:
    """``path`` is the store that holds what was taken, ``aside`` the folder that keeps the old one.

    ``taken``: rows by set, by the file they come from. ``rows``: by set the ids that the next
    ``extract`` computes again; ``columns`` of text that are empty now; ``older``: columns as an
    earlier generation has them, and which; ``nameless`` rows whose id was damaged, dropped;
    ``files`` that were damaged; ``gone``: files that were acknowledged and are not there.
    """

    path: Path
    aside: Path | None = None
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: dict[str, list[str]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    older: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    gone: dict[str, int] = field(default_factory=dict)
    nameless: int = 0
    changed: bool = False

    def text(self) -> str:
        if not self.changed:
            return f"{self.path}: nothing to repair"
        lines = [f"{name}: damaged" for name in self.files]
        for name, number in self.gone.items():
            lines.append(
                f"{name}: gone" + (f", {number:,} rows were acknowledged" if number else "")
            )
        for file, sets in self.taken.items():
            rows = ", ".join(f"{n:,} rows of {name}" for name, n in sets.items())
            lines.append(f"{file}: {rows} taken")
        lines += [f"column {name}: damaged, as it is in {f}" for name, f in self.older.items()]
        lines += [
            f"column {name}: damaged, now empty; `headstock store label`" for name in self.columns
        ]
        if self.nameless:
            lines.append(f"{self.nameless} rows with a damaged id: dropped, labels and all")
        for name, ids in self.rows.items():
            shown = ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")
            lines.append(f"set {name}: {len(ids)} rows to extract again: {shown}")
        if self.aside:
            lines.append(f"the old store is kept whole in {self.aside}")
        return "\n".join([*lines, f"{self.path}: repaired; run `headstock extract` again"])


def repair(
    path: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    progress: Report = unheard,
) -> Repaired:
    """Make a new store of all that still proves itself in the store at ``path``.

    It takes the old one's place, which is kept whole in a folder ``<path>.damaged-<k>``; with
    ``output`` it is written there and the old store is not touched. Where ``verify`` finds nothing,
    nothing is done. Raises StorageError when anything cannot be read, for whatever reason but
    damage, StoreDamaged when nothing can be told, VersionError, OptionError; then nothing was
    changed.
    """
    if is_parts(path):
        raise OptionError(path, "is a list of stores", "repair the part that verify names")
    depot = Depot(path)
    names = depot.names()
    if not depot.path.exists() and not _of_store(names):
        raise OptionError(depot.path, "there is no store here", "make one with `headstock extract`")
    if output is not None and os.path.lexists(output):
        raise OptionError(output, "is there already", "name a file that is not")
    _none_newer(depot)
    verdict = verify(depot.path, progress=progress)
    if verdict.unread:
        raise StorageError(depot.path, f"could not be checked: {verdict.unread[0]}", CANNOT)
    if not verdict.findings:
        return Repaired(depot.path)
    repaired = Repaired(
        depot.path if output is None else Path(os.path.abspath(output)), changed=True
    )
    repaired.files = verdict.damaged
    traces = trace.missing(depot.directory, trace.kept(depot.path))
    repaired.gone = {one.name: one.rows for one in traces}
    salvage = _salvage(depot, names, verdict.damaged, progress)
    try:
        number = max((salvage.number, *depot.generations())) + 1
        write = partial(write_generation, state=salvage, number=number, progress=progress)
        check = partial(check_file, progress=progress)
        if output is None:
            _exchange(depot, repaired, write, check, names)
        elif not commit.publish(repaired.path, write, check):
            raise OptionError(output, "is there already", "name a file that is not")
    finally:
        salvage.close()
    repaired.taken, repaired.rows, repaired.nameless = salvage.taken, salvage.rows, salvage.nameless
    repaired.columns, repaired.older = salvage.emptied, salvage.older
    return repaired


def _of_store(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(KINDS) and name.endswith(".h5")]


def _none_newer(depot: Depot) -> None:
    """Raises VersionError where a file is of a newer format: to this code it would be damage, and
    what a newer headstock committed would be left out."""
    for name in ["", *_of_store(depot.names())]:
        with suppress(StoreDamaged, UnsafeInput, FileNotFoundError):
            StoreFile(depot.directory / name if name else depot.path).close()


def _salvage(depot: Depot, names: list[str], damaged: list[str], progress: Report) -> Salvage:
    """What all files of the store prove. Raises StoreDamaged when that is nothing."""
    known: dict[int, Evidence | None] = {}
    inode = 0
    # the numbered names first: features.h5 is one of them, and does not say which
    places = [*(depot.directory / name for name in _of_store(names)), depot.path]
    for done, place in enumerate(places):
        progress(done, len(places), "looking at files")
        try:
            with commit.storage(place):
                inode = place.stat().st_ino
            if inode not in known:
                known[inode] = None
                known[inode] = examine(place)
        except (FileNotFoundError, StoreDamaged, UnsafeInput):
            continue
    evidence = [one for one in known.values() if one is not None]
    uuid = _uuid(depot, evidence, known.get(inode) if depot.path.exists() else None)
    evidence = [one for one in evidence if one.uuid == uuid or not one.proven]
    salvage = Salvage(evidence, uuid)
    whole = any(e.kind == "generation" and e.whole and e.path.name not in damaged for e in evidence)
    if not salvage.n and not whole:
        salvage.close()
        what = "no generation of it can be read, and no shard"
        raise StoreDamaged(depot.path, what, "extract into a new store")
    numbers = depot.listing().patches
    salvage.absorbed = max((salvage.absorbed, *numbers))
    return salvage


def _uuid(depot: Depot, evidence: list[Evidence], file: Evidence | None) -> str:
    """The identity of the new store, of which ``file`` was the main one. Raises StoreDamaged when
    that is another store's."""
    try:
        beside = depot.uuid()
    except StoreDamaged:
        beside = None
    main = file.uuid if file is not None and file.proven else ""
    others = {e.uuid for e in evidence if e.proven and e is not file}
    if beside not in others and (main or others):
        beside = None  # nothing else says so: its own bytes are damaged
    if beside and main and beside != main:
        raise StoreDamaged(
            depot.path, f"belongs to another store than {depot.directory.name}",
            "put the file that belongs there back, or move one of the two away",
        )  # fmt: skip
    known = [e.uuid for e in evidence if e.uuid and e.proven] or [
        e.uuid for e in evidence if e.uuid
    ]
    return beside or main or (known[0] if known else str(uuids.uuid4()))


def _exchange(
    depot: Depot,
    repaired: Repaired,
    write: Callable[[int], None],
    check: Callable[[Path], None],
    names: list[str],
) -> None:
    """Write the new store, and put it where the old one is, which goes aside.

    The folder for the old one gets its name when the new store lies whole in it; until then it is
    a temp, which the next repair sweeps. The new generation has a higher number than all that is
    in ``features.h5.d``, and what is pending there is in it already: killed between any two steps,
    ``features.h5`` is the old file or the new one and everything else is where it was or aside,
    and to repair again ends it.
    """
    parent = depot.path.parent
    with suppress(StorageError):  # another user's, say
        commit.sweep(parent, commit.OWN_TEMP)
    fresh = parent / f"{commit.OWN_TEMP}{commit.temp_name(parent).name}"
    try:
        with commit.storage(fresh):
            fresh.mkdir()
        commit.publish(fresh / NEW, write, check)
        if depot.path.exists():
            commit.number_again(depot.path, fresh / depot.path.name)
        aside = _named(depot, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    made = aside / NEW
    repaired.aside = aside
    commit.replace(made, depot.path)
    commit.remove([made])
    for folder in (trace.folder(depot.path), depot.directory):
        with commit.storage(folder), suppress(FileNotFoundError):
            os.rename(folder, aside / folder.name)
    with commit.storage(aside):
        commit.sync_directory(aside)
        commit.sync_directory(depot.path.parent)
    _bring_back(depot, aside / depot.directory.name, names)


def _named(depot: Depot, fresh: Path) -> Path:
    """Give the folder for the old store its name, the first that is free or an empty folder's."""
    for number in count(1):
        aside = depot.path.with_name(f"{depot.path.name}.damaged-{number}")
        try:
            os.rename(fresh, aside)
            return aside
        except OSError as error:
            if error.errno not in TAKEN:
                with commit.storage(aside):
                    raise
    raise AssertionError("numbers end")


def _bring_back(depot: Depot, aside: Path, names: list[str]) -> None:
    """What others committed while we looked, beside the new generation, which it follows."""
    with commit.storage(aside), suppress(FileNotFoundError):
        fresh = [n for n in _of_store(sorted(os.listdir(aside))) if n not in names]
        for name in fresh:
            if name.startswith(("patch-", "shard-")):
                depot.found()
                commit.number_again(aside / name, depot.directory / name)
