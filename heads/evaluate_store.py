"""From a store to a leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from headstock import __version__
from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.evaluate_numbers import NumberEvaluation, evaluate_numbers
from headstock.heads.evaluation.checks import checked
from headstock.heads.evaluation.curve import learning_curve as curve
from headstock.heads.evaluation.ledger import (
    SHOWN,
    answers_digest,
    keep_chosen,
    look,
    split_digest,
)
from headstock.heads.evaluation.plans import plan_for
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.systems import DEFAULTS
from headstock.heads.result import Evaluation
from headstock.heads.rows.adapted import whole_sets
from headstock.heads.rows.agreement import agreement_of
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.hygiene import KINDS, group_report, hygiene_report
from headstock.heads.rows.labelled import parts_of
from headstock.heads.rows.leaks import asked_sets, suspects_of
from headstock.heads.rows.prepare import Rules, prepare
from headstock.heads.rows.rare import may_spread
from headstock.heads.rows.times import date_columns, in_time
from headstock.heads.run.as_json import parse
from headstock.heads.run.rows import Account, Doubt, Hygiene, Looks
from headstock.heads.run.run import Reused, SetRecipe
from headstock.heads.run.scores import Line
from headstock.heads.search.tuning import transformed, with_searches
from headstock.heads.specs import NUMBER
from headstock.heads.statistics.doubts import doubts as doubtful
from headstock.store.errors import OptionError
from headstock.store.manifest.splits import split_of

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["evaluate", "recipe_of"]

DOUBTED = 20
"""Labels in doubt that a run keeps."""


def evaluate(
    store: StoreReader,
    heads: Sequence[str] | None = None,
    on: Sequence[str] | None = None,
    fusions: Sequence[str] | None = None,
    folds: int | str | FoldPlan | None = None,
    *,
    group: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    dedupe: str = "group",
    tune: Sequence[str] = (),
    doubts: bool = False,
    nested: bool | None = None,
    memory: float = MEMORY,
    device: str = "cpu",
    learning_curve: bool = False,
    seen: str = "refuse",
    rare: str = "drop",
    reuse: bool = False,
    test_scores: str = "chosen",
    metric: Sequence[str] = (),
    target: str | None = None,
    transform: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score heads on a store's labelled rows.

    on: sets or sums of sets (``image+audio`` stands side by side, which is early fusion); by
    default every set, and all of them together. folds: a number (5, unless a set was adapted on
    others), ``group-out`` (each value of ``group`` once), ``given:COLUMN`` (each value of that
    column once), ``time:COLUMN`` (blocks of time, each answered from those before it; with
    ``:sliding=2`` from the last two), ``valid`` or a saved plan. progress is
    called with fits done, fits in all, and the system's name. missing: ``refuse`` rows that lack a
    vector, ``exclude`` them, or answer each by what it has (``patterns``). nested: fusions that
    learn do so from members fitted without the fold that scores them; by default wherever rows and
    folds allow it (a note says where not), with False never, which is quicker and on few rows too
    bright; a stack that reads features always does. learning_curve: also score the best head on
    each feature set after learning from parts of each fold's training rows (``curve``). memory:
    bytes that matrices shared between heads may take; beyond, kernel machines stand on landmarks
    and say so. device: where the largest products are computed, ``cpu`` or one that torch knows
    (``cuda``). dedupe: what becomes of rows with the same bytes or nearly the same vector:
    ``group`` keeps them in one fold, ``drop`` keeps one, ``keep`` does nothing; they are reported
    always. tune: heads whose options are chosen inside the folds, among the values given as lists
    in ``options`` or else the default ones (``HEADS``). doubts: list the labels that the first
    system's answers doubt most, which the run keeps anyhow. seen: rows whose labels the network of
    a set saw when it was adapted are a reason to ``refuse``, or scored and ``mark``-ed as not
    honest; a set that was adapted with folds is scored on these very folds. rare: what becomes of
    classes with fewer rows (or groups) than there are folds, and of held-out rows of a class that
    no training row has: ``drop`` leaves them out, counted and named; ``keep`` deals a class to as
    many folds as it reaches, and leaves out those of a single row; ``refuse`` raises. reuse: take
    what an earlier evaluation computed from the very same rows, folds, vectors, options and code,
    and keep what is computed now, in a folder beside the store (see ``reuse``). Rows of the splits
    ``valid`` and ``test`` are in no fold: they are scored apart, each split by itself, by the refit
    on all training rows. test_scores: which systems' scores on the test split are shown, the
    ``chosen`` one's (the first of the leaderboard), ``all`` or ``none``; each look is put down
    beside the store (``ledger``), and the result says how many there have been. metric: names of
    the table of metrics (docs/metrics.md), of which the first orders the leaderboard, is what
    comparisons, the estimate of the choice, searches, the weights of a fusion and gates are about;
    the others are shown; by default the accuracy. With ``folds`` ``valid`` the valid split is the
    one fold: the leaderboard is scored on it and ordered by it, and folds are made inside the
    training rows alone, for whatever must be held out there. target: ``classes`` or ``number``; by
    default what the labels are (``found_target``). Of numbers the answer is a ``NumberEvaluation``,
    of which a type checker must be told by ``isinstance``. transform: learn numbers by ``log`` or
    ``rank``.
    """
    if test_scores not in SHOWN:
        raise OptionError("test_scores", f"{test_scores!r} is none", f"one of {', '.join(SHOWN)}")
    one_fold = isinstance(folds, str) and split_of(folds) == "valid"
    if one_fold:
        folds = None
        if repeats > 1 or learning_curve:
            asked = "repeats" if repeats > 1 else "learning_curve"
            raise OptionError(
                asked, "has no meaning with the valid split as the one fold", "leave it"
            )
    names = _wanted_sets(store, on, fusions or ())
    names_of_metrics = [metric] if isinstance(metric, str) else list(metric)
    rules = Rules(group, missing, dedupe, seen, rare, target)
    found = prepare(store, names, rules, folds, repeats)
    rows, test, account = found.rows, found.test, found.account
    heads = DEFAULTS[rows.target].heads if heads is None else heads
    fusions = DEFAULTS[rows.target].fusions if fusions is None else fusions
    given = transformed(options or {}, heads, transform, rows.target)
    options = with_searches(tune, given, rows.target)
    if rows.target == NUMBER:
        _refuse_of_numbers(learning_curve=learning_curve, doubts=doubts)
    plan = plan_for(
        store,
        rows,
        folds,
        group=group,
        repeats=repeats,
        seed=seed,
        spread=may_spread(rows, folds, rare),
    )
    if learning_curve and in_time(plan):
        raise OptionError("learning_curve", "has no meaning with folds in time", "leave it away")
    kept = Reuse.beside(store) if reuse else None
    scored = test
    if test is not None and test_scores == "none":
        valid = test.held_in("valid")
        scored = test.take(valid) if len(valid) else None
    score: Any = evaluate_numbers if rows.target == NUMBER else evaluate_rows
    result = score(
        rows, heads, names, fusions, plan,
        test=scored, seed=seed, options=options, nested=nested, memory=memory, device=device,
        progress=progress, reuse=kept, one_fold=one_fold, metric=names_of_metrics,
    )  # fmt: skip
    run = result.run
    if learning_curve:
        run = replace(
            run,
            learning_curve=curve(
                run.leaderboard, result.proba, rows, plan,
                seed=seed, options=options, progress=progress,
            ),
        )  # fmt: skip
    board = [_marked(line, found.saw) for line in keep_chosen(run.leaderboard, test_scores)]
    hygiene = hygiene_report(found.read, test, found.duplicates, plan, dedupe, found.dropped)
    groups = group_report(store.items, rows, test, plan, group)
    if in_time(plan):  # the past of a block is without the groups and copies that lie in it
        tied = [one for kind in KINDS for one in hygiene.get(kind, {}).values()]
        parted = (tied if dedupe != "keep" else []) + ([groups] if groups and group else [])
        for one in parted:
            one["across_folds"] = 0
    hygiene |= {
        "groups": groups, "seen": found.saw, "label_doubts": _doubts(result, board[0]),
        "looks": _look(result, board, store.path),
        "leaks": suspects_of(found.read, asked_sets(store, account["sets"]), seed),
        "neighbours": {} if in_time(plan) else agreement_of(rows, plan.codes[0], rows.X, seed),
    }  # fmt: skip
    run = replace(
        run,
        leaderboard=tuple(board),
        hygiene=parse(Hygiene, hygiene),
        recipes={name: recipe_of(store, name) for name in account["sets"]},
        settings=replace(
            run.settings, when=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__, store=str(store.path), store_uuid=store.uuid, missing=missing,
            dedupe=dedupe, rare=rare, doubts=doubts, rows=parse(Account, account),
            dates=tuple(date_columns(store.items)),
            reuse=Reused(folder=str(kept.folder), **kept.counts) if kept else None,
        ),
    )  # fmt: skip
    result.run = run if rows.target == NUMBER else checked(run)
    return cast(Evaluation, result)


