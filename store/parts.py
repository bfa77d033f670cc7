"""Several stores behind one name: ``all.parts.json`` lists them, and reads as one store.

    {"format": "headstock parts", "format_version": 1, "parts": ["part-1.h5", "part-2.h5"]}

Names are relative to the file's folder and stay inside it, so that the folder can be moved as a
whole. The rows are those of the first part, then those of the second, and so on; no id comes twice,
and sets of one name were made by one recipe. A part is opened when something is asked of it, and
few are open at a time. Writing is done to a part, never to the whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from headstock.store.disk import commit
from headstock.store.disk.declared import ABSENT, OK, Declared
from headstock.store.disk.depot import PARTS, is_parts
from headstock.store.disk.rows import columns_of, items_of
from headstock.store.disk.state import BLOCK, Column
from headstock.store.errors import (
    ManifestError,
    OptionError,
    RecipeMismatch,
    StoreBusy,
    StoreDamaged,
    UnsafeInput,
    VersionError,
)
from headstock.store.feature_set import FeatureSet
from headstock.store.features import FeatureStore
from headstock.store.items import Items, text_column
from headstock.store.jsonfile import parse_json
from headstock.store.reader import RowError

__all__ = ["Linked", "PartedStore", "link", "parts_of_file"]

FORMAT, VERSION = "headstock parts", 1
LARGEST = 16 << 20  # bytes of the list
MOST = 1 << 16  # parts
OPEN = 4  # parts open at a time


def parts_of_file(path: str | os.PathLike[str]) -> list[Path]:
    """The stores that a parts file names, in order.

    Raises OptionError when there is no such file, StoreDamaged, VersionError, UnsafeInput for a
    name that leads out of its folder.
    """
    path = Path(path)
    try:
        with commit.storage(path), open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise OptionError(
            path, "there is no store here", "`headstock store merge --link`"
        ) from error
    try:
        if len(raw) > LARGEST:
            raise ValueError("it is too large")
        body = parse_json(raw)
        if body["format"] != FORMAT:
            raise ValueError("it is another kind of file")
        if int(body["format_version"]) > VERSION:
            raise VersionError(path, f"needs format {body['format_version']}", "upgrade headstock")
        names = body["parts"]
        if not isinstance(names, list) or not all(isinstance(n, str) and n for n in names):
            raise ValueError("parts is no list of names")
        if not names or len(set(names)) < len(names) or len(names) > MOST:
            raise ValueError("it names no part, one twice, or too many")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "write it with `headstock store merge --link`"
        raise StoreDamaged(path, f"is no list of parts ({error})", fix) from error
    folder = path.parent
    for name in names:
        pure = Path(name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in name:
            raise UnsafeInput(
                path, f"names {name!r}, outside its folder", "keep the parts beside it"
            )
    return [folder / name for name in names]


class PartedStore(FeatureStore):
    """What ``FeatureStore.open("all.parts.json")`` gives: the parts' rows one after the other.

    It shows the rows that the parts had when it was opened, in that order, also after ``refresh``.
    """

    def __init__(self, path: str | os.PathLike[str], parts: Sequence[Path] | None = None) -> None:
        self._path, self._mode = Path(os.path.abspath(path)), "r"
        self.parts = list(parts or parts_of_file(self._path))
        self._open: OrderedDict[int, FeatureStore] = OrderedDict()
        self._columns: dict[str, Column] = {}
        self._by_digest: dict[str, dict[bytes, int]] = {}
        self._known: list[tuple[str, int]] = []  # uuid and rows of each part
        self._sets: dict[str, Declared] = {}
        self._generation = 0
        for number in range(len(self.parts)):
            part = self.part(number)
            self._known.append((part.uuid, part.n))
            self._generation = max(self._generation, part.generation)
            for name in part.all_sets:
                self._agree(number, part.declared(name))
        self.starts = np.concatenate([[0], np.cumsum([n for _, n in self._known])])

    def __enter__(self) -> PartedStore:
        return self

    def _agree(self, number: int, made: Declared) -> None:
        have = self._sets.setdefault(made.name, made)
        if lines := have.differences(made):
            raise RecipeMismatch(
                f"{self.parts[number]}, set {made.name}",
                f"was made another way than in {self.parts[0].name} ({', '.join(lines)})",
                "extract it again, or link stores of one recipe",
            )

    def part(self, number: int) -> FeatureStore:
        """One of the parts, open for reading; it is closed when others have been asked for since.

        Raises StoreBusy when it is another store than it was.
        """
        store = self._open.get(number)
        if store is None:
            if is_parts(self.parts[number]):
                raise OptionError(self._path, "names a list of parts as a part", "name its parts")
            store = self._open[number] = FeatureStore.open(self.parts[number])
            while len(self._open) > OPEN:
                self._open.popitem(last=False)[1].close()
            if number < len(self._known):
                uuid, n = self._known[number]
                if store.uuid != uuid or store.n < n:
                    raise StoreBusy(self.parts[number], "was replaced meanwhile", "open it again")
        self._open.move_to_end(number)
        return store

    def each(self) -> Iterator[tuple[slice, FeatureStore]]:
        """Each part and the rows of the whole that are its own."""
        for number in range(len(self.parts)):
            own = slice(int(self.starts[number]), int(self.starts[number + 1]))
            yield own, self.part(number)

    def refresh(self) -> None:
        self.close()
        self._columns.clear()
        self._by_digest.clear()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _writable(self) -> None:
        raise OptionError(self.path, "is a list of stores", "extend one of its parts")

    @property
    def path(self) -> Path:
        return self._path

    @property
    def uuid(self) -> str:
        """Made of the parts' own."""
        told = "\n".join(uuid for uuid, _ in self._known).encode()
        return hashlib.sha256(told).hexdigest()[:32]

    @property
    def generation(self) -> int:
        """The highest of the parts'."""
        return self._generation

    @property
    def pending(self) -> int:
        return sum(part.pending for _, part in self.each())

    @property
    def n(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def _items(self) -> Items:
        n, ids = self.n, np.empty(self.n, dtype=object)
        columns: dict[str, np.ndarray] = {}
        roots = [part.items.root for _, part in self.each()]
        same = len(set(roots)) == 1
        for own, part in self.each():
            items = part.items.take(np.arange(own.stop - own.start))
            ids[own] = items.id
            for name, cells in columns_of(items).items():
                if name.startswith("path/") and not same:
                    cells = text_column([os.path.join(items.root, p) if p else "" for p in cells])
                if name not in columns:
                    columns[name] = text_column([""] * n)
                columns[name][own] = cells
        if len(set(ids)) < n:
            raise _twice(self.path, ids)
        return items_of(ids, columns, roots[0] if same else "")

    @property
    def items(self) -> Items:
        """The rows of all parts; paths keep their root where the parts have one root."""
        return self._items

    @cached_property
    def _index(self) -> dict[str, int]:
        return {identity: row for row, identity in enumerate(self.items.id.tolist())}

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        return np.array([self._index.get(i, -1) for i in ids], dtype=np.int64)

    @property
    def all_sets(self) -> list[str]:
        return list(self._sets)

    def declared(self, name: str) -> Declared:
        if name not in self._sets:
            return self.part(0).declared(name)  # raises MissingSet
        return self._sets[name]

    def _column(self, name: str) -> Column:
        if name not in self._columns:
            column = Column(
                declared=self.declared(name),
                status=np.full(self.n, ABSENT, dtype=np.uint8),
                digest=np.zeros((self.n, 32), dtype=np.uint8),
                # nothing reads these of a whole: they cost no memory
                stat=np.broadcast_to(np.int64(-1), (self.n, 2)),
                seq=np.broadcast_to(np.int64(0), (self.n,)),
                source=np.broadcast_to(np.int32(1), (self.n,)),
                position=np.broadcast_to(np.int64(0), (self.n,)),
                sources=[""],
                errors={},
            )
            for own, part in self.each():
                if name in part.all_sets:
                    theirs, n = part._column(name), own.stop - own.start
                    column.status[own], column.digest[own] = theirs.status[:n], theirs.digest[:n]
                    said = {own.start + r: e for r, e in theirs.errors.items() if r < n}
                    column.errors.update(said)
            self._columns[name] = column
        return self._columns[name]

    def errors(self, name: str | None = None) -> list[RowError]:
        return [
            error
            for _, part in self.each()
            for each in ([name] if name else part.sets)
            if each in part.all_sets
            for error in part.errors(each)
        ]

    def unseen(self, name: str) -> dict[str, str]:
        marks: dict[str, str] = {}
        for _, part in self.each():
            marks |= part.unseen(name) if name in part.all_sets else {}
        return marks

    def behind(self) -> bool:
        return False

    def feature_set(self, name: str) -> FeatureSet:
        self.declared(name)
        return _PartedSet(self, name)


class _PartedSet(FeatureSet):
    """A set over all parts: each part is read once, whatever the order of the rows asked for."""

    def __init__(self, store: PartedStore, name: str) -> None:
        super().__init__(store, name)
        self._whole = store

    def x(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(m, d) float32, always a copy. Raises IncompleteSet, StoreDamaged."""
        m = self._whole.n if rows is None else len(np.arange(self._whole.n)[rows])
        out = np.empty((m, self.dim), dtype=np.float32)
        self.read_into(out, rows)
        return out

    def read_into(self, out: np.ndarray, rows: np.ndarray | None = None) -> None:
        every = np.arange(self._whole.n)
        wanted = every if rows is None else every[rows]
        column = self._column
        if (column.status[wanted] != OK).any():
            raise self._whole._incomplete(self.name, column, wanted)
        homes = np.searchsorted(self._whole.starts, wanted, side="right") - 1
        step = max(1, BLOCK // (self.dim * 4))
        for number in np.unique(homes).tolist():
            theirs = self._whole.part(number).feature_set(self.name)
            here = np.flatnonzero(homes == number)
            local = wanted[here] - self._whole.starts[number]
            if here[-1] - here[0] + 1 == len(here):
                theirs.read_into(out[here[0] : here[-1] + 1], local)
                continue
            for start in range(0, len(here), step):
                part = slice(start, start + step)
                out[here[part]] = theirs.x(local[part])


@dataclass
class Linked:
    """What ``link`` wrote: the file, its parts, rows in all, and by set the rows done."""

    path: Path
    parts: int = 0
    rows: int = 0
    sets: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        sets = ", ".join(f"{name} {done:,}" for name, done in self.sets.items())
        return f"{self.path}: {self.parts} parts, {self.rows:,} rows ({sets or 'no sets'})"


def link(target: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> Linked:
    """Write a parts file that joins ``sources``, in their order, without copying a vector.

    Raises OptionError for a target or source that cannot be one, RecipeMismatch when a set was made
    in two ways, ManifestError for an id in two parts.
    """
    path = Path(os.path.abspath(target))
    if not path.name.endswith(PARTS):
        raise OptionError(target, "is no name for a list of parts", f"end it in {PARTS}")
    names = []
    for source in sources:
        place = Path(os.path.abspath(source))
        if not place.is_relative_to(path.parent):
            raise OptionError(
                source, f"lies outside {path.parent}", "keep the parts beside the list"
            )
        names.append(place.relative_to(path.parent).as_posix())
    if len(set(names)) < len(names) or not names:
        raise OptionError(target, "names a part twice, or none", "name each part once")
    with PartedStore(path, [path.parent / name for name in names]) as whole:
        check_ids(whole)
        told = Linked(path, len(names), whole.n)
        for name in whole.sets:
            told.sets[name] = int(whole.complete(name).sum())
    body = {"format": FORMAT, "format_version": VERSION, "parts": names}
    raw = json.dumps(body, indent=1, ensure_ascii=False).encode() + b"\n"
    temp = commit.temp_name(path.parent)
    with commit.storage(path):
        try:
            with open(temp, "xb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
            commit.sync_directory(path.parent)
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()
    return told


def check_ids(whole: PartedStore) -> None:
    """Raises ManifestError when two parts have a row of one id. Memory: 16 bytes a row."""
    marks = np.empty(whole.n, dtype="<u8")
    for own, part in whole.each():
        ids = part.items.id[: own.stop - own.start].tolist()
        raw = (hashlib.blake2b(i.encode("utf-8", "replace"), digest_size=8).digest() for i in ids)
        marks[own] = np.frombuffer(b"".join(raw), dtype="<u8")
    if len(np.unique(marks)) < len(marks):
        _ = whole.items  # which says the id


def _twice(path: Path, ids: np.ndarray) -> ManifestError:
    seen: set[str] = set()
    for again in ids.tolist():
        if again in seen:
            break
        seen.add(again)
    what = f"the id {again!r} is in two parts"
    return ManifestError(path, what, "give every row an id of its own")
