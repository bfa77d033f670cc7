"""``store import``: features that people already have, brought into a store.

What their files do not say stays unknown: the recipe has the single field ``unknown`` (where the
vectors came from and, for bags of vectors, how they were pooled), content digests are zeros, and
``extract`` refuses to add to such a set.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstock.store.disk.batch import Batch
from headstock.store.disk.declared import OK
from headstock.store.errors import ManifestError, OptionError, one_line
from headstock.store.exchange.foreign import Source, open_source
from headstock.store.features import FeatureStore
from headstock.store.items import Items
from headstock.store.progress import Report, unheard
from headstock.store.recipe import Recipe

__all__ = ["Imported", "import_features"]

ROWS = 512


@dataclass(frozen=True)
class Imported:
    """``rows`` and ``dim`` of the set that was made, and the ``layout`` its source had."""

    path: Path
    set: str
    rows: int
    dim: int
    layout: str
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        line = (
            f"{self.path}: set {self.set}, {self.rows} rows of {self.dim} features from "
            f"{self.layout}; how they were made is unknown and marked so"
        )
        return "\n".join([line, *(f"  {one_line(note)}" for note in self.notes)])


def import_features(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str = "image",
    modality: str = "image",
    pool: str | None = None,
    labels: Mapping[str, str] | None = None,
    progress: Report = unheard,
) -> Imported:
    """Make (or extend) the store ``output`` with a set ``name`` of the vectors in ``source``.

    Known layouts, told apart by what lies there: a folder of per-item HDF5 files with ``features``
    or ``feats`` (TRIDENT, CLAM, STAMP), a folder with ``.npy`` and file names (thingsvision) or
    with ``.npy`` and Parquet metadata (clip-retrieval), ``.npz``, ``.csv`` and ``.h5`` with ids.
    Items of several vectors need ``pool`` (``mean`` or ``max``). ``labels`` maps an id to its
    label. Nothing is unpickled. Memory: the ids and 512 rows, or one item's bag of vectors.
    Raises OptionError, UnsafeInput, ManifestError, StorageError.
    """
    found = open_source(Path(source), pool)
    ids = found.ids
    if not ids:
        raise OptionError(source, "holds no rows")
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ManifestError(source, f"the id {twice!r} comes twice", "give every row its own id")
    label = [(labels or {}).get(i, given) for i, given in zip(ids, found.labels(), strict=True)]
    told: dict[str, Any] = {"unknown": f"import of {found.layout} {Path(source).name}"}
    if found.pool:
        told["unknown"] += f", {found.pool} of each item's vectors"
    with FeatureStore.open(output, "a") as store:
        store.register(Items.of(ids, label=label))
        store.declare(
            name, Recipe(modality, told), found.dim, feature_names=found.feature_names,
            provenance={"imported_from": os.fspath(source), "layout": found.layout},
        )  # fmt: skip
        done = store.progress(name, ids).status == OK
        for start in range(0, len(ids), ROWS):
            progress(start, len(ids), found.layout)
            rows = [r for r in range(start, min(start + ROWS, len(ids))) if not done[r]]
            if rows:
                store.commit(name, _batch(found, rows))
        store.compact(progress=progress)
    return Imported(Path(output), name, len(ids), found.dim, found.layout, tuple(found.notes))


def _batch(found: Source, rows: Sequence[int]) -> Batch:
    x = found.read(rows)
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        where = f"{found.path}, row {found.ids[rows[int(bad[0])]]}"
        raise OptionError(where, "is not finite", "leave it out of the source, or mend it there")
    return Batch(
        ids=[found.ids[r] for r in rows],
        digest=np.zeros((len(rows), 32), dtype=np.uint8),
        stat=np.full((len(rows), 2), -1, dtype=np.int64),
        x=x,
        status=np.full(len(rows), OK, dtype=np.uint8),
    )