def _refuse_of_numbers(**asked: bool) -> None:
    for name, wanted in asked.items():
        if wanted:
            raise OptionError(name, "is of classes, and these labels are numbers", "leave it away")


def recipe_of(store: StoreReader, name: str) -> SetRecipe:
    """Of a set."""
    recipe = store.feature_set(name).recipe
    fields = dict(recipe.fields)
    return SetRecipe(modality=recipe.modality, fingerprint=recipe.fingerprint, fields=fields)


def _marked(line: Line, saw: Mapping[str, int]) -> Line:
    """With a note where a set it reads has a network that saw its rows: saw, by set."""
    count = max((saw.get(part, 0) for part in parts_of(line.on)), default=0)
    if not count:
        return line
    note = f"not honest: a network it reads saw the labels of {count} of these rows"
    return replace(line, saw=count, notes=(*line.notes, note))


def _doubts(result: Evaluation | NumberEvaluation, line: Line) -> list[Doubt]:
    """The labels that the answers of a system doubt most; of classes alone."""
    if isinstance(result, NumberEvaluation):
        return []
    proba, codes = result.proba[line.name], result.codes
    there = np.flatnonzero(~np.isnan(proba[:, 0]))
    rows, instead = doubtful(proba[there], codes[there])
    return [
        Doubt(
            id=str(result.ids[row]), label=str(result.classes[codes[row]]),
            likely=str(result.classes[other]), quality=float(proba[row, codes[row]]),
        )
        for row, other in zip(there[rows[:DOUBTED]], instead)
    ]  # fmt: skip


