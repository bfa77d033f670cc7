"""Columns of dates and times."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headstock.store.items import Items

__all__ = ["as_times", "date_columns"]

SHARE = 0.95
"""Of the values of a column that must be dates for the column to be one of dates."""
FEWEST = 5
"""Different dates below which a column says nothing of an order."""
MARKS = frozenset("-/:")


def as_times(values: Iterable[str]) -> np.ndarray:
    """(n,) seconds since 1970, in UTC where a value names no zone; NaN for what is no ISO 8601 date
    or time (with - or / between year, month and day)."""
    return np.array([_seconds(str(value).strip()) for value in values], dtype=float)


def _seconds(value: str) -> float:
    if MARKS & set(value):  # eight digits are a number more often than a day
        with suppress(ValueError, OverflowError):
            told = datetime.fromisoformat(value.replace("/", "-"))
            return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    return float("nan")


def date_columns(items: Items) -> list[str]:
    """The text columns of the manifest that hold dates."""
    out = []
    for name in items.extra:
        values = [str(value) for value in np.unique(items.column(name)) if value]
        times = as_times(values[:2000])
        there = np.isfinite(times)
        if there.sum() >= FEWEST and there.mean() >= SHARE:
            out.append(name)
    return out
