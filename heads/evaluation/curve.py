"""Accuracy against the number of training rows, inside the same folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.head import make_head
from headstock.heads.outoffold.answer import fit_head, full_proba
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.run.as_json import parse
from headstock.heads.run.scores import Accuracy, Line, Point
from headstock.heads.statistics.intervals import unit_codes
from headstock.heads.statistics.metrics import score

__all__ = ["SHARES", "learning_curve", "prefix_order"]

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Parts of each fold's training rows that a curve is drawn of; all of them come last."""
FEWEST = 20
"""Training rows below which a point says nothing."""


def prefix_order(codes: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """(n,) row numbers in an order of which every beginning is a fair smaller training set: each
    class in its share, or whole groups where there are groups."""
    rng = np.random.default_rng(seed)
    if groups is not None:
        keys = unit_codes(len(codes), groups)
        return np.argsort(rng.permutation(keys.max() + 1)[keys], kind="stable")
    place = np.empty(len(codes))
    for c in np.unique(codes):
        mine = np.flatnonzero(codes == c)
        place[mine] = (rng.permutation(len(mine)) + rng.random()) / len(mine)
    return np.argsort(place, kind="stable")


def learning_curve(
    board: Sequence[Line],
    proba: Mapping[str, np.ndarray],
    rows: Rows,
    plan: FoldPlan,
    *,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Point, ...]:
    """Points of the best single head on each feature set.

    In each fold of the plan's first repeat the head learns from the first sixteenth, eighth,
    quarter and half of the fold's training rows (smaller sets inside larger ones; whole groups
    where there are groups) and answers all the rows the fold holds out; ``n`` is the mean number
    of rows it learned from. The last point is the leaderboard's own.
    """
    best: dict[str, Line] = {}
    for line in board:
        if not line.late:
            best.setdefault(line.on, line)
    total, done, out = len(best) * len(SHARES) * plan.folds, 0, []
    for line in best.values():
        name, on = line.head, line.on
        sets = parts_of(on)
        which = np.flatnonzero(rows.having(sets))
        mine, cut = rows.only(sets), plan if len(which) == len(rows) else plan.take(which)
        fold, k = cut.codes[0], len(mine.classes)
        for share in SHARES:
            said, sizes = np.full((len(mine), k), np.nan), []
            for f in range(cut.folds):
                done += 1
                if progress is not None:
                    progress(done, total, f"learning curve, {line.name}")
                X, spans = mine.matrix(on, f)
                train = np.flatnonzero(fold != f)
                groups = None if mine.groups is None else mine.groups[train]
                order = train[prefix_order(mine.codes[train], groups, seed + f)]
                some = order[: round(share * len(train))]
                if len(some) < max(FEWEST, 2 * k) or len(np.unique(mine.codes[some])) < 2:
                    break
                head = make_head(name, seed, (options or {}).get(name))
                fit_head(head, name, X[some], mine.codes[some], fold[some], spans)
                said[fold == f] = full_proba(head, name, X[fold == f], k)
                sizes.append(len(some))
            if len(sizes) == cut.folds:
                out.append(_point(line.name, sizes, said, mine.codes))
        whole = [int((fold != f).sum()) for f in range(cut.folds)]
        out.append(_point(line.name, whole, proba[line.name][which], mine.codes))
    return tuple(out)


def _point(system: str, sizes: Sequence[int], proba: np.ndarray, codes: np.ndarray) -> Point:
    scores = score(proba[None], codes)
    accuracy = parse(Accuracy, scores["accuracy"])
    n = round(float(np.mean(sizes)))
    return Point(system=system, n=n, accuracy=accuracy, log_loss=scores["log_loss"])