def _look(
    result: Evaluation | NumberEvaluation, board: Sequence[Line], store: str | Path
) -> Looks | None:
    """Leave the answers to the test split to those systems of ``board`` that are scored on it, and
    put the look down; None where there is none."""
    names, held = [line.name for line in board if line.test], result.held.get("test")
    if held is None or not names:
        return None
    if isinstance(result, NumberEvaluation):
        numbers = result.held["test"]
        answers, labels = {name: numbers.said[name] for name in names}, numbers.y
        result.held["test"] = replace(numbers, said=answers)
    else:
        classes = result.held["test"]
        answers = {name: classes.proba[name] for name in names}
        result.held["test"], labels = (
            replace(classes, proba=answers), result.classes[classes.codes],
        )  # fmt: skip
    split = split_digest(held.ids, labels)
    digests = {name: answers_digest(one) for name, one in answers.items()}
    return look(store, split, len(held.ids), digests)


def _wanted_sets(store: StoreReader, on: Sequence[str] | None, fusions: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys("+".join(parts_of(o)) for o in on)) if on else whole_sets(store)
    singles = list(dict.fromkeys(part for name in names for part in parts_of(name)))
    if len(singles) > 1 and (not on or "early" in fusions) and "+".join(singles) not in names:
        names.append("+".join(singles))
    if not names:
        raise OptionError("on", "the store has no feature set", "extract one first")
    return names
