"""Of what each fold gets its share: the classes, or parts of the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headstock.heads.rows.labelled import Rows

__all__ = ["strata_of"]

BINS = 10
"""Parts of the numbers, of equally many rows, of which each fold gets its share."""


def strata_of(rows: Rows, folds: int) -> np.ndarray:
    """(n,) of what each fold gets its share: the classes, or ``BINS`` parts of the numbers, fewer
    where these would be too few rows for so many folds."""
    if rows.numbers is None:
        return rows.classes[rows.codes]
    bins = int(np.clip(len(rows) // (2 * folds), 2, BINS))
    edges = np.quantile(rows.numbers, np.linspace(0, 1, bins + 1)[1:-1])
    parts = np.searchsorted(edges, rows.numbers, side="left")
    if len(np.unique(parts)) < 2:  # most rows have the largest number
        parts = (rows.numbers >= rows.numbers.max()).astype(int)
    return parts
