"""The fingerprints that a store keeps of the files behind some rows, to find copies by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.rows.copies import copies
from headstock.heads.rows.near import tight
from headstock.store.fingerprints import fingerprint_set

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["Media", "media_of"]

LARGEST = 20_000
"""Rows above which copies are not searched by fingerprints: the search is quadratic."""
WORDS = {"image": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Media:
    """Of n rows. modality: {set: what it was made from}; prints: {modality: the rows that have a
    fingerprint, and the fingerprints (k, d)}."""

    modality: Mapping[str, str]
    prints: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def copies(self) -> tuple[dict[str, list[np.ndarray]], list[str]]:
        """{modality: clusters of rows that show or sound the same}, and why some was left out."""
        found, skipped = {}, []
        for modality, (rows, X) in self.prints.items():
            if len(rows) > LARGEST:
                word = f"copies of one {WORDS[modality]} are not searched"
                skipped.append(f"{modality}: {word} above {LARGEST} rows")
                continue
            pairs = copies(X, modality)
            found[modality] = [rows[c] for c in tight(pairs[:, 0], pairs[:, 1], len(rows))]
        return found, skipped

    def lacking(self, name: str, there: np.ndarray) -> int:
        """How many of the rows ``there``, which have set ``name``, have no fingerprint."""
        rows = self.prints.get(self.modality[name], (np.empty(0, dtype=int), None))[0]
        return int((~np.isin(there, rows)).sum())


def media_of(store: StoreReader, names: Sequence[str], ids: Sequence[str]) -> Media:
    """Of the rows ``ids``, for the sets ``names`` of an open store."""
    modality = {name: store.feature_set(name).recipe.modality for name in names}
    where = store.rows([str(i) for i in ids])
    prints = {}
    for one in sorted(set(modality.values())):
        name = fingerprint_set(one)
        if name not in store.fingerprints:
            continue
        rows = np.flatnonzero(store.complete([name])[where])
        if len(rows):
            few = rows if len(rows) <= LARGEST else rows[:0]  # not read where not compared
            prints[one] = rows, store.feature_set(name).x(where[few])
    return Media(modality, prints)
