"""Every head on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluation.answers import How
from headstock.heads.evaluation.checks import checked
from headstock.heads.evaluation.failures import failed_lines
from headstock.heads.evaluation.in_time import (
    prior_answers,
    scored_in_time,
    unseen_notes,
)
from headstock.heads.evaluation.lines import answered
from headstock.heads.evaluation.request import answer_request, held_answers, on_valid
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.scores import (
    baseline,
    fold_table,
    score_lines,
    shares,
)
from headstock.heads.metrics.table import metrics_named
from headstock.heads.result import Evaluation, HeldOut
from headstock.heads.rows.folds import FoldPlan, unlearned_notes
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.times import in_time
from headstock.heads.run.as_json import parse
from headstock.heads.run.rows import Plan
from headstock.heads.run.run import Run, Settings
from headstock.heads.statistics.chance import priors
from headstock.heads.statistics.compare import against_best
from headstock.heads.statistics.selection import selection

__all__ = ["evaluate_rows"]


def evaluate_rows(
    rows: Rows,
    heads: Sequence[str],
    on: Sequence[str],
    fusions: Sequence[str],
    plan: FoldPlan,
    *,
    test: Rows | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    nested: bool | None = None,
    memory: float = MEMORY,
    device: str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    reuse: Reuse | None = None,
    one_fold: bool = False,
    metric: Sequence[str] = (),
) -> Evaluation:
    """``evaluate`` on plain arrays; see there. ``test``: all rows that are held out. one_fold: the
    valid ones among them are what the leaderboard is about."""
    metrics = metrics_named(metric, rows.classes.tolist())
    options = {name: dict(own) for name, own in (options or {}).items()}
    heads, on = list(dict.fromkeys(heads)), list(dict.fromkeys(on))
    how = How(options, seed, nested, memory, device, reuse, metrics[0].name)
    given = answer_request(
        rows, heads, on, fusions, plan, how, test=test, one_fold=one_fold, progress=progress
    )
    answers, scored = given.by_name, given.systems
    table, k, held, notes = fold_table(rows, plan), len(rows.classes), test, []
    share, prior = (
        np.bincount(rows.codes, minlength=k) / len(rows),
        priors(rows.codes, plan.codes, k),
    )
    plan_of_rows = plan
    if in_time(plan) and not one_fold:
        which = scored_in_time(rows, plan)
        prior, rows = prior_answers(rows, plan), rows.take(which)
        plan_of_rows = plan.take(which)
        notes = unseen_notes(prior, rows)
    elif one_fold and test is not None:
        rows, held, answers = on_valid(test, answers)
        prior = shares(share, len(rows))
        scored = [s for s in scored if answered(answers[s.name].proba[0]).any()]
    else:
        notes = unlearned_notes(plan.codes, rows.codes, rows.classes)
    board = score_lines(scored, answers, rows, plan_of_rows, held, seed, metrics)
    names, proba = [line.name for line in board], {n: a.proba for n, a in answers.items()}
    run = Run(
        leaderboard=tuple(board),
        folds=parse(Plan, plan.summary()),
        failed=failed_lines(given.failed),
        baseline=baseline(prior, rows, share, held, metrics),
        fold_table=table,
        comparisons=against_best(names, proba, rows.codes, rows.groups, seed, metrics[0]),
        selection=selection(names, proba, rows.codes, rows.groups, seed, metrics[0]),
        settings=Settings(
            heads=tuple(heads), on=tuple(on), fusions=tuple(fusions), nested=nested, seed=seed,
            options=options, notes=tuple(notes),
            classes=tuple(map(str, rows.classes)), scored="valid" if one_fold else "folds",
            metric=tuple(one.name for one in metrics),
            metric_files={one.name: one.source for one in metrics if one.source},
        ),
    )  # fmt: skip
    return Evaluation(
        run=checked(run),
        ids=rows.ids,
        codes=rows.codes,
        classes=rows.classes,
        folds=plan,
        proba={name: p[0] for name, p in proba.items()},
        held={s: HeldOut(r.ids, r.codes, p) for s, r, p in held_answers(held, answers)},
    )
