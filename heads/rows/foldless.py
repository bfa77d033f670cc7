"""Rows that a plan by a column cannot place: an empty cell is no fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.rare import without_classes
from headstock.store.errors import HeadError

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["with_a_fold"]


def with_a_fold(
    store: StoreReader, rows: Rows, test: Rows | None, folds: int | str | FoldPlan | None
) -> tuple[Rows, Rows | None, dict[str, Any]]:
    """``rows`` without those whose cell in the column of ``given:COLUMN`` is empty, the held out
    rows of the classes that are left, and what was left out. Raises HeadError when all cells are
    empty."""
    if not isinstance(folds, str) or not folds.startswith("given:"):
        return rows, test, {}
    column = folds.partition(":")[2]
    try:
        cells = store.items.column(column)
    except KeyError:
        return rows, test, {}  # the plan says which columns there are
    known = dict(zip(store.items.id.tolist(), cells.tolist(), strict=True))
    placed = np.array([bool(known[i].strip()) for i in rows.ids.tolist()], dtype=bool)
    if placed.all():
        return rows, test, {}
    if not placed.any():
        fix = "name a column that says the fold of each row"
        raise HeadError("folds", f"no labelled row has a value in column {column}", fix)
    left_out = {"column": column, "rows": int((~placed).sum())}
    rows = rows.take(np.flatnonzero(placed))
    gone = [str(c) for k, c in enumerate(rows.classes) if not (rows.codes == k).any()]
    if gone:
        rows = without_classes(rows, gone)
        test = None if test is None else without_classes(test, gone)
        test = test if test is not None and len(test) else None
    return rows, test, left_out
