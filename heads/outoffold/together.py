"""Out-of-fold probabilities of heads on sets, and their refits on all rows.

``answer_all`` takes the shared way where a head has one and the slow honest way, ``cross_fit``,
where not. Both give the same numbers; each answer says which way it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from headstock.heads.engine.fastkernel import kernel_bytes, machine_answers, product_bytes
from headstock.heads.engine.fastlinear import (
    WIDEST,
    descent,
    from_gram,
    linear_answer,
    tuned_answer,
)
from headstock.heads.engine.fastreduced import reduced_answers
from headstock.heads.engine.parts import Part
from headstock.heads.engine.shared import Shared, widths
from headstock.heads.head import Head, make_head
from headstock.heads.kinds.components import OnComponents
from headstock.heads.kinds.strategies import Descent, Gram, Grid, Machines, OnceReduced, Strategy
from headstock.heads.kinds.svm import LANDMARKS, PAIRED
from headstock.heads.outoffold.answer import Answer, full_proba, head_error
from headstock.heads.outoffold.fold_by_fold import cross_fit
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.search.tuning import search_record
from headstock.heads.solvers.calibration import none_left
from headstock.store.errors import HeadError, HeadstockError

__all__ = ["answer_all", "goes_slow"]

SMALL = 1000
"""Rows below which kernels are not shared: the fold-by-fold way takes no time there."""


def answer_all(
    name: str,
    on: Sequence[str],
    rows: Rows,
    plan: FoldPlan,
    shared: Sequence[Shared],
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    test: Rows | None = None,
    step: Callable[[str, int], None] = lambda on, fits: None,
    among: Sequence[str] | None = None,
) -> dict[str, Answer]:
    """One head's answers on each of ``on``. ``shared`` has one entry for each repeat of the plan;
    ``step`` is told of fits done. among: all that the head is asked on, where some is known
    already: by them it is decided whether work is shared, so that no number depends on what is
    known."""
    found = _answers(name, on, rows, plan, shared, options, seed, test, step, among or on)
    unheld = getattr(make_head(name, seed, options, rows.target), "unheld", "")
    if unheld and plan.folds == 2:
        for answer in found.values():
            answer.notes.append(none_left(unheld))
    return found


def _answers(
    name: str,
    on: Sequence[str],
    rows: Rows,
    plan: FoldPlan,
    shared: Sequence[Shared],
    options: Mapping[str, Any] | None,
    seed: int,
    test: Rows | None,
    step: Callable[[str, int], None],
    among: Sequence[str],
) -> dict[str, Answer]:
    fresh_head = make_head(name, seed, options, rows.target)
    strategy: Strategy | None = getattr(fresh_head, "strategy", None)
    why = "" if strategy is None else _why_not(strategy, shared[0], among)
    if strategy is None or why:
        alone = dict.fromkeys(on, why)
    else:
        alone = {o: why for o in on if (why := _strained(strategy, shared, o))}
    if alone:
        given, options = options, _within(name, options or {}, plan, shared[0], strategy)
        out = {}
        for o, why in alone.items():
            X, spans = rows.matrix(o)
            fresh = None if test is None else test.matrix(o)[0]
            out[o] = cross_fit(
                name, X, spans, rows.y, len(rows.classes), plan,
                options=options, seed=seed, fresh=fresh, step=partial(step, o, 1),
                target=rows.target,
            )  # fmt: skip
            out[o].how += why
        together = [o for o in on if o not in alone]
        if together:
            out |= _answers(name, together, rows, plan, shared, given, seed, test, step, among)
        return {o: out[o] for o in on}
    assert strategy is not None
    if isinstance(strategy, OnceReduced):
        return _reduced(name, options, seed, on, rows, plan, test, step, shared[0].device)
    if isinstance(strategy, Grid):
        return {o: _tuned(o, shared, strategy, partial(step, o), plan) for o in on}
    start = time.perf_counter()
    weights: dict[str, list[np.ndarray]] = {o: [] for o in on}
    got: dict[str, list[tuple[np.ndarray, np.ndarray | None]]] = {o: [] for o in on}
    seconds = dict.fromkeys(on, 0.0)
    if isinstance(strategy, Machines):
        for one in shared:
            one.release()
            at_once = (one.memory - product_bytes(one, on)) // kernel_bytes(one)
            found = machine_answers(
                one.products, on, strategy.C, strategy.kernel, max(1, int(at_once))
            )
            for o, answer in found.items():
                got[o].append(answer)
                step(o, plan.folds + (one.test is not None))
        seconds = dict.fromkeys(on, (time.perf_counter() - start) / len(on))
    else:
        calibrate = bool(getattr(fresh_head, "calibrate", False))
        for o in on:
            start = time.perf_counter()
            for one in shared:
                weigh: dict[Part, np.ndarray] = {}
                if isinstance(strategy, Gram):
                    scores = from_gram(one, o, strategy.kind, strategy.setting, weigh)
                else:
                    assert isinstance(strategy, Descent)
                    scores = descent(one, o, strategy.loss, strategy.C, strategy.tol, weigh)
                got[o].append(linear_answer(one, scores, calibrate))
                weights[o] += [weigh[part] for part in sorted(weigh)]
                step(o, plan.folds + (one.test is not None))
            seconds[o] = time.perf_counter() - start
    return {
        o: Answer(
            np.stack([p for p, _ in got[o]]), got[o][0][1], seconds[o], "all folds at once",
            importances=weights[o],
        )
        for o in on
    }  # fmt: skip


def _reduced(
    name: str,
    options: Mapping[str, Any] | None,
    seed: int,
    on: Sequence[str],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None,
    step: Callable[[str, int], None],
    device: str,
) -> dict[str, Answer]:
    start, k = time.perf_counter(), len(rows.classes)

    def fresh() -> OnComponents:
        head = make_head(name, seed, options)
        if hasattr(head, "device"):
            head.device = device
        return cast(OnComponents, head)

    try:
        fits = reduced_answers(
            fresh,
            lambda head, X: full_proba(cast(Head, head), name, X, k),
            on, rows, plan, test, step,
        )  # fmt: skip
    except HeadstockError:
        raise
    except Exception as error:
        raise head_error(name, error) from error
    share = dict.fromkeys(on, 0.0)
    for fit in fits:
        share[fit.on] += fit.seconds
    spent = (time.perf_counter() - start) / sum(share.values())
    out = {
        o: Answer(np.empty((plan.repeats, len(rows), k)), None, spent * share[o],
                  "fold by fold, components found once")
        for o in on
    }  # fmt: skip
    for fit in fits:
        answer = out[fit.on]
        if fit.how and fit.how not in answer.notes:
            answer.notes.append(fit.how)
        if fit.fold < 0:
            answer.test = fit.proba
        else:
            answer.proba[fit.repeat, plan.codes[fit.repeat] == fit.fold] = fit.proba
            answer.importances += [fit.importances] if len(fit.importances) else []
    return out


def goes_slow(
    name: str, options: Mapping[str, Any] | None, seed: int, shared: Shared, on: Sequence[str]
) -> bool:
    """Whether ``answer_all`` fits this head fold by fold."""
    strategy = getattr(make_head(name, seed, options, shared.rows.target), "strategy", None)
    return strategy is None or bool(_why_not(strategy, shared, on))


def _why_not(strategy: Strategy, shared: Shared, on: Sequence[str]) -> str:
    """Why the shared way is not taken, for the reader; empty when it is."""
    if isinstance(strategy, Gram):
        widest = max(sum(widths(shared.rows, o).values()) for o in on)
        return (
            f": {widest} columns are too many for shared Gram matrices" if widest > WIDEST else ""
        )
    if isinstance(strategy, Machines):
        if len(shared.rows.classes) > PAIRED:
            return f": {len(shared.rows.classes):,} classes are too many for a machine a pair"
        if len(shared.codes) < SMALL:
            return ": few rows"
        need, most = product_bytes(shared, on) + kernel_bytes(shared), shared.memory
        upto, rows = strategy.upto, _most_rows(shared)
        if upto is not None and rows > upto:  # where the head by itself takes landmarks
            return f"; {rows:,} training rows are more than {upto:,}"
        if need > most:
            return f"; kernels would take {need / 1e9:.2g} GB of the {most / 1e9:.2g} allowed"
    return ""


def _strained(strategy: Strategy, shared: Sequence[Shared], on: str) -> str:
    """Why the answers on ``on`` are not shared whatever else is; empty where they are."""
    if isinstance(strategy, OnceReduced):
        return ""
    kernel = isinstance(strategy, Machines)
    every = ((one.products if kernel else one).strained(on) for one in shared)
    why = next(filter(None, every), "")
    return f": {why}" if why else ""


def _most_rows(shared: Shared) -> int:
    """Rows of the largest training part."""
    n = len(shared.codes)
    return n if shared.test is not None else n - int(shared.counts.sum(axis=1).min())


def _within(
    name: str,
    options: Mapping[str, Any],
    plan: FoldPlan,
    shared: Shared,
    strategy: Strategy | None,
) -> Mapping[str, Any]:
    """The options with which a kernel machine, fitted by itself, stays within the memory."""
    if not isinstance(strategy, Machines):
        return options
    rows = _most_rows(shared)
    if "landmarks" in options or 5 * rows**2 <= shared.memory:  # a kernel and its rows
        return options
    count = int(min(LANDMARKS, rows, shared.memory / (8 * rows)))
    if count < 16:
        raise HeadError(
            f"head {name}",
            f"{shared.memory / 1e9:.2g} GB are too little for {rows} rows",
            f"allow {128 * rows / 1e9:.1g} GB or more",
        )
    return {**options, "landmarks": count}


def _tuned(
    on: str,
    shared: Sequence[Shared],
    strategy: Grid,
    step: Callable[[int], None],
    plan: FoldPlan,
) -> Answer:
    start = time.perf_counter()
    got = []
    weights: list[np.ndarray] = []
    for one in shared:
        weigh: dict[Part, np.ndarray] = {}
        got.append(tuned_answer(one, on, strategy.strengths, strategy.tol, weigh))
        weights += [weigh[part] for part in sorted(weigh)]
        step(plan.folds + (one.test is not None))
    # by repeat and fold; the refit, which the first repeat alone makes, last
    choices = [(C, losses) for _, _, Cs, every in got for C, losses in zip(Cs, every, strict=True)]
    if shared[0].test is not None:
        choices.append(choices.pop(plan.folds))
    chosen = [{**strategy.fixed, "C": C} for C, _ in choices]
    points = [{**strategy.fixed, "C": C} for C in strategy.strengths]
    tried = search_record(points, [losses for _, losses in choices])
    seconds = time.perf_counter() - start
    proba = np.stack([p for p, *_ in got])
    how = "all folds at once"
    return Answer(proba, got[0][1], seconds, how, [], chosen, weights, tried=tried)
