"""Extracting some rows again, to see how far this machine is from the one that filled a store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.decode.workers import decoded
from headstock.extract.encoders.backbones import encoder_from_recipe
from headstock.store import OK, StoreReader
from headstock.store.datafile import Reader
from headstock.store.dataroot import DataRoot
from headstock.store.errors import HeadstockError, ItemError
from headstock.store.progress import Report, unheard

__all__ = ["Deviation", "recompute"]

TOLERANCE = 1e-2
"""Relative distance above which a vector counts as another one. Machines, thread counts and library
versions differ by 1e-7 to 1e-4 in float32; bfloat16 by some 1e-2."""


@dataclass
class Deviation:
    """One set: ``rows`` compared; ``worst`` relative distance |new - stored| / |stored|, of row
    ``worst_id``; ``skipped``: rows whose file is gone, changed or unreadable, one line each."""

    set: str
    rows: int = 0
    worst: float = 0.0
    worst_id: str = ""
    skipped: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.worst <= TOLERANCE

    def text(self) -> str:
        if not self.rows:
            return "\n".join([f"{self.set}: nothing could be compared", *self.skipped])
        verdict = "agrees" if self.good else "DIFFERS"
        line = f"{self.set}: {self.rows} rows again, {verdict}: worst relative deviation "
        return "\n".join([f"{line}{self.worst:.1e} ({self.worst_id})", *self.skipped])


def recompute(
    store: StoreReader,
    rows: int,
    *,
    seed: int = 0,
    device: str = "auto",
    offline: bool = False,
    data: str | os.PathLike[str] | None = None,
    progress: Report = unheard,
) -> list[Deviation]:
    """Extract ``rows`` random rows of each set again, from the files and the recipe alone.

    A set that was imported or read from a table, or whose weights cannot be had, is said to be so
    in ``skipped``. A file whose bytes are not those that were extracted is not compared. ``data``:
    the folder that the store's paths are relative to; nothing outside it is read.

    Raises OptionError when the store names a folder outside its own and ``data`` does not.
    """
    items = store.items
    reader = None
    if any(store.feature_set(name).recipe.modality in items.paths for name in store.sets):
        reader = DataRoot.of(Path(store.path), items.root, data).reader(store.path)
    told = {"rows": rows, "seed": seed, "device": device, "offline": offline}
    return [_one(store, name, reader, told, progress) for name in store.sets]


def _one(
    store: StoreReader,
    name: str,
    reader: Reader | None,
    asked: dict[str, Any],
    progress: Report,
) -> Deviation:
    told, column, items = Deviation(name), store.feature_set(name), store.items
    recipe = column.recipe
    if reader is None or recipe.modality not in items.paths or "unknown" in recipe.fields:
        told.skipped.append(f"{name}: was not made from files that are known here")
        return told
    try:
        encoder = encoder_from_recipe(
            recipe,
            provenance=column.provenance,
            device=asked["device"],
            offline=asked["offline"],
        )
    except HeadstockError as error:
        told.skipped.append(str(error))
        return told
    there = np.flatnonzero(np.asarray(column.status) == OK)
    chosen = np.random.default_rng(asked["seed"]).permutation(there)[: asked["rows"]]
    rows = np.sort(chosen)
    paths = [items.paths[recipe.modality][row] for row in rows]
    for done in decoded(reader, encoder.loader, paths):
        row, path = rows[done.number], paths[done.number]
        progress(done.number, len(rows), name)
        if done.error is not None:
            told.skipped.append(done.error[1])
            continue
        if done.digest != column.digest[row].tobytes():
            changed = ItemError(path, "has changed since extraction", "extract it again")
            told.skipped.append(str(changed))
            continue
        new = encoder.encode([done.item])[0].astype(np.float64)
        old = column.x(np.array([row]))[0].astype(np.float64)
        distance = float(np.linalg.norm(new - old)) / max(float(np.linalg.norm(old)), 1e-12)
        told.rows += 1
        if distance >= told.worst:
            told.worst, told.worst_id = distance, str(items.id[row])
    return told
