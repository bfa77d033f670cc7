"""Classes with too few rows for the folds: left out, kept as far as they go, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from headstock.heads.rows.folds import USUAL_FOLDS, FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.store.errors import OptionError

__all__ = ["RARE", "may_spread", "too_rare", "without_classes"]

RARE = ("drop", "keep", "refuse")


def too_rare(rows: Rows, folds: int | str | FoldPlan | None, how: str) -> dict[int, int]:
    """The classes that ``how`` leaves out, by code, and how many rows (or groups) each has.

    ``drop``: those with fewer rows (or groups, where rows are grouped) than there are folds, and of
    a saved plan those that it does not hold; as ``keep`` where a single class would be left.
    ``keep``: those alone of which no row could be learned from while another is scored, which are
    the classes of one row (or group). ``refuse``: none; the plan then says which are too rare.
    Plans by a column hold every class.

    Raises OptionError for another word.
    """
    if how not in RARE:
        raise OptionError("rare", f"{how!r} is no setting", f"one of {', '.join(RARE)}")
    k, folds = len(rows.classes), USUAL_FOLDS if folds is None else folds
    if how == "refuse" or rows.numbers is not None:
        return {}
    if isinstance(folds, FoldPlan):
        held = np.isin(rows.ids.astype(str), np.array(folds.ids, dtype=str))
        return {c: 0 for c in range(k) if not held[rows.codes == c].any()}
    if not isinstance(folds, int):
        return {}
    if rows.groups is None:
        units = np.bincount(rows.codes, minlength=k)
    else:
        keys = np.unique(rows.groups.astype(str), return_inverse=True)[1]
        pairs = np.unique(np.stack([rows.codes, keys]), axis=1)
        units = np.bincount(pairs[0], minlength=k)
    few = np.flatnonzero(units < (folds if how == "drop" else 2))
    if k - len(few) == 1:  # a rule that leaves nothing to tell apart is no help
        few = np.flatnonzero(units < 2)
    return {int(c): int(units[c]) for c in few}


def may_spread(rows: Rows, folds: int | str | FoldPlan | None, how: str) -> bool:
    """Whether a class of ``rows``, of which ``too_rare`` are left out, goes to as many folds as it
    has rows where these are fewer. Not where ``drop`` finds all too rare: folds are too many."""
    return how == "keep" or (how == "drop" and not too_rare(rows, folds, how))


def without_classes(rows: Rows, gone: list[str]) -> Rows:
    """The rows of all other classes, their codes into the classes that are left."""
    left = np.array([str(c) not in gone for c in rows.classes])
    kept = rows.take(np.flatnonzero(left[rows.codes]))
    place = np.cumsum(left) - 1
    return replace(kept, codes=place[kept.codes], classes=rows.classes[left])
