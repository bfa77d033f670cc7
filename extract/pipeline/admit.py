"""Which row of a store each row of a table is, and when the table's words about it count.

A row is its id. A known id whose file has another place *and* other bytes is another row, and the
table is refused before anything is changed; another place with the same bytes is a file that moved.
Where the file at the known place has changed, the table's label, split and group wait until its new
content is in the store. Without an id column the id is the path as the table writes it; a row
of the store that an earlier version named by the file's name alone, or whose file moved, is found
again by its place or its bytes.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from headstock.extract.encoders.columns import Numbers
from headstock.extract.pipeline.pending import marks
from headstock.store import ABSENT, OK, FeatureStore, Items
from headstock.store.datafile import UNKNOWN, Reader
from headstock.store.errors import ItemError, ManifestError
from headstock.store.items import text_column

__all__ = ["Admission", "admit", "settle", "shown_path"]

THREADS = 8  # files hashed side by side
SHOWN = 3


@dataclass(frozen=True)
class Admission:
    """n rows that were let into a store. ``items``: by the ids that the store knows them by;
    ``waits`` (n,): rows whose words wait for their content; ``marks``: {modality: (n, 2)} of the
    files as they are now; ``moved``: ids of files that lie elsewhere now; ``before``: {set: (n,)
    what the store had been told of the row, (n, 32) the digest it had, the set's epoch}."""

    items: Items
    waits: np.ndarray
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    before: Mapping[str, tuple[np.ndarray, np.ndarray, int]] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> Admission:
        """The admission of ``rows``, an integer index."""
        return replace(
            self,
            items=self.items.take(rows),
            waits=self.waits[rows],
            marks={m: now[rows] for m, now in self.marks.items()},
            before={s: (a[rows], d[rows], epoch) for s, (a, d, epoch) in self.before.items()},
        )


def admit(
    store: FeatureStore,
    items: Items,
    reader: Reader,
    modalities: Sequence[str] = (),
    values: Sequence[Numbers] = (),
    source: str = "rows",
) -> Admission:
    """Register ``items``; ``modalities``: those whose files are about to be read; ``values``: the
    numbers that are about to be taken. Durable when it returns.

    Raises ManifestError, and changes nothing, when known ids come with other files or numbers.
    """
    desk = _Desk(store, reader, source)
    items = desk.known_names(items)
    ids, waits = items.id.tolist(), np.zeros(len(items), dtype=bool)
    moved, anew = desk.sort_out(items)
    for one in values:
        waits |= desk.other_numbers(items, one)
    seen, before = {}, {}
    for modality in dict.fromkeys(modalities):
        seen[modality], changed = desk.look(items, modality)
        changed[moved] = False
        waits |= changed
    for name in [s for m in seen for s in desk.sets(m)] + [v.name for v in values]:
        if name in store.sets and waits.any():
            told = store.sequence(name, ids), store.progress(name, ids).digest
            before[name] = (*told, store.declared(name).epoch)
    if anew:
        store.forget(items.id[anew].tolist())
    store.register(items.take(~waits) if waits.any() else items)
    return Admission(items, waits, seen, tuple(items.id[moved].tolist()), before)


def settle(store: FeatureStore, admission: Admission) -> list[str]:
    """Say the table's words of rows that waited, where their content is in the store now; the ids
    of those whose content is another than before."""
    waiting = np.flatnonzero(admission.waits)
    if not len(waiting):
        return []
    items = admission.items.take(waiting)
    ids = items.id.tolist()
    seen, other = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    for name, (said, digest, epoch) in admission.before.items():
        fresh, known = store.sequence(name, ids) > said[waiting], digest[waiting].any(axis=1)
        differs = (store.progress(name, ids).digest != digest[waiting]).any(axis=1)
        seen |= fresh
        other |= fresh & known & differs
        if store.declared(name).epoch != epoch:  # made anew: its commits had nothing to compare
            store.forget(items.id[fresh & known & differs].tolist())
    if seen.any():
        store.register(items.take(seen))
    return items.id[other].tolist()


class _Desk:
    """Compares a table's rows with those of a store; every file is hashed once at most."""

    def __init__(self, store: FeatureStore, reader: Reader, source: str) -> None:
        self._store, self._reader, self._source = store, reader, source
        self._have = store.items
        self._hashed: dict[str, bytes] = {}

    def sets(self, modality: str) -> list[str]:
        store = self._store
        return [s for s in store.sets if store.declared(s).recipe.modality == modality]

    def _contents(self, paths: Sequence[str], reader: Reader) -> list[bytes]:
        """sha256 of each file, nothing for one that cannot be read."""

        def look(path: str) -> bytes:
            with suppress(ItemError):
                return hashlib.sha256(reader.read(path)[0]).digest()
            return b""

        new = [p for p in dict.fromkeys(paths) if reader.path(p) not in self._hashed]
        with ThreadPoolExecutor(THREADS) as pool:
            for path, digest in zip(new, pool.map(look, new), strict=True):
                self._hashed[reader.path(path)] = digest
        return [self._hashed[reader.path(path)] for path in paths]

    def _made_from(self, modality: str, rows: np.ndarray) -> list[set[bytes]]:
        """The content that each row's vectors of a modality were made from."""
        out: list[set[bytes]] = [set() for _ in rows]
        for name in self.sets(modality):
            told = self._store.progress(name)
            ok = (told.status[rows] == OK) & told.digest[rows].any(axis=1)
            for at in np.flatnonzero(ok).tolist():
                out[at].add(told.digest[rows[at]].tobytes())
        return out

    # --- files

    def sort_out(self, items: Items) -> tuple[list[int], list[int]]:
        """The rows whose file moved, and those that get another file and never had a vector.
        Raises ManifestError for rows that are others than the store's."""
        rows = self._store.rows(items.id.tolist())
        moved, anew, alien = [], [], []  # type: list[int], list[int], list[int]
        for modality in items.paths:
            away = self._elsewhere(items, rows, modality)
            paths = items.paths[modality][away].tolist()
            known = self._made_from(modality, rows[away])
            bare = [at for at, made in enumerate(known) if not made]
            if bare:  # the file that it named before is all there is to compare with
                old = self._have.paths[modality][rows[away[bare]]].tolist()
                for at, digest in zip(bare, self._contents(old, Reader(self._have.root))):
                    known[at] = {digest} - {b""}
            for at, digest in zip(away.tolist(), self._contents(paths, self._reader)):
                made = known.pop(0)
                (anew if not made else moved if digest in made else alien).append(at)
        if alien:
            self._refuse(items, sorted(set(alien)), "another file and other bytes")
        return sorted(set(moved) - set(anew)), sorted(set(anew))

    def _elsewhere(self, items: Items, rows: np.ndarray, modality: str) -> np.ndarray:
        """The rows that the store knows with a file at another place."""
        old, new = text_column([""] * len(items)), items.paths[modality]
        if modality in self._have.paths:
            old[rows >= 0] = self._have.paths[modality][rows[rows >= 0]]
        named = (old != "") & (new != "")
        if items.root == self._have.root:
            named &= old != new
        return np.array(
            [
                at
                for at in np.flatnonzero(named).tolist()
                if _place(items.root, new[at]) != _place(self._have.root, old[at])
            ],
            dtype=np.int64,
        )

    def _refuse(self, items: Items, alien: Sequence[int], what: str) -> None:
        """Other rows under known ids: raises ManifestError with the ways out."""
        ids = items.id[alien].tolist()
        store = shlex.quote(shown_path(self._store.path))
        few = " ".join(f"--id {shlex.quote(i)}" for i in ids)
        which = few if len(ids) <= SHOWN else f"--in {shlex.quote(self._source)}"
        raise ManifestError(
            self._source,
            f"{len(ids):,} {'ids are' if len(ids) > 1 else 'id is'} in {self._store.path.name} "
            f"with {what}: {_some(ids)}",
            "other rows need ids of their own (--id-col) or another store; if the table was "
            f"corrected, first `headstock store drop {store} {which}`",
        )

    def look(self, items: Items, modality: str) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) marks of the files as they are now, of rows that have been tried; (n,) whether
        one has changed, as far as marks tell, since it was read."""
        ids, paths = items.id.tolist(), items.paths[modality]
        told = [self._store.progress(name, ids) for name in self.sets(modality)]
        tried = np.zeros(len(ids), dtype=bool)
        known, stands = tried.copy(), tried.copy()
        for one in told:
            tried |= (one.status != ABSENT) & (paths != "")
        now = np.full((len(ids), 2), UNKNOWN[0], dtype=np.int64)
        now[tried] = marks(self._reader, paths[tried].tolist())
        for one in told:
            known |= one.digest.any(axis=1)
            stands |= one.digest.any(axis=1) & (one.stat == now).all(axis=1)
        there = (now != UNKNOWN).any(axis=1)  # what is absent has not changed
        return now, tried & known & there & ~stands

    # --- numbers

    def other_numbers(self, items: Items, values: Numbers) -> np.ndarray:
        """(n,) bool: rows whose numbers in this table are others than before. Raises ManifestError
        when the store took its numbers from another table: then they are other rows."""
        have = self._store.declarations.get(values.name)
        if have is None or have.recipe != values.declared.recipe:  # it will be another set
            return np.zeros(len(items), dtype=bool)
        told = self._store.progress(values.name, items.id.tolist())
        both = told.digest.any(axis=1) & values.digest.any(axis=1)
        other = both & (told.digest != values.digest).any(axis=1)
        alien = other & (told.status == OK) & (told.stat != values.mark).any(axis=1)
        if alien.any():
            self._refuse(items, np.flatnonzero(alien).tolist(), "other numbers, of another table")
        return other

    # --- names

    def known_names(self, items: Items) -> Items:
        """``items`` by the ids that the store knows: a row whose id is its path may stand there
        under the file's name alone, or under the path where the file lay before."""
        have, rows = self._have, self._store.rows(items.id.tolist())
        new = [at for at in np.flatnonzero(rows < 0).tolist() if _path_of(items, at)]
        if not new or not len(have):
            return items
        named = set(rows.tolist())
        places: dict[str, list[int]] = {}
        for row in range(len(have)):
            if row not in named and (path := _path_of(have, row)):
                places.setdefault(_place(have.root, path), []).append(row)
        found: dict[int, int] = {}
        for at in new:
            same = places.pop(_place(items.root, _path_of(items, at)), [])
            if len(same) > 1:
                raise ManifestError(
                    self._source,
                    f"{items.id[at]} is {len(same)} rows of {self._store.path.name}: "
                    f"{_some(have.id[same].tolist())}",
                    "name the column of ids with --id-col",
                )
            if same:
                found[at] = same[0]
        left = [at for at in new if at not in found]
        gone = [row for same in places.values() for row in same]
        found |= self._moved(items, left, gone)
        if not found:
            return items
        ids = items.id.copy()
        for at, row in found.items():
            ids[at] = have.id[row]
        return replace(items, id=ids)

    def _moved(self, items: Items, new: list[int], old: list[int]) -> dict[int, int]:
        """{row of the table: row of the store} of files that lie elsewhere now: the bytes are the
        same, and no other file has them."""
        if not new or not old:
            return {}
        paths = [_path_of(items, at) for at in new]
        sizes = marks(self._reader, paths)[:, 0]
        known = sizes[sizes >= 0]
        out: dict[int, int] = {}
        for modality in items.paths:
            size = np.full((len(old), 0), -1)
            for name in self.sets(modality):
                size = np.c_[size, self._store.progress(name).stat[old, 0]]
            fits = np.atleast_1d(np.isin(size, known).any(axis=1))
            like = [old[at] for at in np.flatnonzero(fits).tolist() if not self._lies(old[at])]
            if not like:
                continue
            made = self._made_from(modality, np.array(like))
            before = _once({r: next(iter(m)) for r, m in zip(like, made) if len(m) == 1})
            now = _once(dict(zip(new, self._contents(paths, self._reader))))
            out |= {now[digest]: row for digest, row in before.items() if digest in now}
        return out

    def _lies(self, row: int) -> bool:
        """Whether the file of a row of the store is where it was."""
        return os.path.exists(_place(self._have.root, _path_of(self._have, row)))


def shown_path(path: Path) -> str:
    """As a person here would write it."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near


def _place(root: str, path: str) -> str:
    return os.path.normpath(os.path.join(root, path))


def _path_of(items: Items, row: int) -> str:
    """The row's path where its id was made of it, whole or its last part; else nothing."""
    for paths in items.paths.values():
        if path := paths[row]:
            written = unicodedata.normalize("NFC", path)
            same = items.id[row] in (path, written) or written.endswith("/" + items.id[row])
            return path if same else ""
    return ""


def _once(digests: Mapping[int, bytes]) -> dict[bytes, int]:
    """{digest: row} of what only one row has."""
    counts = Counter(digests.values())
    return {digest: row for row, digest in digests.items() if digest and counts[digest] == 1}


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
