"""Every head on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from headstock import __version__
from headstock.heads.engine.shared import MEMORY
from headstock.heads.evaluation.answers import answer_systems, nested_fits
from headstock.heads.evaluation.curve import learning_curve as curve
from headstock.heads.evaluation.failures import failed_lines
from headstock.heads.evaluation.in_time import (
    answer_in_time,
    prior_answers,
    scored_in_time,
    unseen_notes,
)
from headstock.heads.evaluation.ledger import SHOWN, looked_at
from headstock.heads.evaluation.plans import plan_for
from headstock.heads.evaluation.result import Evaluation, HeldOut
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.scores import (
    answered,
    baseline,
    fold_table,
    score_guess,
    score_lines,
)
from headstock.heads.evaluation.systems import (
    DEFAULTS,
    System,
    bases_of,
    fused_systems,
    patterns_of,
)
from headstock.heads.fusion.fusions import FUSIONS, make_fusion
from headstock.heads.head import make_head
from headstock.heads.metrics.table import metrics_named
from headstock.heads.numbers.compare import against_best
from headstock.heads.numbers.selection import selection
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.adapted import mark_seen, own_sets
from headstock.heads.rows.folds import FoldPlan, unlearned_notes
from headstock.heads.rows.hygiene import KINDS, group_report, hygiene_report, label_doubts
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.rows.leaks import asked_sets, suspects_of
from headstock.heads.rows.prepare import Rules, prepare
from headstock.heads.rows.times import date_columns, in_time
from headstock.heads.search.tuning import with_searches
from headstock.heads.specs import CLASSES
from headstock.store.errors import HeadError, OptionError, near
from headstock.store.manifest.splits import HELD_OUT, split_of

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["DEFAULT_FUSIONS", "DEFAULT_HEADS", "evaluate", "evaluate_rows"]

DEFAULT_HEADS, DEFAULT_FUSIONS = DEFAULTS[CLASSES]


def evaluate(
    store: StoreReader,
    heads: Sequence[str] = DEFAULT_HEADS,
    on: Sequence[str] | None = None,
    fusions: Sequence[str] = DEFAULT_FUSIONS,
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
    in ``options`` or else the default ones (``HEADS``). doubts: rank doubtful labels (needs
    cleanlab). seen: rows whose labels the network of a set saw when it was adapted are a reason to
    ``refuse``, or scored and ``mark``-ed as not honest; a set that was adapted with folds is scored
    on these very folds. rare: what becomes of classes with fewer rows (or groups) than there are
    folds, and of held-out rows of a class that no training row has: ``drop`` leaves them out,
    counted and named; ``keep`` deals a class to as many folds as it reaches, and leaves out those
    of a single row; ``refuse`` raises. reuse: take what an earlier evaluation computed from the
    very same rows, folds, vectors, options and code, and keep what is computed now, in a folder
    beside the store (see ``reuse``). Rows of the splits ``valid`` and ``test`` are in no fold: they
    are scored apart, each split by itself, by the refit on all training rows. test_scores: which
    systems' scores on the test split are shown, the ``chosen`` one's (the first of the
    leaderboard), ``all`` or ``none``; each look is put down beside the store (``ledger``), and the
    result says how many there have been. metric: names of the table of metrics (docs/metrics.md),
    of which the first orders the leaderboard, is what comparisons, the estimate of the choice,
    searches, the weights of a fusion and gates are about; the others are shown; by default the
    accuracy. With ``folds`` ``valid`` the
    valid split is the one fold: the leaderboard is scored on it and ordered by it, and folds are
    made inside the training rows alone, for whatever must be held out there.
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
    names = _wanted_sets(store, on, fusions)
    names_of_metrics = [metric] if isinstance(metric, str) else list(metric)
    options = with_searches(tune, options or {})
    rules = Rules(group, missing, dedupe, seen, rare, CLASSES)
    found = prepare(store, names, rules, folds, repeats)
    rows, test, account = found.rows, found.test, found.account
    plan = plan_for(
        store, rows, folds, group=group, repeats=repeats, seed=seed, spread=rare == "keep"
    )
    if learning_curve and in_time(plan):
        raise OptionError("learning_curve", "has no meaning with folds in time", "leave it away")
    kept = Reuse.beside(store) if reuse else None
    scored = test
    if test is not None and test_scores == "none":
        valid = test.held_in("valid")
        scored = test.take(valid) if len(valid) else None
    result = evaluate_rows(
        rows, heads, names, fusions, plan,
        test=scored, seed=seed, options=options, nested=nested, memory=memory, device=device,
        progress=progress, reuse=kept, one_fold=one_fold, metric=names_of_metrics,
    )  # fmt: skip
    if kept is not None:
        result.settings["reuse"] = {"folder": str(kept.folder), **kept.counts}
    if learning_curve:
        result.learning_curve = curve(
            result.leaderboard, result.proba, rows, plan,
            seed=seed, options=options, progress=progress,
        )  # fmt: skip
    result.hygiene = hygiene_report(found.read, test, found.duplicates, plan, dedupe, found.dropped)
    told = group_report(store.items, rows, test, plan, group)
    if in_time(plan):  # the past of a block is without the groups and copies that lie in it
        kinds = (result.hygiene.get(kind, {}) for kind in KINDS)
        tied = [one for found in kinds for one in found.values()]
        parted = (tied if dedupe != "keep" else []) + ([told] if told and group else [])
        for one in parted:
            one["across_folds"] = 0
    if told is not None:
        result.hygiene["groups"] = told
    if looks := looked_at(result, store.path, test_scores):
        result.hygiene["looks"] = looks
    mark_seen(result.leaderboard, found.saw)
    result.hygiene["seen"] = found.saw
    if leaks := suspects_of(found.read, asked_sets(store, account["sets"]), seed):
        result.hygiene["leaks"] = leaks
    if doubts:
        leader = result.proba[result.leaderboard[0]["name"]]
        result.hygiene["label_doubts"] = label_doubts(
            leader, result.codes, result.ids, rows.classes
        )
    result.settings |= {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "store": str(store.path),
        "store_uuid": store.uuid,
        "missing": missing,
        "dedupe": dedupe,
        "rare": rare,
        "rows": account,
    }
    if dates := date_columns(store.items):
        result.settings["dates"] = dates
    for name in account["sets"]:
        recipe = store.feature_set(name).recipe
        result.recipes[name] = {
            "modality": recipe.modality,
            "fingerprint": recipe.fingerprint,
            "fields": dict(recipe.fields),
        }
    return result


def _wanted_sets(store: StoreReader, on: Sequence[str] | None, fusions: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys("+".join(parts_of(o)) for o in on)) if on else own_sets(store)
    singles = list(dict.fromkeys(part for name in names for part in parts_of(name)))
    if len(singles) > 1 and (not on or "early" in fusions) and "+".join(singles) not in names:
        names.append("+".join(singles))
    if not names:
        raise OptionError("on", "the store has no feature set", "extract one first")
    return names


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
    ask = partial(
        answer_systems,
        options=options, seed=seed, nested=nested, memory=memory, device=device, step=step,
        reuse=reuse,
    )  # fmt: skip
    timed = in_time(plan) and not one_fold
    if timed:
        said = answer_in_time(systems, rows, plan, ask, test, seed)
    else:
        said = ask(systems, rows, plan, test=test)
    answers, scored = said.by_name, said.systems
    step(systems[-1].name, total)  # what was known took no fits
    guess, table = baseline(rows, plan, test, metrics), fold_table(rows, plan)
    plan_of_rows, notes = plan, []
    if timed:
        which = scored_in_time(rows, plan)
        prior, rows = prior_answers(rows, plan), rows.take(which)
        plan_of_rows = plan.take(which)
        guess |= score_guess(prior, rows, metrics)
        notes = unseen_notes(prior, rows)
    elif not one_fold:
        notes = unlearned_notes(plan.codes, rows.codes, rows.classes)
    if one_fold and test is not None:
        guess |= guess.pop("valid", {})
        rows, test, answers = _on_valid(test, answers)
        scored = [s for s in scored if answered(answers[s.name].proba[0]).any()]
    board = score_lines(scored, answers, rows, plan_of_rows, test, seed, metrics)
    proba = {name: a.proba for name, a in answers.items()}
    return Evaluation(
        ids=rows.ids,
        codes=rows.codes,
        classes=rows.classes,
        folds=plan,
        leaderboard=board,
        failed=failed_lines(said.failed),
        baseline=guess,
        fold_table=table,
        proba={name: p[0] for name, p in proba.items()},
        comparisons=against_best(board, proba, rows.codes, rows.groups, seed, metrics[0]),
        selection=selection(board, proba, rows.codes, rows.groups, seed, metrics[0]),
        settings={
            "heads": heads,
            "on": on,
            "fusions": list(fusions),
            "nested": nested,
            "seed": seed,
            "options": {h: dict(o) for h, o in options.items()},
            "classes": [str(c) for c in rows.classes],
            "metric": [one.name for one in metrics],
            "scored": "valid" if one_fold else "folds",
            "notes": notes,
        },
        held={} if test is None else _held(test, answers),
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
