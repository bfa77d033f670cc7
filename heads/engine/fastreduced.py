"""Heads on components, on all training parts: a wide set's are found once in a part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np

from headstock.heads.engine.parts import Part, kept, parts_left_out
from headstock.heads.kinds.components import OnComponents, Reduced
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.threads import beside

__all__ = ["Fitted", "reduced_answers"]


class Fitted(NamedTuple):
    """One fit: which repeat, part and sets; proba (m, k) of the rows held out;
    importances (d,), where the head has them; the seconds of its thread; what it says of itself."""

    repeat: int
    part: Part
    on: str
    proba: np.ndarray
    importances: np.ndarray
    seconds: float
    how: str


def reduced_answers(
    make: Callable[[], OnComponents],
    say: Callable[[OnComponents, np.ndarray], np.ndarray],
    on: Sequence[str],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None,
    nested: bool,
    step: Callable[[str, int], None],
) -> list[Fitted]:
    """All fits of the head on each ``on``, one a thread. ``say(head, X)`` gives what a
    fitted head says of X."""
    jobs: list[tuple[int, Part]] = [] if test is None else [(0, ())]
    parts = parts_left_out(plan.folds, False, False, nested)
    jobs += [(r, part) for r in range(plan.repeats) for part in parts]
    once = {(job, name): Once() for job in jobs for o in on for name in parts_of(o)}
    # The longest first, which are the refit's and those on most columns
    longest = sorted(on, key=lambda o: -sum(rows.X[name].shape[1] for name in parts_of(o)))
    tasks = [(job, o) for o in longest for job in jobs]

    def fit(task: tuple[tuple[int, Part], str]) -> Fitted:
        start, (job, o) = time.perf_counter(), task
        repeat, part = job
        out = np.isin(plan.codes[repeat], part)
        train = kept(plan.codes[repeat], part)
        source, asked = (rows, out) if part else (test, slice(None))
        assert source is not None
        head, names = make(), parts_of(o)

        def reduced(name: str) -> Reduced:
            return head.reduced(rows.X[name][train])

        sets = [once[job, name](partial(reduced, name)) for name in names]
        head.fit_sets(sets, rows.codes[train])
        fresh = [source.X[name][asked] for name in names]
        said = say(head, fresh[0] if len(fresh) == 1 else np.hstack(fresh))
        step(o, 1)
        weights = np.asarray(getattr(head, "importances", tuple)(), dtype=np.float64)
        how = getattr(head, "how_", "")
        return Fitted(repeat, part, o, said, weights, time.perf_counter() - start, how)

    return beside(fit, tasks)


class Once:
    """A set's components in a training part, found by the first thread that asks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: Reduced | None = None

    def __call__(self, make: Callable[[], Reduced]) -> Reduced:
        with self._lock:
            made = self._made or make()
            if made[1] is not None:  # columns as they are would be a copy of the set to keep
                self._made = made
            return made
