"""Out-of-fold probabilities of heads on sets, and their refits on all rows.

``answer_all`` takes the shared way where a head has one and the slow honest way, ``cross_fit``,
where not. Both give the same numbers; each answer says which way it came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from headstock.heads.engine.closed_forms import WIDEST, from_gram
from headstock.heads.engine.fastkernel import kernel_bytes, machine_answers, product_bytes
from headstock.heads.engine.fastlinear import descent, linear_answer, tuned_answer
from headstock.heads.engine.fastreduced import reduced_answers
from headstock.heads.engine.parts import Part, spread
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


@dataclass(frozen=True)
class Task:
    """A head, and what it is asked: the rows and folds of ``shared``, which has one entry for each
    repeat of the plan."""

    name: str
    options: Mapping[str, Any]
    seed: int
    shared: Sequence[Shared]
    step: Callable[[str, int], None]

    @property
    def rows(self) -> Rows:
        return self.shared[0].rows

    @property
    def plan(self) -> FoldPlan:
        return self.shared[0].plan

    @property
    def test(self) -> Rows | None:
        return self.shared[0].test

    @property
    def nested(self) -> bool:
        return self.shared[0].nested

    def head(self) -> Head:
        """A fresh one."""
        return make_head(self.name, self.seed, self.options, self.rows.target)

    @cached_property
    def strategy(self) -> Strategy | None:
        return getattr(self.head(), "strategy", None)

    def done(self, on: str, shared: Shared) -> None:
        """Tell of the fits of one repeat."""
        self.step(on, len(shared.asked))


def answer_all(
    name: str,
    on: Sequence[str],
    shared: Sequence[Shared],
    *,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    step: Callable[[str, int], None] = lambda on, fits: None,
    among: Sequence[str] | None = None,
) -> dict[str, Answer]:
    """One head's answers on each of ``on``, nested ones where ``shared`` is: proba is (r f, n, k)
    then, what it says without each fold of the rows of the others, and NaN on the fold's own.
    ``shared`` has one entry for each repeat of the plan; ``step`` is told of fits done. among: all
    that the head is asked on, where some is known already: by them it is decided whether work is
    shared, so that no number depends on what is known."""
    task = Task(name, dict(options or {}), seed, shared, step)
    found = _answers(task, on, among or on)
    unheld = getattr(task.head(), "unheld", "")
    if unheld and task.plan.folds == 2:
        for answer in found.values():
            answer.notes.append(none_left(unheld))
    return found


def _answers(task: Task, on: Sequence[str], among: Sequence[str]) -> dict[str, Answer]:
    strategy, shared = task.strategy, task.shared
    why = "" if strategy is None else _why_not(strategy, shared[0], among)
    if strategy is None or why:
        alone = dict.fromkeys(on, why)
    else:
        alone = {o: why for o in on if (why := _strained(strategy, shared, o))}
    out = {o: _alone(task, o, why) for o, why in alone.items()}
    together = [o for o in on if o not in alone]
    if not together or strategy is None:
        pass
    elif isinstance(strategy, OnceReduced):
        out |= _reduced(task, together)
    elif isinstance(strategy, Machines):
        out |= _machines(task, strategy, together)
    elif isinstance(strategy, Grid):
        out |= {o: _tuned(task, strategy, o) for o in together}
    else:
        out |= {o: _linear(task, strategy, o) for o in together}
    return {o: out[o] for o in on}


def _alone(task: Task, on: str, why: str) -> Answer:
    X, spans = task.rows.matrix(on)
    answer = cross_fit(
        task.name, X, spans, task.rows.y, len(task.rows.classes), task.plan,
        options=_within(task), seed=task.seed, nested=task.nested,
        fresh=None if task.test is None else task.test.matrix(on)[0],
        step=partial(task.step, on, 1), target=task.rows.target,
    )  # fmt: skip
    answer.how += why
    return answer


def _machines(task: Task, strategy: Machines, on: Sequence[str]) -> dict[str, Answer]:
    start = time.perf_counter()
    got: dict[str, list[tuple[np.ndarray, np.ndarray | None]]] = {o: [] for o in on}
    for one in task.shared:
        one.release()
        at_once = (one.memory - product_bytes(one, on)) // kernel_bytes(one)
        found = machine_answers(one.products, on, strategy.C, strategy.kernel, max(1, int(at_once)))
        for o, answer in found.items():
            got[o].append(answer)
            task.done(o, one)
    seconds = (time.perf_counter() - start) / len(on)
    return {o: _whole(answers, seconds, []) for o, answers in got.items()}


def _linear(task: Task, strategy: Gram | Descent, on: str) -> Answer:
    start = time.perf_counter()
    calibrate = bool(getattr(task.head(), "calibrate", False))
    got: list[tuple[np.ndarray, np.ndarray | None]] = []
    weights: list[np.ndarray] = []
    for one in task.shared:
        weigh: dict[Part, np.ndarray] = {}
        if isinstance(strategy, Gram):
            scores = from_gram(one, on, strategy.kind, strategy.setting, weigh)
        else:
            scores = descent(one, on, strategy.loss, strategy.C, strategy.tol, weigh)
        got.append(linear_answer(one, scores, calibrate))
        weights += [weigh[part] for part in sorted(weigh)]
        task.done(on, one)
    return _whole(got, time.perf_counter() - start, weights)


def _whole(
    got: Sequence[tuple[np.ndarray, np.ndarray | None]], seconds: float, weights: list[np.ndarray]
) -> Answer:
    """The answers of all repeats as one; the first has the test rows'."""
    proba = np.concatenate([p for p, _ in got])
    return Answer(proba, got[0][1], seconds, "all folds at once", importances=weights)


