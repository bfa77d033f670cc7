"""Numeric columns of a manifest as a feature set of their own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headstock.store import Batch, FeatureStore, Manifest
from headstock.store.errors import ManifestError
from headstock.store.features import ABSENT, FAILED, OK
from headstock.store.manifest.columns import matching
from headstock.store.recipe import Recipe

__all__ = ["Numbers", "columns_recipe", "ingest_columns", "read_numbers"]

_ROWS_A_COMMIT = 8192


def columns_recipe(names: Sequence[str]) -> Recipe:
    """The recipe of a set read from a table: the names of its d columns, in order."""
    return Recipe("columns", {"columns": list(names), "dtype": "float32"})


@dataclass(frozen=True)
class Numbers:
    """The numeric columns of a table that fill the set ``name``: values (n, d) float64, NaN where a
    cell is empty; digest (n, 32) of each row's; ``mark``: (2,) of the table they stand in."""

    name: str
    columns: Sequence[str]
    values: np.ndarray
    digest: np.ndarray
    mark: np.ndarray


def read_numbers(
    store: FeatureStore,
    manifest: Manifest,
    name: str,
    patterns: Sequence[str],
    ordered: bool = False,
) -> Numbers:
    """The columns that match ``patterns``, in the manifest's order, or in the set's own when it
    exists already; ``ordered``: ``patterns`` are names and keep their own, as a model knows them.
    Raises ManifestError when nothing matches.
    """
    wanted = {c for p in patterns for c in matching(manifest.columns, p, manifest.apart)}
    names = list(patterns) if ordered else [c for c in manifest.columns if c in wanted]
    if name in store.sets:
        recorded = store.feature_set(name).recipe.fields.get("columns")
        if isinstance(recorded, list) and set(recorded) == set(names):
            names = recorded
    if not names:
        raise ManifestError(
            manifest.source, f"no column matches {' '.join(patterns)}", "check names"
        )
    values = np.stack([manifest.columns[c] for c in names], axis=1)
    digest = np.frombuffer(
        b"".join(hashlib.sha256(row.tobytes()).digest() for row in values.astype("<f8")), np.uint8
    ).reshape(len(values), 32)
    digest = np.where(np.isnan(values).all(axis=1)[:, None], np.uint8(0), digest)
    place = hashlib.sha256(os.path.abspath(manifest.source).encode("utf-8", "surrogateescape"))
    mark = np.array([len(names), int.from_bytes(place.digest()[:8], "little") >> 1], np.int64)
    return Numbers(name, names, values, digest, mark)


def ingest_columns(store: FeatureStore, numbers: Numbers, ids: Sequence[str]) -> dict[str, int]:
    """Commit the numbers of the rows ``ids`` (n) as a feature set, (n, d) float32.

    A row with some cells empty or not finite has no vector: it is failed, by name of the first such
    column; a row with all cells empty is absent. Rows whose numbers are in the store already are
    left alone. Returns counts of rows ``done``, ``reused``, ``failed`` and ``absent``.

    Raises RecipeMismatch when the set was made of other columns.
    """
    name, names, digest = numbers.name, numbers.columns, numbers.digest
    with np.errstate(over="ignore"):
        x = numbers.values.astype(np.float32)
    store.declare(name, columns_recipe(names), len(names), feature_names=names)
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
