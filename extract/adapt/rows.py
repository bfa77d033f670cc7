"""Which rows a network is adapted on, which of them each network may not see, and which choose the
epoch. Alike rows (the same bytes) and rows of one group are never parted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.store import Items
from headstock.store.errors import HeadError, OptionError
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.splits import HELD_OUT, splits_of

__all__ = ["Divide", "Labelled", "Part", "labelled", "parts", "plan_of"]

Divide = Callable[..., Any]
"""``headstock.heads.make_folds``, or what has its signature and answer: it is handed in, for rooms
of this house do not look into each other."""


@dataclass(frozen=True)
class Labelled:
    """n rows to learn from. ``rows`` are their numbers among the items; codes (n,) into ``classes``
    (k,); units (n,): rows with one number are never parted; left_out: how many more there are."""

    rows: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    units: np.ndarray
    left_out: int = 0

    @property
    def labels(self) -> np.ndarray:
        return self.classes[self.codes]

    def only(self, kept: np.ndarray) -> Labelled:
        """Those of ``kept`` (n,) bool, and the classes that they have. Raises HeadError below two
        classes."""
        classes, codes = np.unique(self.labels[kept], return_inverse=True)
        if len(classes) < 2:
            what = f"the rows that the fold plan holds have {len(classes)} classes"
            raise HeadError("adapt", what, "label rows of two or more")
        left_out = self.left_out + int((~kept).sum())
        return Labelled(self.rows[kept], codes, classes, self.units[kept], left_out)


@dataclass(frozen=True)
class Part:
    """One network's share, as positions among the labelled rows: it is trained on ``train``, its
    epoch is chosen on ``watch``, and ``hidden`` it does not see. ``fold`` is None for all rows."""

    fold: int | None
    train: np.ndarray
    watch: np.ndarray
    hidden: np.ndarray


def labelled(
    items: Items,
    usable: np.ndarray,
    digests: Sequence[np.ndarray],
    group: str | None = None,
) -> Labelled:
    """The labelled rows that are in no held-out split and are ``usable`` (n,) bool.

    digests: (n, 32) uint8 for each modality, zeros where a row has no file; rows alike in any of
    them are never parted, nor are rows with one value of the column ``group``.
    Raises OptionError for a column that is not there, HeadError below two classes.
    """
    held = np.isin(splits_of(items.split, items.id, "adapt"), HELD_OUT)
    rows = np.flatnonzero(usable & ~held & (items.label != ""))
    labels = np.array(join_forms(items.label.tolist())[0], dtype=str)
    classes, codes = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        what = f"the readable pictures outside valid and test have {len(classes)} classes"
        raise HeadError("adapt", what, "label rows of two or more")
    ties: list[list[Any]] = [
        [("same", d.tobytes()) if d.any() else ("row", i) for i, d in enumerate(digest[rows])]
        for digest in digests
    ]
    if group is not None:
        try:
            values = items.column(group)[rows]
        except KeyError as error:
            known = f"one of {error.args[0]}"
            raise OptionError("group", f"there is no column {group}", known) from error
        ties.append([("group", v) if v else ("row", i) for i, v in enumerate(values)])
    return Labelled(rows, codes, classes, _units(ties))


def _units(ties: list[list[Any]]) -> np.ndarray:
    """(n,) one number for all rows that any of the ties, lists of n names, ties together."""
    n = len(ties[0])
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for names in ties:
        first: dict[Any, int] = {}
        for i, name in enumerate(names):
            parent[root(i)] = root(first.setdefault(name, i))
    return np.unique([root(i) for i in range(n)], return_inverse=True)[1]


def plan_of(
    told: Labelled,
    ids: np.ndarray,
    folds: int | str | Any,
    divide: Divide,
    seed: int,
    group: str | None,
) -> tuple[Labelled, Any]:
    """The rows, numbers into ``ids``, and their fold plan: made anew, or a given one if it parts no
    alike rows. What a given plan does not hold, as the evaluation that made it left out a rare
    class or copies, is left out here too.

    Raises HeadError when it parts alike rows, or when the plan is of other rows.
    """
    if isinstance(folds, int | str):
        named, ids = group or "bytes", ids[told.rows]
        made = divide(told.labels, folds, ids=ids, groups=told.units, seed=seed, group_name=named)
        return told, made
    held = np.isin(ids[told.rows].astype(str), np.array(folds.ids, dtype=str))
    if held.sum() == len(folds.ids) and not held.all():
        told = told.only(held)
    plan = folds.align(ids[told.rows])
    if plan.repeats != 1:
        raise HeadError("fold plan", f"has {plan.repeats} repeats", "one: a network has one fold")
    pairs = np.unique(np.stack([told.units, plan.codes[0]]), axis=1)
    parted = len(pairs[0]) - len(np.unique(told.units))
    if parted:
        what = f"parts {parted} groups of alike rows"
        raise HeadError("fold plan", what, "evaluate with --dedupe group and the same --group")
    return told, plan


def parts(told: Labelled, plan: Any | None, divide: Divide, share: float, seed: int) -> list[Part]:
    """One Part a fold of ``plan``, and the one of all rows last."""
    everything = np.arange(len(told.rows))
    out = []
    held = np.zeros(0, dtype=int) if plan is None else plan.codes[0]
    for fold in [*range(0 if plan is None else plan.folds), None]:
        hidden = everything[:0] if fold is None else np.flatnonzero(held == fold)
        seen = everything if fold is None else np.flatnonzero(held != fold)
        watch = _watched(told, seen, divide, share, seed)
        out.append(Part(fold, seen[~watch], seen[watch], hidden))
    return out


def _watched(
    told: Labelled, seen: np.ndarray, divide: Divide, share: float, seed: int
) -> np.ndarray:
    """(m,) bool: about ``share`` of the rows ``seen``, some of each class, in whole units."""
    pairs = np.unique(np.stack([told.codes[seen], told.units[seen]]), axis=1)
    fewest = int(np.bincount(pairs[0], minlength=len(told.classes)).min())
    folds = max(2, min(round(1 / share), fewest))
    made = divide(told.labels[seen], folds, groups=told.units[seen], seed=seed)
    return made.codes[0] == 0
