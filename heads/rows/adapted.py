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

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.engine.outoffold import Answer, fit_head, full_proba
from headstock.heads.evaluation.tuning import Tuned, search_record
from headstock.heads.head import make_head
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import ALL, Rows, Views, parts_of
from headstock.store.errors import HeadError, HeadstockError, OptionError
from headstock.store.seen import Seen

if TYPE_CHECKING:
    from headstock.store.features import FeatureStore

__all__ = [
    "adapted_plan",
    "answer_views",
    "mark_seen",
    "own_sets",
    "seen_by",
    "with_views",
]

SEEN = ("refuse", "mark")
KIND = "adapted"
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
    store: FeatureStore,
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


def _views(store: FeatureStore, name: str, seen: Seen, rows: Rows) -> Views:
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
    return FoldPlan(tuple(map(str, rows.ids)), codes[None], KIND, 0, None)


def answer_views(
    name: str,
    on: str,
    rows: Rows,
    plan: FoldPlan,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    test: Rows | None = None,
    step: Callable[[int], None] = lambda fits: None,
) -> Answer:
    """One head on sets of which one or more have views: fold k on the vectors of network k, the
    refit for the test rows on those of the network of all rows."""
    start = time.perf_counter()
    codes, k = plan.codes[0], len(rows.classes)
    if plan.kind != KIND:
        what = "has one network a fold, and this fusion needs one for each pair of folds"
        raise HeadError(f"on {on}", what, "leave --nested and stacks of features out")
    proba = np.empty((1, len(rows), k))
    chosen: list[dict[str, Any]] = []
    losses: list[list[float]] = []
    points: list[dict[str, Any]] = []

    def search(head: Any) -> None:
        if getattr(head, "chosen_", None):
            chosen.append(head.chosen_)
        if isinstance(head, Tuned):
            points[:] = head.points
            losses.append(head.losses_)

    for fold in range(plan.folds):
        X, spans = rows.matrix(on, fold)
        train, held = np.flatnonzero(codes != fold), np.flatnonzero(codes == fold)
        head = make_head(name, seed, options)
        fit_head(head, name, X[train], rows.codes[train], codes[train], spans)
        proba[0, held] = full_proba(head, name, X[held], k)
        search(head)
        step(1)
    fresh = None
    if test is not None:
        X, spans = rows.matrix(on, ALL)
        head = fit_head(make_head(name, seed, options), name, X, rows.codes, codes, spans)
        fresh = full_proba(head, name, test.matrix(on)[0], k)
        search(head)
        step(1)
    how = "fold by fold, on a network that did not see the fold"
    tried = search_record(points, losses) if points else {}
    seconds = time.perf_counter() - start
    return Answer(proba, fresh, seconds, how, chosen=chosen, tried=tried)


def own_sets(store: FeatureStore) -> list[str]:
    """The sets of a store, without those that are one fold's view of another."""
    return [
        name
        for name in store.sets
        if (seen := seen_by(store.feature_set(name))) is None
        or seen.own is None
        or name.removesuffix(f".fold{seen.own}") not in store.sets
    ]


def mark_seen(board: Sequence[dict[str, Any]], saw: Mapping[str, int]) -> None:
    """Write on each line that reads a set whose network saw its rows, how many."""
    for line in board:
        count = max((saw.get(part, 0) for part in parts_of(line["on"])), default=0)
        if count:
            line["saw"] = count
            note = f"not honest: a network it reads saw the labels of {count} of these rows"
            line["notes"] = [*line.get("notes", []), note]
