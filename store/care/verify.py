"""``store verify``: every promise about stored bytes, checked; one line for each finding."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from headstock.store.dataroot import DataRoot
from headstock.store.disk import commit
from headstock.store.disk.batch import read_batch
from headstock.store.disk.checksum import row_crcs
from headstock.store.disk.compact import check_bytes
from headstock.store.disk.declared import ABSENT, OK
from headstock.store.disk.depot import Depot, is_parts
from headstock.store.disk.file import StoreFile
from headstock.store.disk.patch import Patch
from headstock.store.disk.state import State
from headstock.store.errors import (
    HeadstockError,
    ItemError,
    OptionError,
    StorageError,
    StoreDamaged,
    UnsafeInput,
)
from headstock.store.fingerprints import is_fingerprint
from headstock.store.progress import Report, unheard

__all__ = ["ASIDE", "Verdict", "check_file", "check_shard", "verify"]

ASIDE = "damaged-"


@dataclass
class Verdict:
    """What ``verify`` found. ``findings`` are damage, one line each, of the files ``damaged`` and
    of how they fit together; ``unread`` what the disk, the permissions or the memory kept from
    being checked, which says nothing about the bytes; ``notes`` are input files that changed or
    went missing since extraction (with ``files``). All are empty for a good store."""

    path: Path
    generation: int = 0
    rows: int = 0
    sets: dict[str, int] = field(default_factory=dict)
    files_checked: int = 0
    findings: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exit_code: int = 0

    def found(self, error: HeadstockError) -> None:
        lines = self.unread if isinstance(error, StorageError) else self.findings
        if str(error) not in lines:
            lines.append(str(error))
        self.exit_code = max(self.exit_code, error.exit_code)
        if self.unread:
            self.exit_code = StorageError.exit_code

    def text(self) -> str:
        """The findings and one closing line."""
        sets = ", ".join(f"{name} {done} of {self.rows}" for name, done in self.sets.items())
        head = f"{self.path}: generation {self.generation}, {self.rows} rows ({sets or 'no sets'})"
        wrong = len(self.findings) + len(self.notes)
        ending = f"{wrong or 'no'} findings"
        if self.unread:
            ending += f", {len(self.unread)} not checked"
        return "\n".join([*self.findings, *self.unread, *self.notes, f"{head}: {ending}"])


def verify(
    path: str | os.PathLike[str],
    files: bool = False,
    progress: Report = unheard,
    data: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Check the form and every byte of the store at ``path`` and of all that is pending beside it.

    ``files`` also hashes each row's input file and notes those that are not what was extracted;
    ``data`` is the folder they lie in, where the store names one outside its own.
    Of a list of parts each part is checked, one after the other, and that they fit together.
    Raises OptionError when there is no store. Memory: the rows' text, 70 bytes a row and set, 2 MB.
    """
    if is_parts(path):
        return _verify_parts(Path(path), files, progress, data)
    depot = Depot(path)
    verdict = Verdict(depot.path)
    state = None
    try:
        for target, kind in _files_of(depot):
            try:
                check_file(target, kind, progress)
            except FileNotFoundError:
                continue  # absorbed while we looked
            except HeadstockError as error:
                verdict.found(error)
                verdict.damaged.append(target.name)
        for aside in _set_aside(depot):
            verdict.found(aside)
            verdict.damaged.append(os.path.basename(aside.where))
        state = State(depot)
        verdict.generation, verdict.rows = state.file.generation, state.n
        for name in state.declared:
            column = state.column(name)
            if is_fingerprint(column.declared.recipe):
                continue  # checked as all is, and no set that was asked for
            verdict.sets[name] = int((column.status == OK).sum())
        if files:
            root = DataRoot.of(depot.path, state.items.root, data)
            if any((paths != "").any() for paths in state.items.paths.values()):
                root.require(depot.path)
            verdict.notes.extend(_changed_files(state, verdict, root, progress))
    except OptionError:
        if not verdict.exit_code:
            raise
    except HeadstockError as error:
        verdict.found(error)
    except FileNotFoundError:
        return verify(path, files, progress, data)
    finally:
        if state is not None:
            state.close()
    if verdict.notes:
        verdict.exit_code = verdict.exit_code or 1
    return verdict


def _verify_parts(
    path: Path, files: bool, progress: Report, data: str | os.PathLike[str] | None
) -> Verdict:
    from headstock.store.disk.parts_file import read_parts
    from headstock.store.parts import PartedStore

    verdict = Verdict(path)
    for part in read_parts(path):
        try:
            one = verify(part, files, progress, data)
        except HeadstockError as error:
            verdict.found(error)
            continue
        verdict.generation = max(verdict.generation, one.generation)
        verdict.rows += one.rows
        verdict.files_checked += one.files_checked
        for name, done in one.sets.items():
            verdict.sets[name] = verdict.sets.get(name, 0) + done
        verdict.findings += one.findings
        verdict.damaged += one.damaged
        verdict.unread += one.unread
        verdict.notes += one.notes
        verdict.exit_code = max(verdict.exit_code, one.exit_code)
        if verdict.unread:
            verdict.exit_code = StorageError.exit_code
    if not verdict.findings and not verdict.unread:
        try:
            with PartedStore(path) as whole:
                whole.check_ids()
        except HeadstockError as error:
            verdict.found(error)
    return verdict


