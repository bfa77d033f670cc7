"""Sets whose network was adapted on labels: which rows it saw, and how their scores stay honest.

A network that was trained on a row's label puts that row where its label is; a head that is scored
on it scores what the network remembers. Two ways out are taken here. Where the network was adapted
with folds there are f more sets, ``image.fold0`` …, each of a network that did not see one fold:
fold k is then learned and scored on the vectors of network k alone, all rows of it, since vectors
of two networks do not share a space. That is the very thing the last model is (a head on the
vectors of a network, both learned from the same rows), so its score is what the last model earns.
Where there are no folds, the rows are refused, or on request marked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, Views
from headstock.store.errors import HeadError, HeadstockError, OptionError
from headstock.store.seen import Seen

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = [
    "ADAPTED",
    "adapted_plan",
    "unmet_classes",
    "whole_sets",
    "seen_by",
    "with_views",
]

SEEN = ("refuse", "mark")
ADAPTED = "adapted"
"""Of a fold plan: the one that networks were adapted on."""


def seen_by(column: Any) -> Seen | None:
    """What the network behind a feature set saw; None when it was not adapted.

    Raises HeadError when it was and the list of rows is lost.
    """
    told = column.recipe.fields.get("weights")
    told = told.get("adapted") if isinstance(told, dict) else None
    if told is None:
        return None
    try:
        seen = Seen.from_json(column.provenance.get("adapted", {}))
        if seen.summary() != told:
            raise ValueError("the list of seen rows is another one than the recipe names")
    except ValueError as error:
        raise HeadError(f"set {column.name}", error, "extract it again") from error
    return seen


def with_views(
    store: StoreReader,
    rows: Rows,
    test: Rows | None,
    how: str = "refuse",
    group: str | None = None,
) -> tuple[Rows, dict[str, int]]:
    """``rows`` with the views of their adapted sets, and {set: rows whose labels its network saw}
    for the sets whose scores cannot be honest; with ``how`` ``refuse`` such a set is a HeadError,
    with ``mark`` it is the caller's to say so.

    ``group``: rows.groups are then the values of this column; folds that part them are refused.
    """
    if how not in SEEN:
        raise OptionError("seen", f"{how!r} is no setting", f"one of {', '.join(SEEN)}")
    views: dict[str, Views] = {}
    saw: dict[str, int] = {}
    for name in rows.X:
        seen = seen_by(store.feature_set(name))
        if seen is None:
            continue
        tested = 0 if test is None else int(seen.saw(test.digests[name]).sum())
        if seen.folds and seen.own is None:
            views[name] = _views(store, name, seen, rows)
            if group is not None:
                _whole(name, views[name].fold, rows.groups, group)
            count = 0
        else:
            views[name] = Views(np.zeros(len(rows), dtype=int))
            count = int(seen.saw(rows.digests[name]).sum())
        if count + tested:
            saw[name] = count + tested
        if how == "refuse" and count:
            raise HeadError(
                f"set {name}",
                f"its network saw the labels of {count} of these {len(rows)} rows",
                "adapt with --folds, or --seen mark for scores that say so",
            )
        if how == "refuse" and tested:
            raise HeadError(
                f"set {name}",
                f"its network saw the labels of {tested} of the {len(test or ())} test rows",
                "take them out of the split, or --seen mark for scores that say so",
            )
    return (replace(rows, adapted=views) if views else rows), saw


def unmet_classes(store: StoreReader, rows: Rows) -> list[str]:
    """The classes of which a network that was adapted fold by fold has met no row: what its folds
    were made by left them out."""
    out: set[str] = set()
    for name in rows.X:
        seen = seen_by(store.feature_set(name))
        if seen is not None and seen.folds and seen.own is None:
            met = np.unique(rows.codes[seen.fold_of(rows.digests[name]) >= 0])
            out |= set(np.delete(rows.classes, met).astype(str).tolist())
    return sorted(out)


def _views(store: StoreReader, name: str, seen: Seen, rows: Rows) -> Views:
    fold = seen.fold_of(rows.digests[name])
    unknown = np.flatnonzero(fold < 0)
    if len(unknown):
        raise HeadError(
            f"set {name}",
            f"{len(unknown)} rows were not there when its network was adapted "
            f"(first: {rows.ids[unknown[0]]})",
            "adapt again, or put them into split test",
        )
    where = {identity: row for row, identity in enumerate(store.items.id)}
    which = np.array([where[i] for i in rows.ids])
    found = []
    for k in range(seen.folds):
        variant = f"{name}.fold{k}"
        try:
            column = store.feature_set(variant)
            theirs = seen_by(column)
            if theirs is None or theirs.summary() != {**seen.summary(), "fold": k}:
                raise HeadError(
                    f"set {variant}", f"is not of one adaptation with {name}", "extract them again"
                )
            found.append(np.ascontiguousarray(column.x(which), dtype=np.float32))
        except HeadstockError as error:
            raise type(error)(
                error.where, f"{error.what} (for fold {k} of {name})", error.fix
            ) from error
    return Views(fold, tuple(found))


def _whole(name: str, fold: np.ndarray, groups: np.ndarray | None, column: str) -> None:
    if groups is None:
        return
    keys = np.unique(groups.astype(str), return_inverse=True)[1]
    pairs = np.unique(np.stack([keys, fold]), axis=1)
    parted = len(pairs[0]) - len(np.unique(pairs[0]))
    if parted:
        raise HeadError(
            f"set {name}",
            f"the folds of its networks part {parted} values of {column}",
            f"adapt with --group {column}",
        )


def adapted_plan(rows: Rows, folds: int | str | FoldPlan | None, repeats: int) -> FoldPlan | None:
    """The one plan on which sets with views can be scored; None without such sets.

    Raises HeadError when ``folds`` asks for another (None asks for none), or two sets have two.
    """
    viewed = {name: v for name, v in rows.adapted.items() if v.X}
    if not viewed:
        return None
    first, *others = viewed
    codes = viewed[first].fold
    for name in others:
        if not np.array_equal(viewed[name].fold, codes):
            raise HeadError(
                "folds", f"{first} and {name} were adapted on other folds", "evaluate one at a time"
            )
    there = len(viewed[first].X)
    fix = "leave --folds and --repeats away: the networks were trained on this plan"
    if repeats != 1:
        raise HeadError(f"set {first}", f"{repeats} repeats, and one network a fold", fix)
    if isinstance(folds, FoldPlan):
        if not np.array_equal(folds.align(rows.ids).codes, codes[None]):
            raise HeadError(f"set {first}", "was adapted on another fold plan", fix)
    elif folds not in (None, there):
        raise HeadError(f"set {first}", f"was adapted on {there} folds, not {folds}", fix)
    if len(np.unique(codes)) < there:
        raise HeadError(f"set {first}", "no row of one of its folds is left", "take more rows")
    return FoldPlan(tuple(map(str, rows.ids)), codes[None], ADAPTED, 0, None)


def whole_sets(store: StoreReader) -> list[str]:
    """The sets of a store, without those that are one fold's view of another."""
    return [
        name
        for name in store.sets
        if (seen := seen_by(store.feature_set(name))) is None
        or seen.own is None
        or name.removesuffix(f".fold{seen.own}") not in store.sets
    ]
