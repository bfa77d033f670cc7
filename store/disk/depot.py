"""Where a store's files lie: ``features.h5`` and, beside it, ``features.h5.d``.

STORE.json              format and uuid, written once
gen-00000007.h5         hard link to features.h5; the truth is the highest number
gen-00000006.h5         the one before, kept one round
shard-<set>-<hash>.h5   one committed batch
patch-00000012.h5       rows, labels, groups, splits and new sets, without touching vectors
claim-<unit>            who computes what; saves work, correctness never rests on it
tmp-<host>-<pid>-<r>    never read

``features.h5.pending`` holds a trace of each shard and patch that waits; see ``trace``.
"""

from __future__ import annotations

import json
import os
import re
import uuid as uuids
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headstock.store.disk import commit, trace
from headstock.store.disk.file import REPAIR, StoreFile
from headstock.store.disk.layout import FORMAT, VERSION
from headstock.store.errors import OptionError, StoreDamaged, VersionError
from headstock.store.jsonfile import parse_json
from headstock.store.textfile import refuse_odd

__all__ = ["PARTS", "Depot", "Listing", "is_parts", "is_store"]

PARTS = ".parts.json"
LARGEST_IDENTITY = 1 << 16  # bytes of STORE.json that are read


def is_parts(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` is the name of a list of stores (see ``parts``)."""
    return os.fspath(path).endswith(PARTS)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` looks like a store and not like a table: HDF5, a directory beside it, or a
    list of parts."""
    depot = Depot(path)
    if depot.directory.is_dir() or is_parts(path):
        return True
    if not depot.path.is_file():
        return False
    with commit.storage(depot.path), open(depot.path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Listing:
    """Names of pending files: shards sorted, patch numbers ascending."""

    shards: tuple[str, ...]
    patches: tuple[int, ...]


class Depot:
    """The files of the store at ``path``, with links resolved: replacing it replaces the file."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.directory = self.path.with_name(self.path.name + ".d")

    def generation_path(self, number: int) -> Path:
        return self.directory / f"gen-{number:08d}.h5"

    def patch_path(self, number: int) -> Path:
        return self.directory / f"patch-{number:08d}.h5"

    def names(self) -> list[str]:
        """What lies in the directory, sorted."""
        with commit.storage(self.directory):
            try:
                return sorted(os.listdir(self.directory))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _numbers(self, kind: str) -> tuple[int, ...]:
        found = (re.fullmatch(rf"{kind}-(\d{{8,}})\.h5", name) for name in self.names())
        return tuple(sorted(int(match[1]) for match in found if match))

    def generations(self) -> tuple[int, ...]:
        return self._numbers("gen")

    def listing(self) -> Listing:
        shards = (n for n in self.names() if n.startswith("shard-") and n.endswith(".h5"))
        return Listing(tuple(shards), self._numbers("patch"))

    def newest(self) -> StoreFile:
        """The newest generation, open. Raises OptionError when there is no store."""
        for _ in range(100):
            top = max(self.generations(), default=0)
            try:
                main = StoreFile(self.path, "generation")
                self._check_uuid(main)
                if main.generation >= top:
                    return main
                main.close()
            except FileNotFoundError:
                if not top:
                    break
            with suppress(FileNotFoundError):  # a newer one took its place; look again
                return self._numbered(top)
        raise OptionError(self.path, "there is no store here", "make one with `headstock extract`")

    def _numbered(self, number: int) -> StoreFile:
        """The generation of that number, open; its name must not lie."""
        file = StoreFile(self.generation_path(number), "generation")
        if file.generation != number:
            file.close()
            raise StoreDamaged(file.path, f"is generation {file.generation}", REPAIR)
        return file

    def uuid(self) -> str | None:
        """The uuid in STORE.json, or None when nothing is pending beside ``features.h5``."""
        path = self.directory / "STORE.json"
        try:
            refuse_odd(path, REPAIR)
            with commit.storage(path), open(path, "rb") as file:
                raw = file.read(LARGEST_IDENTITY)
            body = parse_json(raw)
            if body["format"] != FORMAT:
                raise ValueError(body["format"])
            if int(body["min_reader_version"]) > VERSION:
                raise VersionError(path, f"needs format {body['min_reader_version']}", "upgrade")
            return str(body["uuid"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreDamaged(path, "does not read as a store's identity", REPAIR) from error

    def _check_uuid(self, main: StoreFile) -> None:
        beside = self.uuid()
        if beside is not None and beside != main.uuid:
            main.close()
            raise StoreDamaged(
                self.path, f"belongs to another store than {self.directory.name}",
                "put the file that belongs there back, or move one of the two away",
            )  # fmt: skip

    def found(self, fresh: str | None = None) -> str:
        """Make the directory and the store's identity if they are missing; the uuid, ``fresh`` or
        that of ``features.h5`` where there was none.

        Raises OptionError for a list of parts, which cannot be extended.
        """
        if is_parts(self.path):
            raise OptionError(self.path, "is a list of stores", "change one of its parts instead")
        known = self.uuid()
        if known is not None:
            return known
        try:
            if fresh is None:
                with StoreFile(self.path, "generation") as main:  # before anything is beside it
                    fresh = main.uuid
        except FileNotFoundError:
            fresh = str(uuids.uuid4())
        with commit.storage(self.directory):
            try:
                self.directory.mkdir(parents=True)
                commit.sync_directory(self.directory.parent)
            except FileExistsError:
                if not self.directory.is_dir():
                    raise StoreDamaged(self.directory, "is no directory", "move it away") from None
        body = {"format": FORMAT, "format_version": VERSION, "min_reader_version": VERSION,
                "uuid": fresh}  # fmt: skip
        raw = json.dumps(body, indent=1).encode() + b"\n"
        commit.publish_bytes(self.directory / "STORE.json", raw)
        return self.uuid() or fresh

    def roll_forward(self) -> None:
        """Make ``features.h5`` the newest generation, and the newest generation have its number.

        Whoever opens a store finishes here what a killed compaction left.
        """
        while True:
            top = max(self.generations(), default=0)
            try:
                if os.path.samefile(self.path, self.generation_path(top)):
                    return
            except FileNotFoundError:
                pass  # one of the two is missing: find out which
            try:
                with StoreFile(self.path, "generation") as main:
                    self._check_uuid(main)
                    number = main.generation
            except FileNotFoundError:
                number = 0
            if number > top:  # the directory is new or was deleted: give the number back
                with suppress(FileExistsError, FileNotFoundError):
                    commit.number_again(self.path, self.generation_path(number))
                return
            if number == top:
                return
            with suppress(FileNotFoundError):
                self._numbered(top).close()
                commit.replace(self.generation_path(top), self.path)

    def sync(self) -> None:
        with commit.storage(self.directory), suppress(FileNotFoundError):
            commit.sync_directory(self.directory)

    def clear(self, listing: Listing, number: int) -> None:
        """Delete files that generation ``number`` absorbed and generations before the one before
        the newest.

        Only after the newest generation is durable: hence the sync first, and ``features.h5`` must
        be it: somebody may have taken ``features.h5.d`` away. The traces go before the files: a
        trace without its file must mean that the file was lost. Raises StoreDamaged.
        """
        self.sync()
        with StoreFile(self.path, "generation") as main:
            if main.generation < number:
                what = f"lost generation {number} while it was made"
                raise StoreDamaged(self.directory, what, trace.FIX)
        files = [self.directory / name for name in listing.shards]
        files += map(self.patch_path, listing.patches)
        trace.forget(self.path, (file.name for file in files))
        commit.remove(files)
        commit.remove(self.generation_path(number) for number in self.generations()[:-2])
