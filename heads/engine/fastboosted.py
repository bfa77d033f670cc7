"""Boosted trees on all training parts, a wide set's components found once in a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headstock.heads.kinds.boosted import LightGBM
from headstock.heads.kinds.components import Components
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.threads import one_thread_each, threads

__all__ = ["Fitted", "boosted_answers"]

Fitted = tuple[int, int, str, np.ndarray, np.ndarray]
"""Repeat, fold (-1: the refit), ``on``, what is said of the rows held out, importances (d,)."""


def boosted_answers(
    make: Callable[[], LightGBM],
    say: Callable[[LightGBM, np.ndarray], np.ndarray],
    on: Sequence[str],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None,
    step: Callable[[str, int], None],
) -> list[Fitted]:
    """All fits of the head on each ``on``, a training part a thread. ``say(head, X)`` gives what a
    fitted head says of X."""
    # The refit first: it is the longest
    jobs = [(0, -1)] if test is not None else []
    jobs += [(r, f) for r in range(plan.repeats) for f in range(plan.folds)]

    def part(job: tuple[int, int]) -> list[Fitted]:
        repeat, fold = job
        train = plan.codes[repeat] != fold
        source, asked = (rows, plan.codes[repeat] == fold) if fold >= 0 else (test, slice(None))
        assert source is not None
        out: list[Fitted] = []
        known: dict[str, tuple[Components, np.ndarray]] = {}
        for o in on:
            X = {name: rows.X[name][train] for name in parts_of(o)}
            head = make().fit_sets(X, rows.codes[train], known)
            X = {name: source.X[name][asked] for name in X}
            said = say(head, next(iter(X.values())) if len(X) == 1 else np.hstack(list(X.values())))
            out.append((repeat, fold, o, said, np.asarray(head.importances(), dtype=np.float64)))
            step(o, 1)
        return out

    with one_thread_each(), ThreadPoolExecutor(threads()) as pool:
        return [line for lines in pool.map(part, jobs) for line in lines]
