"""``store repair``: drop what is damaged, keep the rest, and say what must be extracted again."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from headstock.store.care.salvage import RawFile, Repaired, Salvage, uuid_of
from headstock.store.care.verify import check_shard
from headstock.store.disk import commit
from headstock.store.disk.compact import check_file, compact, write_generation
from headstock.store.disk.depot import Depot, is_parts
from headstock.store.disk.file import StoreFile
from headstock.store.disk.forms import generation_form
from headstock.store.disk.patch import Patch
from headstock.store.errors import HeadstockError, OptionError, StoreDamaged, VersionError
from headstock.store.progress import Report, unheard

__all__ = ["Repaired", "repair"]


def repair(path: str | os.PathLike[str], progress: Report = unheard) -> Repaired:
    """Repair the store at ``path``.

    Files whose form is damaged are set aside, the newest generation that can be read is taken, if
    need be by its schema alone, and each of its rows is kept that still matches its own checksum.
    Raises StoreDamaged when no generation can be read, and then changes nothing; VersionError,
    OptionError, StorageError.
    """
    if is_parts(path):
        raise OptionError(path, "is a list of stores", "repair the part that verify names")
    depot, told = Depot(path), Repaired(Depot(path).path)
    if not depot.path.exists() and not depot.generations():
        raise OptionError(depot.path, "there is no store here", "make one with `headstock extract`")
    _none_newer(depot)
    raw = _set_aside(depot, told, progress)
    if raw is not None:
        _rebuild(depot, told, raw, progress)
    else:
        depot.found()
        depot.roll_forward()
        if _spoilt(depot.path) or told.files:
            compact(depot, lambda: Salvage(depot, told), force=True, progress=progress)
            for number in depot.generations()[:-1]:
                if _spoilt(depot.generation_path(number)):
                    _away(depot, depot.generation_path(number), told)
    for name in list(told.rows):
        told.rows[name] = sorted(set(told.rows[name]))
    return told


def _rebuild(depot: Depot, told: Repaired, raw: RawFile, progress: Report) -> None:
    """Make the next generation of what a file with damaged metadata still holds.

    At every moment ``features.h5`` is the damaged file or the new one.
    """
    with raw:
        depot.found(raw.uuid)
        broken = [p for p in map(depot.generation_path, depot.generations()) if _spoilt(p)]
        number = max((raw.generation, *depot.generations())) + 1
        target = depot.generation_path(number)
        state = Salvage(depot, told, raw)
        try:
            write = partial(write_generation, state=state, number=number, progress=progress)
            commit.publish(target, write, partial(check_file, progress=progress))
        finally:
            state.close()
    if depot.path.exists():
        with commit.storage(depot.path):
            aside = depot.directory / f"damaged-{depot.path.name}"
            with suppress(FileNotFoundError):
                aside.unlink()
            os.link(depot.path, aside) if _links(depot) else os.replace(depot.path, aside)
        told.files.append(depot.path.name)
    commit.replace(target, depot.path)
    for path in broken:
        _away(depot, path, told)
    depot.clear(state.listing)


def _links(depot: Depot) -> bool:
    """Whether names can be linked here."""
    probe = commit.temp_name(depot.directory)
    try:
        os.link(depot.directory / "STORE.json", probe)
        probe.unlink()
    except OSError:
        return False
    return True


def _spoilt(path: Path) -> bool:
    try:
        check_file(path)
    except StoreDamaged:
        return True
    return False


def _set_aside(depot: Depot, told: Repaired, progress: Report) -> RawFile | None:
    """Rename files that cannot be read at all, and shards that hold damaged or unknown rows.

    The newest generation, when only its metadata is damaged, is left in its place and returned
    open.
    """
    uuids, identity = set(), depot.directory / "STORE.json"
    listing, broken, newest = depot.listing(), [], 0
    for target in [depot.path, *map(depot.generation_path, depot.generations())]:
        if target.exists():
            try:
                with StoreFile(target, "generation") as file:
                    if not generation_form(file)[1]:  # then no row has a checksum of its own
                        file.column("/items/id")
                    uuids.add(file.uuid)
                    newest = max(newest, file.generation, 1)
            except HeadstockError:
                broken.append(target)
    try:
        depot.uuid()
    except StoreDamaged:
        _away(depot, identity, told)
    raw = _raw(broken, newest)
    if raw is not None:
        raw.uuid = uuid_of(depot, raw)
        uuids.add(raw.uuid)
    elif not newest:
        raise StoreDamaged(
            depot.path, "no generation of it can be read", "extract into a new store"
        )
    else:
        for target in broken:
            _away(depot, target, told)
    for number in listing.patches:
        _try(depot, depot.patch_path(number), "patch", uuids, told)
    for at, name in enumerate(listing.shards):
        progress(at, len(listing.shards), "looking at shards")
        _try(depot, depot.directory / name, "shard", uuids, told)
    return raw


def _none_newer(depot: Depot) -> None:
    """Raises VersionError where a file is of a newer format: to this code it would be damage, and
    what a newer headstock committed would be set aside."""
    listing = depot.listing()
    pending = [
        *map(depot.patch_path, listing.patches),
        *map(depot.directory.joinpath, listing.shards),
    ]
    for target in [depot.path, *map(depot.generation_path, depot.generations()), *pending]:
        try:
            StoreFile(target).close()
        except VersionError:
            raise
        except (HeadstockError, FileNotFoundError):
            continue


def _raw(broken: Sequence[Path], newest: int) -> RawFile | None:
    """Of generations whose metadata is damaged the last that can be read all the same, if it is
    newer than the newest whole one."""
    best: RawFile | None = None
    for path in broken:
        try:
            file = RawFile(path, "generation")
        except HeadstockError:
            continue
        try:
            generation_form(file)
        except StoreDamaged:
            file.close()
            continue
        named = re.fullmatch(r"gen-(\d+)\.h5", path.name)
        file.generation = file.generation or (int(named[1]) if named else 0)
        if (newest and file.generation <= newest) or (best and file.generation <= best.generation):
            file.close()
            continue
        if best is not None:
            best.close()
        best = file
    return best


def _try(depot: Depot, target: Path, kind: str, uuids: set[str], told: Repaired) -> None:
    try:
        with StoreFile(target, kind) as file:
            if file.uuid not in uuids:
                raise StoreDamaged(target, "belongs to another store")
            Patch.read(file) if kind == "patch" else check_shard(file)
    except FileNotFoundError:
        return
    except HeadstockError:
        _away(depot, target, told)


def _away(depot: Depot, target: Path, told: Repaired) -> None:
    depot.directory.mkdir(exist_ok=True)
    with commit.storage(target):
        os.replace(target, depot.directory / f"damaged-{target.name}")
    told.files.append(target.name)
