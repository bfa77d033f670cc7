"""Numeric columns of a manifest as a feature set of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from headstock.store import Batch, FeatureStore, Manifest
from headstock.store.errors import ManifestError
from headstock.store.features import ABSENT, FAILED, OK
from headstock.store.manifest.columns import matching
from headstock.store.recipe import Recipe

__all__ = ["columns_recipe", "ingest_columns"]

_ROWS_A_COMMIT = 8192


def columns_recipe(names: Sequence[str]) -> Recipe:
    """The recipe of a set read from a table: the names of its d columns, in order."""
    return Recipe("columns", {"columns": list(names), "dtype": "float32"})


def ingest_columns(
    store: FeatureStore,
    manifest: Manifest,
    name: str,
    patterns: Sequence[str],
    ordered: bool = False,
) -> dict[str, int]:
    """Commit the numeric columns that match ``patterns`` as feature set ``name``, (n, d) float32.

    Columns keep the manifest's order, or the set's own order when it exists already; ``ordered``:
    ``patterns`` are names and keep their own, as a model knows them. A row with
    some cells empty or not finite has no vector: it is failed, by name of the first such column; a
    row with all cells empty is absent. Rows whose numbers are in the store already are left alone.
    Returns counts of rows ``done``, ``reused``, ``failed`` and ``absent``.

    Raises ManifestError when nothing matches or a column of the existing set is missing, and
    RecipeMismatch when the set was made of other columns.
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
    with np.errstate(over="ignore"):
        values = np.stack([manifest.columns[c] for c in names], axis=1)
        x = values.astype(np.float32)
    store.declare(name, columns_recipe(names), len(names), feature_names=names)

    ids = [str(i) for i in manifest.items.id]
    digest = np.frombuffer(
        b"".join(hashlib.sha256(row.tobytes()).digest() for row in values.astype("<f8")), np.uint8
    ).reshape(len(ids), 32)
    known = store.progress(name, ids)
    same = (known.status != ABSENT) & (known.digest == digest).all(axis=1)
    empty = np.isnan(values).all(axis=1)
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
                stat=np.full((len(rows), 2), -1, np.int64),
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