def _files_of(depot: Depot) -> Iterator[tuple[Path, str]]:
    listing = depot.listing()
    yield depot.path, "generation"
    same = _inode(depot.path)
    for number in depot.generations():
        target = depot.generation_path(number)
        if same is None or _inode(target) != same:
            yield target, "generation"
    for number in listing.patches:
        yield depot.patch_path(number), "patch"
    for name in listing.shards:
        yield depot.directory / name, "shard"


def _set_aside(depot: Depot) -> Iterator[StoreDamaged]:
    """Files that an earlier headstock put out of the way, with whatever they still hold."""
    for name in depot.names():
        if name.startswith(ASIDE):
            what = "was set aside, and may hold rows"
            yield StoreDamaged(depot.directory / name, what, "`headstock store repair` takes them")


def _inode(path: Path) -> int | None:
    """None where there is no such file."""
    try:
        with commit.storage(path):
            return path.stat().st_ino
    except FileNotFoundError:
        return None


def check_file(path: Path, kind: str, progress: Report = unheard) -> None:
    """Check one file: form, every checksum, and that HDF5 sees what the schema says.

    Raises StoreDamaged, UnsafeInput, VersionError, StorageError, FileNotFoundError.
    """
    with StoreFile(path, kind) as file:
        _same_for_everyone(file)
        if kind == "generation":
            check_bytes(file, progress)
        elif kind == "shard":
            check_shard(file)
        else:
            Patch.read(file)


def check_shard(file: StoreFile) -> None:
    """Every row of a shard against its CRC32. Raises StoreDamaged."""
    batch = read_batch(file)
    x = file.rows("/x", np.arange(file.n))
    wrong = np.flatnonzero(row_crcs(file.column("/id"), batch.digest, x) != file.column("/crc32"))
    if wrong.size:
        raise StoreDamaged(
            file.path, f"{wrong.size} rows fail their checksum, the first is {batch.ids[wrong[0]]}",
            "run `headstock store repair`",
        )  # fmt: skip


def _same_for_everyone(file: StoreFile) -> None:
    """A plain HDF5 reader must see the datasets that we read: same place, shape and type."""
    seen: set[str] = set()

    def walk(group: h5py.Group, base: str) -> None:
        for name in group:
            path = f"{base}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeInput(file.path, f"{path} is a link", "a store holds none")
            thing = group[name]
            if isinstance(thing, h5py.Group):
                if len(seen) > 1 << 16 or base.count("/") > 8:
                    raise UnsafeInput(file.path, "its groups are nested without end")
                walk(thing, path)
            else:
                _dataset(file, path, thing)
                seen.add(path)

    def look(tree: h5py.File) -> None:
        seen.clear()
        walk(tree, "")

    file.through_hdf5(look)
    if seen != set(file.regions):
        odd = sorted(seen ^ set(file.regions))[0]
        raise StoreDamaged(file.path, f"its schema and its datasets differ in {odd}")


def _dataset(file: StoreFile, path: str, thing: h5py.Dataset) -> None:
    form, region = thing.id.get_create_plist(), file.regions.get(path)
    if form.get_layout() != h5py.h5d.CONTIGUOUS or form.get_external_count() or thing.is_virtual:
        raise UnsafeInput(file.path, f"{path} keeps its data elsewhere", "a store never does")
    if form.get_nfilters() or region is None:
        raise StoreDamaged(file.path, f"{path} is not a dataset of a store")
    place = thing.id.get_offset() if region.nbytes else region.offset
    size = thing.dtype.itemsize
    if (tuple(thing.shape), place, size) != (region.shape, region.offset, region.dtype.itemsize):
        raise StoreDamaged(file.path, f"{path} is not where the schema says")


def _changed_files(
    state: State, verdict: Verdict, root: DataRoot, progress: Report
) -> Iterator[str]:
    """A line for each row whose file is not the one that was extracted."""
    items = state.items
    for name, declared in state.declared.items():
        paths = items.paths.get(declared.recipe.modality)
        if paths is None:
            continue
        column = state.column(name)
        known = np.flatnonzero(column.status != ABSENT).tolist()
        for done, row in enumerate(known):
            progress(done, len(known), f"files of {name}")
            where = f"{paths[row] or 'no path'}: row {items.id[row]} of set {name}"
            if not column.digest[row].any():
                yield f"{where} was imported without a digest; nothing to compare"
                continue
            try:
                with root.open(paths[row]) as file:
                    fresh = hashlib.file_digest(file, "sha256").digest()
            except ItemError as error:
                yield f"{where} cannot be read ({error.what})"
                continue
            except OSError as error:
                yield f"{where} cannot be read ({error.strerror})"
                continue
            verdict.files_checked += 1
            if fresh != column.digest[row].tobytes():
                yield f"{where} changed since extraction; run `headstock extract` again"
