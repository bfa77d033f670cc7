"""Boosted trees on all training parts, each set's columns binned once in a part.

A part's bins are those of its own training rows. The binned columns of a concatenation are those of
its sets, put side by side, so that its trees are the very ones of a fit on the joined matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from headstock.heads.kinds.boosted import LightGBM
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
        binned: dict[tuple[str, str], Any] = {}
        for o in sorted(on, key=lambda o: len(parts_of(o))):
            X = {name: rows.X[name][train] for name in parts_of(o)}
            head = make().fit_binned(X, rows.codes[train], binned)
            X = {name: source.X[name][asked] for name in X}
            said = say(head, next(iter(X.values())) if len(X) == 1 else np.hstack(list(X.values())))
            out.append((repeat, fold, o, said, np.asarray(head.importances(), dtype=np.float64)))
            step(o, 1)
        return out

    with warnings.catch_warnings():
        # said of columns put side by side: none is categorical, and their values are not kept
        for saying in ("Resetting categorical features", "Cannot add features from NoneType"):
            warnings.filterwarnings("ignore", message=saying)
        with one_thread_each(), ThreadPoolExecutor(threads()) as pool:
            return [line for lines in pool.map(part, jobs) for line in lines]
