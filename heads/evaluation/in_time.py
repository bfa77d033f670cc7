"""Systems scored on what came next: each block of time by what was learned from blocks before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from headstock.heads.evaluation.answers import Answers
from headstock.heads.evaluation.systems import System
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import USUAL_FOLDS, FoldPlan, make_folds
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.strata import strata_of
from headstock.heads.rows.times import past_of
from headstock.store.errors import HeadError

__all__ = ["answer_in_time", "prior_answers", "scored_in_time", "unseen_notes"]

Ask = Callable[..., Answers]


def scored_in_time(rows: Rows, plan: FoldPlan) -> np.ndarray:
    """The numbers of the rows that are scored: all but those of the earliest block, and of blocks
    whose past has fewer than two classes."""
    blocks = [f for f in range(1, plan.folds) if _learns(rows, plan, f)]
    if not blocks:
        raise HeadError("folds", "no block of time has a past of two classes", "take other folds")
    return np.flatnonzero(np.isin(plan.codes[0], blocks))


def _learns(rows: Rows, plan: FoldPlan, fold: int) -> bool:
    return len(np.unique(rows.y[past_of(plan, fold, rows.groups)])) > 1


def answer_in_time(
    systems: Sequence[System], rows: Rows, plan: FoldPlan, ask: Ask, test: Rows | None, seed: int
) -> Answers:
    """What each system says of the rows of ``scored_in_time``, in their order.

    A block is answered as a test split is: by the refit on all of its past, in which whatever must
    be held out (to calibrate, to tune, to fuse) is held out by folds of the past alone. ask: called
    as ``answer_systems`` with systems, rows, plan and test. The test rows are answered by the refit
    on all rows. A system that cannot answer one block is lost.
    """
    scored = scored_in_time(rows, plan)
    n, k = len(rows), len(rows.classes)
    parts: dict[str, list[Answer]] = {s.name: [] for s in systems}
    said = {s.name: np.full((n, k), np.nan) for s in systems}
    lost: dict[str, tuple[System, HeadError]] = {}
    for fold in np.unique(plan.codes[0][scored]).tolist():
        mine = np.flatnonzero(plan.codes[0] == fold)
        past = np.flatnonzero(past_of(plan, fold, rows.groups))
        found = _answered(systems, rows.take(past), rows.take(mine), ask, seed)
        lost |= {system.name: (system, why) for system, why in found.failed}
        for name, answer in found.by_name.items():
            assert answer.test is not None
            parts[name].append(answer)
            said[name][mine] = answer.test
    last: dict[str, Answer] = {}
    if test is not None:
        found = ask(systems, rows, plan, test=test)  # as a fit by this plan would hold out
        lost |= {system.name: (system, why) for system, why in found.failed}
        last = dict(found.by_name)
    kept = [s for s in systems if s.name not in lost and parts[s.name]]
    if not kept and lost:
        raise next(iter(lost.values()))[1]
    by_name = {s.name: _joined(parts[s.name], said[s.name][scored], last.get(s.name)) for s in kept}
    return Answers(kept, by_name, list(lost.values()))


def _answered(systems: Sequence[System], past: Rows, asked: Rows, ask: Ask, seed: int) -> Answers:
    """``asked`` answered by the refit on ``past``, over all classes: one that the past does not
    know has probability 0."""
    known, codes = np.unique(past.codes, return_inverse=True)
    labels = past.classes[known]
    here = replace(past, codes=codes.ravel(), classes=labels)
    folds = int(min(USUAL_FOLDS, max(2, np.bincount(here.codes).max())))
    inner = make_folds(
        strata_of(here, folds), folds, ids=past.ids, groups=past.groups, seed=seed, spread=True
    )
    # the asked rows' labels are of no use to an answer; they must only be among the classes
    found = ask(systems, here, inner, test=replace(asked, codes=asked.codes * 0, classes=labels))
    for name, answer in found.by_name.items():
        if answer.test is not None:
            whole = np.zeros((len(asked), len(past.classes)))
            whole[:, known] = answer.test
            found.by_name[name] = replace(answer, test=whole)
    return found


def _joined(parts: Sequence[Answer], said: np.ndarray, last: Answer | None) -> Answer:
    every = [*parts, *([last] if last is not None else [])]
    first = parts[0]
    return replace(
        first,
        proba=said[None],
        test=None if last is None else last.test,
        seconds=sum(a.seconds for a in every),
        how=f"{first.how}, block of time by block",
        notes=list(dict.fromkeys(note for a in every for note in a.notes)),
        chosen=[a.chosen[-1] for a in every if a.chosen],
        importances=[a.importances[-1] for a in every if a.importances],
        reused=all(a.reused for a in every),
        tried={},
    )


def prior_answers(rows: Rows, plan: FoldPlan) -> np.ndarray:
    """(1, m, k) of the scored rows: the shares of the classes in each one's past."""
    scored = scored_in_time(rows, plan)
    out: Any = np.empty((1, len(scored), len(rows.classes)))
    for place, fold in enumerate(plan.codes[0][scored].tolist()):
        if place and fold == plan.codes[0][scored[place - 1]]:
            out[0, place] = out[0, place - 1]
            continue
        past = rows.codes[past_of(plan, fold, rows.groups)]
        out[0, place] = np.bincount(past, minlength=len(rows.classes)) / len(past)
    return out


def unseen_notes(prior: np.ndarray, rows: Rows) -> list[str]:
    """How many of the scored rows have a class that their past (``prior_answers``) does not know:
    they cannot be right."""
    new = prior[0, np.arange(len(rows)), rows.codes] == 0
    if not new.any():
        return []
    names = ", ".join(map(str, rows.classes[np.unique(rows.codes[new])][:5]))
    return [f"{int(new.sum())} rows are of classes that no earlier row has ({names})"]