def _reduced(task: Task, on: Sequence[str]) -> dict[str, Answer]:
    start, rows, plan = time.perf_counter(), task.rows, task.plan
    k, each = len(rows.classes), plan.folds if task.nested else 1

    def fresh() -> OnComponents:
        head: Any = task.head()
        if hasattr(head, "device"):
            head.device = task.shared[0].device
        return cast(OnComponents, head)

    try:
        fits = reduced_answers(
            fresh,
            lambda head, X: full_proba(cast(Head, head), task.name, X, k),
            on, rows, plan, task.test, task.nested, task.step,
        )  # fmt: skip
    except HeadstockError:
        raise
    except Exception as error:
        raise head_error(task.name, error) from error
    share = dict.fromkeys(on, 0.0)
    for fit in fits:
        share[fit.on] += fit.seconds
    spent = (time.perf_counter() - start) / sum(share.values())
    shape = plan.repeats * each, len(rows), k
    out = {
        o: Answer(np.full(shape, np.nan), None, spent * share[o],
                  "fold by fold, components found once")
        for o in on
    }  # fmt: skip
    for fit in fits:
        answer = out[fit.on]
        if fit.how and fit.how not in answer.notes:
            answer.notes.append(fit.how)
        if not fit.part:
            answer.test = fit.proba
            continue
        spread(answer.proba, fit.proba, plan.codes[fit.repeat], fit.repeat * each, fit.part)
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
        need, most = product_bytes(shared, on) + kernel_bytes(shared), shared.memory
        upto, rows = strategy.upto, shared.most_rows
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


def _within(task: Task) -> Mapping[str, Any]:
    """The options with which a kernel machine, fitted by itself, stays within the memory."""
    if not isinstance(task.strategy, Machines) or "landmarks" in task.options:
        return task.options
    rows, memory = task.shared[0].most_rows, task.shared[0].memory
    if 5 * rows**2 <= memory:  # a kernel and its rows
        return task.options
    count = int(min(LANDMARKS, rows, memory / (8 * rows)))
    if count < 16:
        raise HeadError(
            f"head {task.name}",
            f"{memory / 1e9:.2g} GB are too little for {rows} rows",
            f"allow {128 * rows / 1e9:.1g} GB or more",
        )
    return {**task.options, "landmarks": count}


def _tuned(task: Task, strategy: Grid, on: str) -> Answer:
    start, plan = time.perf_counter(), task.plan
    got = []
    weights: list[np.ndarray] = []
    for one in task.shared:
        weigh: dict[Part, np.ndarray] = {}
        got.append(tuned_answer(one, on, strategy.strengths, strategy.tol, weigh))
        weights += [weigh[part] for part in sorted(weigh)]
        task.done(on, one)
    # by repeat and fold; the refit, which the first repeat alone makes, last
    choices = [(C, losses) for _, _, Cs, every in got for C, losses in zip(Cs, every, strict=True)]
    if task.test is not None:
        choices.append(choices.pop(plan.folds))
    answer = _whole(
        [(proba, test) for proba, test, *_ in got], time.perf_counter() - start, weights
    )
    answer.chosen = [{**strategy.fixed, "C": C} for C, _ in choices]
    points = [{**strategy.fixed, "C": C} for C in strategy.strengths]
    answer.tried = search_record(points, [losses for _, losses in choices])
    return answer
