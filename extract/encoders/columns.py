"""Columns of a manifest as a feature set of their own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from headstock.store import Batch, FeatureStore, Manifest
from headstock.store.disk.declared import Declared
from headstock.store.errors import ManifestError, RecipeMismatch, one_line
from headstock.store.features import ABSENT, FAILED, OK
from headstock.store.manifest.cells import FLAGS, NUMBER, Column, columns_in, recipe_of
from headstock.store.manifest.columns import matching
from headstock.store.manifest.splits import HELD_OUT
from headstock.store.recipe import Recipe

__all__ = ["Numbers", "ingest_columns", "read_numbers"]

_ROWS_A_COMMIT = 8192


@dataclass(frozen=True)
class Numbers:
    """The columns of a table that fill the set ``name``: values (n, d) float64, NaN where a cell is
    empty and nothing stands in for it; digest (n, 32) of each row's cells, zeros where all are
    empty; ``mark``: (2,) of the table they stand in; ``notes``: what a reader should know."""

    name: str
    columns: Sequence[Column]
    values: np.ndarray
    digest: np.ndarray
    mark: np.ndarray
    notes: list[str]

    @property
    def features(self) -> list[str]:
        """The names of the d values."""
        return [feature for one in self.columns for feature in one.features]

    @property
    def declared(self) -> Declared:
        """The set that these fill."""
        d, recipe = self.values.shape[1], recipe_of(self.columns)
        return Declared.of(self.name, recipe, d, "float32", self.features)


def read_numbers(
    store: FeatureStore,
    manifest: Manifest,
    name: str,
    of: Sequence[str] | Recipe,
    overwrite: bool = False,
) -> Numbers:
    """The columns that the patterns ``of`` match, in the manifest's order, by the rules of the set
    when it exists already and is not to be overwritten; or those of the recipe ``of``, as a model
    knows them.

    Raises ManifestError when nothing matches or a column is of another kind than in the set,
    UnsafeInput for a recipe that is none.
    """
    recipe, patterns = (of, ()) if isinstance(of, Recipe) else (None, of)
    wanted = {c for p in patterns for c in matching(manifest.columns, p, manifest.apart)}
    names = [c for c in manifest.columns if c in wanted]
    if recipe is None and name in store.sets and not overwrite:
        held = store.feature_set(name).recipe
        recorded = held.fields.get("columns")
        if isinstance(recorded, list) and set(map(str, recorded)) == set(names):
            recipe = held
    columns = columns_in(recipe) if recipe else _learned(manifest, names)
    lacking = [one.name for one in columns if one.name not in manifest.columns]
    if lacking or not columns:
        what = f"no column matches {' '.join(lacking or patterns)}"
        raise ManifestError(manifest.source, what, "check names")
    for one in columns:
        if (kind := manifest.kinds.get(one.name, NUMBER)) != one.kind:
            what = f"column {one.name!r} is a {kind} here and a {one.kind} in set {name!r}"
            flag = FLAGS.get(one.kind)
            fix = f"{flag} {one.name}" if flag else f"leave it out of {FLAGS[kind]}"
            raise ManifestError(manifest.source, what, f"{fix}, or --overwrite")
    cells = {one.name: manifest.columns[one.name] for one in columns}
    place = hashlib.sha256(os.path.abspath(manifest.source).encode("utf-8", "surrogateescape"))
    mark = np.array([len(cells), int.from_bytes(place.digest()[:8], "little") >> 1], np.int64)
    values = np.concatenate([one.encode(cells[one.name]) for one in columns], axis=1)
    digest = _digests(cells)
    notes = _notes(columns, cells, np.asarray(digest.any(axis=1)))
    return Numbers(name, columns, values, digest, mark, notes)


def _learned(manifest: Manifest, names: Sequence[str]) -> list[Column]:
    """The rules of new columns, from rows with any cell: a row without one is absent."""
    cells = {c: manifest.columns[c] for c in names}
    if not cells:
        return []
    there = _digests(cells).any(axis=1)
    seen = ~np.isin(manifest.items.split.astype(str), HELD_OUT)[there]
    kinds = manifest.kinds
    return [Column.of(c, kinds.get(c, NUMBER), cells[c][there], seen) for c in names]


def _digests(cells: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n, 32) sha256 of each row's cells, zeros where all are empty."""
    text = [v for v in cells.values() if v.dtype == object]
    numbers = [v for v in cells.values() if v.dtype != object]
    n = len(next(iter(cells.values())))
    block = np.stack(numbers, axis=1) if numbers else np.empty((n, 0))
    empty = np.asarray(np.isnan(block).all(axis=1))
    out = np.empty((n, 32), dtype=np.uint8)
    for at, row in enumerate(block.astype("<f8")):
        words = "\x1f".join(str(column[at]) for column in text)
        digest = hashlib.sha256(row.tobytes() + words.encode("utf-8", "surrogateescape"))
        out[at] = np.frombuffer(digest.digest(), np.uint8)
        empty[at] &= not any(column[at] for column in text)
    out[empty] = 0
    return out


