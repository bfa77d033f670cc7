"""Predicting what can be predicted: rows without a vector are named, and cost only themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstock.store.errors import IncompleteSet, OptionError, one_line
from headstock.store.manifest.splits import in_split
from headstock.store.progress import Report, unheard

if TYPE_CHECKING:
    from headstock.heads.bundle.bundle import Bundle
    from headstock.heads.bundle.predictions import Predictions
    from headstock.store.reader import StoreReader

__all__ = ["predict_complete"]

_SHOWN = 5


def predict_complete(
    bundle: Bundle,
    store: StoreReader,
    ids: Sequence[str] | None = None,
    split: str | None = None,
    fill: str | None = None,
    where: object = None,
    progress: Report = unheard,
) -> tuple[Predictions, list[str]]:
    """Predictions of the rows of ``ids`` (all by default, in the store's order) that have a vector
    in every set the model reads, and a line for each row that has not: which set, and why. A model
    for rows that may lack a set leaves out those alone that have none.
    ``split`` keeps the rows of that split only. ``fill`` answers rows without a vector, as
    ``Predictions.filled`` says. ``where``: what the rows were read from, for errors, when the store
    is but a means.

    After five rows of a set the rest is counted. Raises MissingSet and RecipeMismatch as
    ``Bundle.predict`` does, OptionError when no row has the split, and IncompleteSet when no row is
    left.
    """
    known = {str(name): row for row, name in enumerate(store.items.id)}
    rows = np.arange(len(known)) if ids is None else np.array([known[str(i)] for i in ids], int)
    if split:
        rows = rows[in_split(store.items.split[rows], split)]
        if not len(rows):
            have = sorted({s for s in store.items.split if s}) or ["none"]
            raise OptionError(
                store.path, f"no row of split {split!r}", f"it has: {', '.join(have)}"
            )
    ready = bundle.ready(store)
    if not ready[rows].any():
        join = " or " if bundle.patterns else " and "
        raise IncompleteSet(
            where or store.path,
            f"none of {len(rows)} rows has a vector in {join.join(bundle.recipes)}"
            + (f" (first: {_first(bundle, store, rows)})" if where else ""),
            "check the paths; --image-root and --audio-root say where they begin"
            if where
            else "extract them first; `headstock store info` says why they failed",
        )  # fmt: skip
    predictions = bundle.predict(store, rows[ready[rows]], progress)
    left_out = _left_out(bundle, store, rows[~ready[rows]])
    if fill is not None:
        predictions = predictions.filled([str(i) for i in store.items.id[rows]], fill)
        left_out = [line.replace("not predicted", f"answered by {fill}", 1) for line in left_out]
    return predictions, left_out


def _first(bundle: Bundle, store: StoreReader, rows: np.ndarray) -> str:
    """Why the first of the rows failed."""
    lines = _left_out(bundle, store, rows[:1])
    return lines[0].removeprefix("not predicted: ") if lines else "nothing is known of it"


def _left_out(bundle: Bundle, store: StoreReader, rows: np.ndarray) -> list[str]:
    lines: list[str] = []
    for name in bundle.recipes if len(rows) else ():
        if name not in store.sets:
            lines.append(f"no row has a vector in {name}: the store has no such set")
            continue
        lacking = rows[~np.asarray(store.complete([name]), dtype=bool)[rows]]
        reasons = {e.id: f"{e.code}: {e.line}" for e in store.errors(name)}
        for row in lacking[:_SHOWN]:
            item = str(store.items.id[row])
            why = reasons.get(item, "no file is named for it")
            lines.append(f"not predicted: {one_line(item, 80)}: no {name} vector ({why})")
        if len(lacking) > _SHOWN:
            lines.append(f"not predicted: {len(lacking) - _SHOWN} more rows without {name}")
    return lines
