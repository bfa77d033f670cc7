"""Every head on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluation.answers import How, answer_systems, nested_fits
from headstock.heads.evaluation.checks import checked
from headstock.heads.evaluation.failures import failed_lines
from headstock.heads.evaluation.in_time import (
    answer_in_time,
    prior_answers,
    scored_in_time,
    unseen_notes,
)
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.scores import (
    answered,
    baseline,
    fold_table,
    score_lines,
    shares,
)
from headstock.heads.evaluation.systems import System, bases_of, fused_systems, patterns_of
from headstock.heads.fusion.fusions import FUSIONS, make_fusion
from headstock.heads.head import make_head
from headstock.heads.metrics.table import metrics_named
from headstock.heads.outoffold.answer import Answer
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
from headstock.store.errors import HeadError, OptionError, near
from headstock.store.manifest.splits import HELD_OUT

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
    if one_fold and (test is None or not len(test.held_in("valid"))):
        fix = "name one in the table's split column, or take a number of folds"
        raise HeadError("folds", "there is no labelled row in split valid", fix)
    metrics = metrics_named(metric, rows.classes.tolist())
    options = dict(options or {})
    heads, on = list(dict.fromkeys(heads)), list(dict.fromkeys(on))
    for name in heads:
        make_head(name, seed, options.get(name))  # a wrong name or option costs no fit
    unused = sorted(set(options) - {*heads, *fusions})
    if unused:
        raise OptionError("options", f"{', '.join(unused)} is not among the heads", "add --head")
    for name in fusions:
        if name not in FUSIONS:
            fix = f"{near(name, FUSIONS)}one of {', '.join(FUSIONS)}"
            raise OptionError(f"fusion {name}", "is not in the table", fix)
        if FUSIONS[name] is not None:
            stack = make_fusion(name, seed, options.get(name))
            if (nested or getattr(stack, "wants_features", False)) and plan.folds < 3:
                raise OptionError("folds", "two are too few for a nested fusion", "three or more")
    systems = [System(h, o, "early" if "+" in o else None) for o in on for h in heads]
    singles = [o for o in on if "+" not in o]
    if "learned" in fusions and len(singles) > 1:
        systems.append(System("mlp", "+".join(singles), "learned"))
        make_head("learned", seed, options.get("learned"))
    fused = fused_systems(heads, singles, fusions)
    bases = len(bases_of(systems, patterns_of(rows, test)))
    total = bases * (plan.folds * plan.repeats + (test is not None)) + len(fused)
    total += 0 if nested is False else nested_fits(fused, plan)
    done = 0

    def step(name: str, fits: int = 1) -> None:
        nonlocal done
        done = min(done + fits, total)
        if progress is not None:
            progress(done, total, name)

    systems += fused
    how = How(options, seed, nested, memory, device, reuse, metrics[0].name, step)
    ask = partial(answer_systems, how=how)
    timed = in_time(plan) and not one_fold
    if timed:
        given = answer_in_time(systems, rows, plan, ask, test, seed)
    else:
        given = ask(systems, rows, plan, test=test)
    answers, scored = given.by_name, given.systems
    step(systems[-1].name, total)  # what was known took no fits
    table, k, held, notes = fold_table(rows, plan), len(rows.classes), test, []
    share, prior = (
        np.bincount(rows.codes, minlength=k) / len(rows),
        priors(rows.codes, plan.codes, k),
    )
    plan_of_rows = plan
    if timed:
        which = scored_in_time(rows, plan)
        prior, rows = prior_answers(rows, plan), rows.take(which)
        plan_of_rows = plan.take(which)
        notes = unseen_notes(prior, rows)
    elif one_fold and test is not None:
        rows, held, answers = _on_valid(test, answers)
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
            options={h: dict(o) for h, o in options.items()}, notes=tuple(notes),
            classes=tuple(map(str, rows.classes)), scored="valid" if one_fold else "folds",
            metric=tuple(one.name for one in metrics),
        ),
    )  # fmt: skip
    return Evaluation(
        run=checked(run),
        ids=rows.ids,
        codes=rows.codes,
        classes=rows.classes,
        folds=plan,
        proba={name: p[0] for name, p in proba.items()},
        held={} if held is None else _held(held, answers),
    )


def _on_valid(
    held: Rows, answers: Mapping[str, Answer]
) -> tuple[Rows, Rows | None, dict[str, Answer]]:
    """The valid rows, the test rows or None, and the answers on both: what the refits said of the
    valid rows stands in the place of out-of-fold answers."""
    valid, test = held.held_in("valid"), held.held_in("test")
    moved = {
        name: replace(a, proba=a.test[None, valid], test=a.test[test] if len(test) else None)
        for name, a in answers.items()
        if a.test is not None
    }
    return held.take(valid), held.take(test) if len(test) else None, moved


def _held(rows: Rows, answers: Mapping[str, Answer]) -> dict[str, HeldOut]:
    out = {}
    for split in HELD_OUT:
        which = rows.held_in(split)
        if len(which):
            proba = {name: a.test[which] for name, a in answers.items() if a.test is not None}
            out[split] = HeldOut(rows.ids[which], rows.codes[which], proba)
    return out
