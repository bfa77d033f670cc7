"""``store import``: features that people already have, brought into a store.

An export of ours comes back whole, by its description. What the files of other tools do not say
stays unknown: the recipe has the single field ``unknown`` (where the vectors came from and, for
bags of vectors, how they were pooled), content digests are zeros, and ``extract`` refuses to add to
such a set.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.child import Died, call_in_child
from headstock.store.disk.batch import Batch
from headstock.store.disk.declared import FAILED, OK, Declared
from headstock.store.errors import ManifestError, OptionError, UnsafeInput, one_line
from headstock.store.exchange.description import seal
from headstock.store.exchange.foreign import Source, open_source
from headstock.store.exchange.source import VECTORS, Vectors
from headstock.store.features import FeatureStore
from headstock.store.items import text_column
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.splits import read_splits
from headstock.store.progress import Report, unheard
from headstock.store.recipe import Recipe

__all__ = ["Imported", "import_in_child", "import_features"]

ROWS = 512
SHOWN = 5


@dataclass(frozen=True)
class Imported:
    """``rows`` of the source and the width of each set that was made, the ``layout`` it had,
    ``unknown``: the sets of which nobody says how they were made, ``failed``: a line for each row
    that could not be read, and ``notes``."""

    path: Path
    rows: int
    sets: dict[str, int]
    layout: str
    unknown: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        sets = ", ".join(f"{name} ({dim:,} values)" for name, dim in self.sets.items())
        lines = [f"{self.path}: {self.rows:,} rows from {self.layout}, {sets}"]
        known = [name for name in self.sets if name not in self.unknown]
        if known:
            lines.append(f"made as the recipes in the file say: {', '.join(known)}")
        if self.unknown:
            lines.append(f"how they were made is unknown and marked so: {', '.join(self.unknown)}")
        return "\n".join([*lines, *(f"  {one_line(note)}" for note in self.notes)])

    def failures(self) -> list[str]:
        """What to tell of the rows that failed: the first ones, and how many more there are."""
        more = len(self.failed) - SHOWN
        lines = [f"not imported: {line}" for line in self.failed[:SHOWN]]
        return lines + [f"not imported: {more} more (store info --failed)"] * (more > 0)


def import_features(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    modality: str | None = None,
    pool: str | None = None,
    labels: Mapping[str, str] | None = None,
    progress: Report = unheard,
) -> Imported:
    """Make (or extend) the store ``output`` with the vectors in ``source``.

    What ``store export`` wrote comes back as it was: rows, labels, splits, groups, paths, other
    columns, and each set with its recipe, unless the file was changed since. ``name`` then picks
    one set, or renames the only one.

    Other known layouts, told apart by what lies there: a folder of per-item HDF5 files with
    ``features`` or ``feats`` (TRIDENT, CLAM, STAMP), a folder with ``.npy`` and file names
    (thingsvision) or with ``.npy`` and Parquet metadata (clip-retrieval), ``.npz``, ``.csv`` and
    ``.h5`` with ids. ``name`` is that of the set (by default the array's own, or ``image``); every
    array of a row an id is a set. ``modality`` is ``image`` by default. Items of several vectors
    need ``pool`` (``mean`` or ``max``). ``labels`` maps an id to its label.

    An item that cannot be read costs itself: it is recorded as failed. Nothing is unpickled.
    Memory: the ids and 512 rows, or one item's bag of vectors; of ``.npz``, ``.csv`` and
    ``.parquet`` all vectors.
    Raises OptionError, UnsafeInput, ManifestError, StoreDamaged, StorageError.
    """
    found = open_source(Path(source), pool)
    ids = found.items.id.tolist()
    if not ids:
        raise OptionError(source, "holds no rows")
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ManifestError(source, f"the id {twice!r} comes twice", "give every row its own id")
    items = found.items
    if labels:
        given = [labels.get(i, label) for i, label in zip(ids, items.label, strict=True)]
        items = replace(items, label=text_column(given))
    if all(one.declared is None for one in found.sets):  # what we wrote comes back as it was
        splits, lines = read_splits(items.split.tolist(), lambda i: f"{source}, row {ids[i]}")
        joined, more = join_forms(items.label.tolist())
        items = replace(items, split=text_column(splits), label=text_column(joined))
        found.notes += [*lines, *more]
    sets = {_name(one, name): one for one in _chosen(found, name)}
    made = {n: _declared(found, one, n, modality, progress) for n, one in sets.items()}
    failed: list[str] = []
    with FeatureStore.open(output, "a") as store:
        store.register(items)
        for set_name, one in sets.items():
            know = made[set_name]
            store.declare(
                set_name, know.recipe, know.dim, know.dtype, know.feature_names, know.provenance
            )
            failed += _fill(store, set_name, one, ids, progress)
        store.compact(progress=progress)
    unknown = [n for n, one in made.items() if "unknown" in one.recipe.fields]
    widths = {n: one.dim for n, one in sets.items()}
    return Imported(Path(output), len(ids), widths, found.layout, unknown, failed, found.notes)


def import_in_child(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    progress: Report = unheard,
    **options: Any,
) -> Imported:
    """``import_features`` in a child process with a limit of memory: HDF5 and Arrow read the source
    there. Raises what it raises, and UnsafeInput when the child crashed over the source."""
    call, options = f"{__name__}:import_features", {"output": os.fspath(output), **options}
    try:
        body = call_in_child(call, source, options, progress)
    except Died as how:
        what, fix = f"the process that read it {how}", "do not open this file"
        raise UnsafeInput(source, what, fix) from None
    return Imported(**{**body, "path": Path(body["path"])})


def _name(one: Vectors, wanted: str | None) -> str:
    """What the set is to be called: as asked, as the source calls it, or ``image``."""
    if wanted or one.declared is not None:
        return wanted or one.name
    return "image" if one.name in ("", *VECTORS) else re.sub(r"[^A-Za-z0-9_.-]+", "_", one.name)


def _chosen(found: Source, name: str | None) -> list[Vectors]:
    if name is None or len(found.sets) == 1:
        return found.sets
    mine = [one for one in found.sets if one.name == name]
    if not mine:
        have = ", ".join(one.name for one in found.sets)
        raise OptionError(found.path, f"has no set {name!r}", f"it has: {have}")
    return mine


def _declared(
    found: Source, one: Vectors, name: str, modality: str | None, progress: Report
) -> Declared:
    """What the set is declared as: what the file says, where its rows are still those that were
    exported; else unknown."""
    about = {"imported_from": os.fspath(found.path), "layout": found.layout}
    made = one.declared
    if made is not None:
        if modality not in (None, made.recipe.modality):
            what = f"set {one.name} is of {made.recipe.modality}, not {modality}"
            raise OptionError("--modality", what, "leave it out")
        if _sealed(found, one, progress):
            return replace(made, name=name, provenance={**made.provenance, **about}, epoch=0)
        found.notes.append(f"{name}: the file was changed since it was exported")
        one.digest = None
    fields: dict[str, Any] = {"unknown": f"import of {found.layout} {found.path.name}"}
    if found.pool:
        fields["unknown"] += f", {found.pool} of each item's vectors"
    kind = modality or (made.recipe.modality if made else "audio" if name == "audio" else "image")
    return Declared.of(name, Recipe(kind, fields), one.dim, "float32", one.feature_names, about)


def _sealed(found: Source, one: Vectors, progress: Report) -> bool:
    """Whether ids and vectors are those that were exported."""
    n = len(found.items)
    digest = seal(found.items.id.tolist())
    for start in range(0, n, ROWS):
        progress(start, n, "checking")
        rows = range(start, min(start + ROWS, n))
        digest.update(np.ascontiguousarray(one.read(rows), dtype="<f4").tobytes())
    return digest.hexdigest() == one.sha256


def _fill(
    store: FeatureStore, name: str, one: Vectors, ids: Sequence[str], progress: Report
) -> list[str]:
    """Commit the rows that are not there yet; the lines of those that failed."""
    done = store.progress(name, ids).status == OK
    digest = np.zeros((len(ids), 32), dtype=np.uint8) if one.digest is None else one.digest
    for start in range(0, len(ids), ROWS):
        progress(start, len(ids), name)
        rows = [r for r in range(start, min(start + ROWS, len(ids))) if not done[r]]
        if not rows:
            continue
        x = one.read(rows)
        failed = np.array([r in one.failures for r in rows])
        there = np.ones(len(rows), dtype=bool)
        if one.declared is not None:  # ours: a row without a vector is told by NaN throughout
            there = ~np.isnan(x).all(axis=1)
        _check(x[there & ~failed], [ids[r] for r in np.array(rows)[there & ~failed]], name)
        kept = np.array(rows)[there]
        if kept.size:
            store.commit(
                name,
                Batch(
                    ids=[ids[r] for r in kept],
                    digest=digest[kept],
                    stat=np.full((len(kept), 2), -1, dtype=np.int64),
                    x=np.where(failed[there, None], 0, x[there]).astype(np.float32),
                    status=np.where(failed[there], FAILED, OK).astype(np.uint8),
                    errors=[(ids[r], *one.failures[r]) for r in kept if r in one.failures],
                ),
            )
    return [one.failures[r][1] for r in sorted(one.failures)]


def _check(x: np.ndarray, ids: Sequence[str], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        where = f"set {name}, row {ids[int(bad[0])]}"
        raise OptionError(where, "is not finite", "leave it out of the source, or mend it there")