def _notes(
    columns: Sequence[Column], cells: Mapping[str, np.ndarray], there: np.ndarray
) -> list[str]:
    notes = []
    for one in columns:
        values, title = cells[one.name], one_line(one.name, 60)
        if one.fill is not None and (gaps := int((np.isnan(values) & there).sum())):
            notes.append(f"{title}: empty cells count as {one.fill:g}, with a flag ({gaps:,} "
                         f"row{'s' * (gaps > 1)})")  # fmt: skip
        if other := one.unknown(values[there]):
            words = ", ".join(one_line(w, 30) or "(empty)" for w, _ in other.most_common(3))
            rows = sum(other.values())
            more = ", …" if len(other) > 3 else ""
            notes.append(f"{title}: rare or unknown words count as one: {words}{more} ({rows:,} "
                         f"row{'s' * (rows != 1)})")  # fmt: skip
    return notes


def ingest_columns(
    store: FeatureStore, numbers: Numbers, ids: Sequence[str], overwrite: bool = False
) -> dict[str, int]:
    """Commit the numbers of the rows ``ids`` (n) as a feature set, (n, d) float32.

    A row that lacks a value, or has one that is not finite, has no vector: it is failed, by name of
    the first such column; a row with all cells empty is absent. Rows whose numbers are in the store
    already are left alone. Returns counts of rows ``done``, ``reused``, ``failed`` and ``absent``.

    A set that was made of other columns is replaced with ``overwrite``, else RecipeMismatch.
    """
    name, names, digest = numbers.name, numbers.features, numbers.digest
    with np.errstate(over="ignore"):
        x = numbers.values.astype(np.float32)
    made = partial(store.declare, name, numbers.declared.recipe, len(names), feature_names=names)
    try:
        made()
    except RecipeMismatch:
        if not overwrite:
            raise
        made(overwrite=True)
    known = store.progress(name, ids)
    empty = ~digest.any(axis=1)
    same = (known.status != ABSENT) & (known.digest == digest).all(axis=1)
    bad = ~np.isfinite(x)
    todo = np.flatnonzero(~same & ~empty)
    for start in range(0, len(todo), _ROWS_A_COMMIT):
        rows = todo[start : start + _ROWS_A_COMMIT]
        failed = np.asarray(bad[rows].any(axis=1))
        errors = [
            (ids[r], "not-a-number", f"column {names[int(bad[r].argmax())]!r} has no finite value")
            for r in rows[failed]
        ]
        store.commit(
            name,
            Batch(
                ids=[ids[r] for r in rows],
                digest=digest[rows],
                stat=np.tile(numbers.mark, (len(rows), 1)),
                x=np.where(failed[:, None], 0, x[rows]).astype(np.float32),
                status=np.where(failed, FAILED, OK).astype(np.uint8),
                errors=errors,
            ),
        )
    failures = int(bad[todo].any(axis=1).sum())
    return {
        "done": len(todo) - failures,
        "reused": int((same & ~empty).sum()),
        "failed": failures,
        "absent": int(empty.sum()),
    }
