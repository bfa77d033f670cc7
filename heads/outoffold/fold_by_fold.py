"""The slow honest way: a fresh head for each fold, fitted on its training rows alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from headstock.heads.engine.parts import Part, kept, parts_left_out, spread
from headstock.heads.head import make_head
from headstock.heads.outoffold.answer import Answer, answers_of, fit_head
from headstock.heads.rows.adapted import ADAPTED
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import ALL, Rows
from headstock.heads.search.tuning import Tuned, search_record
from headstock.heads.specs import CLASSES
from headstock.heads.threads import one_thread_each, threads
from headstock.store.errors import HeadError

__all__ = ["answer_views", "cross_fit"]


def cross_fit(
    name: str,
    X: np.ndarray,
    spans: Mapping[str, slice],
    y: np.ndarray,
    k: int,
    plan: FoldPlan,
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    fresh: np.ndarray | None = None,
    nested: bool = False,
    step: Callable[[], None] = lambda: None,
    target: str = CLASSES,
) -> Answer:
    """The slow honest way: a fresh head for each fold, fitted on its training rows alone.

    X (n, d), y (n,) codes or numbers, fresh (m, d) the test rows for the refit. ``step`` is called
    after each fit. Inside a fold the head holds out by the plan's other folds. A head that says
    ``parallel`` has its folds fitted beside each other, one thread each. ``nested`` as in
    ``together.answer_all``.
    """
    start = time.perf_counter()
    each = plan.folds if nested else 1
    proba = np.full((plan.repeats * each, len(X), k), np.nan)
    test = None
    # The refit first: it is the longest
    jobs: list[tuple[int, Part]] = [] if fresh is None else [(0, ())]
    parts = parts_left_out(plan.folds, False, False, nested)
    jobs += [(r, part) for r in range(plan.repeats) for part in parts]

    hows: dict[tuple[int, Part], str] = {}

    def fit(job: tuple[int, Part]) -> tuple[np.ndarray, Any, Any]:
        repeat, part = job
        codes_of = plan.codes[repeat]
        train = np.flatnonzero(kept(codes_of, part))
        head = make_head(name, seed, options, target)
        fit_head(head, name, X[train], y[train], codes_of[train], spans)
        hows[job] = getattr(head, "how_", "")
        asked = X[np.isin(codes_of, part)] if part else fresh
        assert asked is not None
        weight = head.importances() if len(part) == 1 and hasattr(head, "importances") else None
        if isinstance(head, Tuned):
            searched[job] = head.losses_
        return answers_of(head, name, asked, k, target), getattr(head, "chosen_", None), weight

    picked: dict[tuple[int, Part], Any] = {}
    searched: dict[tuple[int, Part], list[float]] = {}
    model = make_head(name, seed, options, target)
    weights: list[np.ndarray] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        beside = bool(getattr(model, "parallel", False))
        with one_thread_each(beside), ThreadPoolExecutor(threads() if beside else 1) as pool:
            for (repeat, part), (said, choice, weight) in zip(jobs, pool.map(fit, jobs)):
                picked[repeat, part] = choice
                weights += [] if weight is None else [np.asarray(weight, dtype=np.float64)]
                if not part:
                    test = said
                spread(proba, said, plan.codes[repeat], repeat * each, part)
                step()
    order = sorted(jobs, key=lambda job: (not job[1], job))
    chosen = [picked[job] for job in order if picked[job]]
    tried = {}
    if isinstance(model, Tuned):
        tried = search_record(model.points, [searched[job] for job in order], model.loss)
    notes = sorted({f"{w.category.__name__}: {str(w.message).splitlines()[0]}" for w in caught})
    seconds = time.perf_counter() - start
    own = [hows[jobs[-1]]] if hows[jobs[-1]] else []
    how = "; ".join(["fold by fold", *own])
    notes += own
    return Answer(proba, test, seconds, how, notes, chosen, weights, tried=tried)


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
    if plan.kind != ADAPTED:
        what = "has one network a fold, and this fusion needs one for each pair of folds"
        raise HeadError(f"on {on}", what, "leave --nested and stacks of features out")
    proba = np.empty((1, len(rows), k))
    chosen: list[dict[str, Any]] = []
    losses: list[list[float]] = []
    points: list[dict[str, Any]] = []
    loss: list[str] = []

    def search(head: Any) -> None:
        if getattr(head, "chosen_", None):
            chosen.append(head.chosen_)
        if isinstance(head, Tuned):
            points[:], loss[:] = head.points, [head.loss]
            losses.append(head.losses_)

    for fold in range(plan.folds):
        X, spans = rows.matrix(on, fold)
        train, held = np.flatnonzero(codes != fold), np.flatnonzero(codes == fold)
        head = make_head(name, seed, options, rows.target)
        fit_head(head, name, X[train], rows.y[train], codes[train], spans)
        proba[0, held] = answers_of(head, name, X[held], k, rows.target)
        search(head)
        step(1)
    fresh = None
    if test is not None:
        X, spans = rows.matrix(on, ALL)
        head = make_head(name, seed, options, rows.target)
        fit_head(head, name, X, rows.y, codes, spans)
        fresh = answers_of(head, name, test.matrix(on)[0], k, rows.target)
        search(head)
        step(1)
    how = "fold by fold, on a network that did not see the fold"
    tried = search_record(points, losses, *loss) if points else {}
    seconds = time.perf_counter() - start
    return Answer(proba, fresh, seconds, how, chosen=chosen, tried=tried)
