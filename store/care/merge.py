"""``store merge``: bring the rows and vectors of other stores into one, without computing any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from headstock.store.disk.batch import Batch
from headstock.store.disk.declared import ABSENT, FAILED, OK
from headstock.store.disk.rows import anchored
from headstock.store.errors import OptionError
from headstock.store.features import FeatureStore
from headstock.store.items import Items
from headstock.store.opening import open_store
from headstock.store.progress import Report, unheard
from headstock.store.reader import StoreReader

__all__ = ["Merged", "merge"]

ROWS = 512  # in a batch: the memory that merging takes
SHOWN = 3
WORDS = ("label", "split", "group")


@dataclass
class Conflicts:
    """Ids that two stores have with other ``content``, and with another label, split or group."""

    content: list[str] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        found = {"content": self.content, **self.words}
        return [f"{len(ids):,} other {kind} ({_some(ids)})" for kind, ids in found.items() if ids]


@dataclass
class Merged:
    """Counts: ``rows`` new to the target, and by set vectors ``taken``. ``conflicts``: by source,
    ids of which both sides said something else; ``kept``: whose word stands there."""

    path: Path
    rows: int = 0
    taken: dict[str, int] = field(default_factory=dict)
    conflicts: dict[str, Conflicts] = field(default_factory=dict)
    kept: str = ""

    def text(self) -> str:
        lines = [f"{self.path}: {self.rows} new rows"]
        lines += [f"set {name}: {count} vectors taken" for name, count in self.taken.items()]
        whose = {"ours": f"kept those of {self.path.name}", "theirs": "took those from there"}
        lines += [
            f"{source}: {', '.join(found.lines())}; {whose[self.kept]}"
            for source, found in self.conflicts.items()
        ]
        return "\n".join(lines)


def merge(
    target: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    sets: Sequence[str] | None = None,
    keep: str | None = None,
    progress: Report = unheard,
) -> Merged:
    """Add the rows and the vectors of ``sources`` to ``target`` (made when missing), and compact.

    Cells that are empty in the target are filled. Where an id has other content on both sides, or
    another label, split or group, nothing is merged; with ``keep`` "ours" such a row stays as it is
    in the target, with "theirs" it becomes the source's, of several the last one's. Failed rows
    come with their reason. An interrupted merge goes on where it stopped. Raises RecipeMismatch
    when a set was made another way, MissingSet, OptionError.
    """
    merged = Merged(Path(target), kept=keep or "")
    for source in sources:
        if os.path.realpath(source) == os.path.realpath(target):
            raise OptionError(source, "is the store to merge into", "name other stores")
    with FeatureStore.open(target, "a") as store:
        if keep is None:
            _refuse_conflicts(store, sources, sets)
        for source in sources:
            with open_store(source) as other:
                names = list(sets or other.all_sets)
                for name in names:  # refuse before anything is changed
                    store.agrees(other.declared(name))
                found = _conflicts(store, other, names)
                if found.lines():
                    merged.conflicts[str(source)] = found
                apart = set(found.content)
                if keep == "theirs" and apart:
                    store.drop(found.content)
                    apart = set()
                rows = np.array([i not in apart for i in other.items.id.tolist()], dtype=bool)
                items = _joined(store, other.items.take(rows), keep == "theirs")
                merged.rows += store.register(items).added
                for name in names:
                    _take(store, other, name, merged, np.flatnonzero(rows), progress)
        store.compact(progress=progress)
    return merged


def _refuse_conflicts(
    store: FeatureStore, sources: Sequence[str | os.PathLike[str]], sets: Sequence[str] | None
) -> None:
    """Raises OptionError, before anything is changed, when two of all the stores disagree."""

    def check(ours: StoreReader, theirs: StoreReader) -> None:
        if lines := _conflicts(ours, theirs, list(sets or theirs.all_sets)).lines():
            raise OptionError(
                theirs.path.name, f"ids that {ours.path.name} has too have {', '.join(lines)}",
                f"--ours keeps what {store.path.name} has, --theirs takes the other's; rows that "
                "are others need ids of their own",
            )  # fmt: skip

    for source in sources:
        with open_store(source) as theirs:
            check(store, theirs)
    for first, second in combinations(sources, 2):
        with open_store(first) as ours, open_store(second) as theirs:
            check(ours, theirs)


def _conflicts(ours: StoreReader, theirs: StoreReader, names: Sequence[str]) -> Conflicts:
    items = theirs.items
    rows = ours.rows(items.id.tolist())
    both = np.flatnonzero(rows >= 0)
    if not both.size:
        return Conflicts()
    other = np.zeros(len(both), dtype=bool)
    for modality in {theirs.declared(name).recipe.modality for name in names}:
        other |= _other_content(ours, theirs, names, modality, rows[both], both)
    found = Conflicts(items.id[both[other]].tolist())
    same = both[~other]
    for kind in WORDS:
        mine, yours = getattr(ours.items, kind)[rows[same]], getattr(items, kind)[same]
        differs = (mine != "") & (yours != "") & (mine != yours)
        if differs.any():
            found.words[kind] = items.id[same[differs]].tolist()
    return found


def _other_content(
    ours: StoreReader,
    theirs: StoreReader,
    names: Sequence[str],
    modality: str,
    mine: np.ndarray,
    yours: np.ndarray,
) -> np.ndarray:
    """(m,) bool: of rows that both have, by the numbers of each, those of another content."""
    had, same = np.zeros(len(mine), dtype=bool), np.zeros(len(mine), dtype=bool)
    for name in ours.sets:
        if ours.declared(name).recipe.modality != modality:
            continue
        left = ours.progress(name).digest[mine]
        # numbers of a table are known by their own set, files by any set of their kind
        for other in (o for o in names if theirs.declared(o).recipe.modality == modality):
            if modality == "columns" and other != name:
                continue
            right = theirs.progress(other).digest[yours]
            both_known = left.any(axis=1) & right.any(axis=1)
            had |= both_known
            same |= both_known & (left == right).all(axis=1)
            if other == name:
                had |= _other_vectors(ours, theirs, name, mine, yours)
    return had & ~same


def _other_vectors(
    ours: StoreReader, theirs: StoreReader, name: str, mine: np.ndarray, yours: np.ndarray
) -> np.ndarray:
    """(m,) bool: rows that were imported, so that their vector is all that is known, and differ."""
    differs = np.zeros(len(mine), dtype=bool)
    if ours.declared(name).dim != theirs.declared(name).dim:
        return differs  # another recipe: refused by name
    left, right = ours.progress(name), theirs.progress(name)
    bare = (left.status[mine] == OK) & (right.status[yours] == OK)
    bare &= ~(left.digest[mine].any(axis=1) & right.digest[yours].any(axis=1))
    which = np.flatnonzero(bare)
    for start in range(0, len(which), ROWS):
        at = which[start : start + ROWS]
        x, y = ours.feature_set(name).x(mine[at]), theirs.feature_set(name).x(yours[at])
        differs[at] = (x != y).any(axis=1)
    return differs


def _joined(store: FeatureStore, items: Items, theirs: bool) -> Items:
    """``items`` as they are registered: cells that the target has stay, but for words where it is
    to take ``theirs``; paths keep their place."""
    have, rows = store.items, store.rows(items.id.tolist())
    known = rows >= 0

    def left(cells: np.ndarray, mine: np.ndarray | None) -> np.ndarray:
        out = cells.copy()
        if mine is not None:
            held = known.copy()
            held[known] = mine[rows[known]] != ""
            out[held] = ""
        return out

    paths = {k.partition("/")[2]: v for k, v in anchored(items).items()}
    if not len(have) or items.root == have.root:
        paths, root = dict(items.paths), items.root
    else:
        root = have.root
    words = {k: getattr(items, k) for k in WORDS}
    extra = dict(items.extra)
    if not theirs:
        words = {k: left(v, getattr(have, k)) for k, v in words.items()}
        extra = {k: left(v, have.extra.get(k)) for k, v in extra.items()}
    paths = {k: left(v, have.paths.get(k)) for k, v in paths.items()}
    return replace(items, paths=paths, root=root, extra=extra, **words)


def _take(
    store: FeatureStore,
    other: StoreReader,
    name: str,
    merged: Merged,
    rows: np.ndarray,
    progress: Report,
) -> None:
    """Commit the vectors of the source's ``rows`` that the target lacks."""
    given = other.declared(name)
    store.declare(name, given.recipe, given.dim, given.dtype, given.feature_names, given.provenance)
    all_ids = other.items.id
    theirs, ours = other.progress(name), store.progress(name, all_ids.tolist())
    wanted = rows[
        (
            ((theirs.status == OK) & (ours.status != OK))
            | ((theirs.status == FAILED) & (ours.status == ABSENT))
        )[rows]
    ]
    reasons = {error.id: (error.code, error.line) for error in other.errors(name)}
    for start in range(0, len(wanted), ROWS):
        progress(start, len(wanted), f"{name} of {other.path.name}")
        some = wanted[start : start + ROWS]
        ok = theirs.status[some] == OK
        x = np.zeros((len(some), given.dim), dtype=np.float32)
        x[ok] = other.feature_set(name).x(some[ok])
        picked = all_ids[some].tolist()
        store.commit(
            name,
            Batch(
                ids=picked,
                digest=theirs.digest[some],
                stat=np.full((len(some), 2), -1, dtype=np.int64),  # another machine's files
                x=x,
                status=theirs.status[some],
                errors=[(i, *reasons[i]) for i in picked if i in reasons],
            ),
        )
    merged.taken[name] = merged.taken.get(name, 0) + int((theirs.status[wanted] == OK).sum())


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (", …" if len(ids) > SHOWN else "")
