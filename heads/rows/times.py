"""Columns of dates and times, and folds in time: learn from the past, score what came next."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.rows.folds import FoldPlan
from headstock.store.errors import HeadError, OptionError

if TYPE_CHECKING:
    from headstock.store.items import Items

__all__ = ["as_times", "date_columns", "in_time", "past_of", "time_plan"]

SHARE = 0.95
"""Of the values of a column that must be dates for the column to be one of dates."""
FEWEST = 5
"""Different dates below which a column says nothing of an order."""
BLOCKS = 6
"""Parts of equally many rows that time is cut into: one to learn from, five to score."""
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


def time_plan(ids: np.ndarray, values: Iterable[str], column: str, how: str) -> FoldPlan:
    """The rows in BLOCKS blocks of time, the earliest block number 0: each later one is scored by
    what was learned from blocks before it, all of them (``how`` is ``expanding``) or the last so
    many (``sliding=3``). Rows of one time are in one block.

    Raises OptionError for another word, HeadError for rows without a date, or too few dates.
    """
    word, _, count = how.partition("=")
    if how != "expanding" and not (word == "sliding" and count.isdigit() and int(count)):
        fix = "time:COLUMN, time:COLUMN:expanding or time:COLUMN:sliding=2 (blocks)"
        raise OptionError("folds", f"time by {how!r} is no plan", fix)
    times = as_times(values)
    bare = np.flatnonzero(np.isnan(times))
    if len(bare):
        what = f"{len(bare)} of {len(times)} rows have no date in {column} (first: {ids[bare[0]]})"
        raise HeadError("folds", what, "write dates as 2026-03-01, or leave these rows out")
    rank = np.searchsorted(np.sort(times), times)  # of the first row of the same time
    codes = np.unique(rank * BLOCKS // len(times), return_inverse=True)[1].ravel()
    if codes.max() < 2:
        what = f"{len(np.unique(times))} dates in {column} make {codes.max() + 1} blocks"
        raise HeadError("folds", what, "three are needed; take a finer date or other folds")
    kind = "time, expanding" if how == "expanding" else f"time, sliding {int(count)}"
    return FoldPlan(tuple(map(str, ids)), codes[None], kind, 0, column)


def in_time(plan: FoldPlan) -> bool:
    """Whether the plan's folds are blocks of time."""
    return plan.kind.startswith("time, ")


def past_of(plan: FoldPlan, fold: int, groups: np.ndarray | None = None) -> np.ndarray:
    """(n,) bool: the rows that ``fold`` is answered from: of blocks before it, without those of
    groups (n,) that have rows in it."""
    codes, window = plan.codes[0], plan.kind.removeprefix("time, ").partition(" ")[2]
    there = codes < fold
    if window:
        there &= codes >= fold - int(window)
    if groups is not None:
        there &= ~np.isin(groups.astype(str), groups[codes == fold].astype(str))
    return there
