"""Every head on every set with every fusion, scored on one fold plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.compare import against_best, group_intervals
from headstock.heads.engine import Answer, answer_all
from headstock.heads.evaluation import Evaluation
from headstock.heads.folds import FoldPlan, make_folds
from headstock.heads.fusion import FUSIONS, cross_fuse, fuse_on
from headstock.heads.gate import gate_report
from headstock.heads.head import make_head
from headstock.heads.hygiene import clean, find_duplicates, hygiene_report, label_doubts
from headstock.heads.metrics import score
from headstock.heads.rows import Rows, parts_of, read_rows
from headstock.heads.shared import Shared
from headstock.heads.systems import System, fused_systems
from headstock.heads.tuning import with_grids
from headstock.store.errors import OptionError

__all__ = ["DEFAULT_FUSIONS", "DEFAULT_HEADS", "evaluate", "evaluate_rows", "plan_for"]

DEFAULT_HEADS = ("logistic", "lda", "linear-svm", "rbf-svm", "knn", "lightgbm")
DEFAULT_FUSIONS = ("mean", "weighted", "stacked")


def evaluate(
    store: Any,
    heads: Sequence[str] = DEFAULT_HEADS,
    on: Sequence[str] | None = None,
    fusions: Sequence[str] = DEFAULT_FUSIONS,
    folds: int | str | FoldPlan = 5,
    *,
    group: str | None = None,
    repeats: int = 1,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    dedupe: str = "group",
    tune: Sequence[str] = (),
    doubts: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score heads on a store's labelled rows.

    on: sets or sums of sets (``image+audio`` stands side by side, which is early fusion); by
    default every set, and all of them together. folds: a number, ``group-out`` (each value of
    ``group`` once), ``given:COLUMN`` (each value of that column once) or a saved plan. progress is
    called with fits done, fits in all, and the system's name. missing: ``refuse`` rows that lack a
    vector, or ``exclude`` them. dedupe: what becomes of rows with the same bytes or nearly the same
    vector: ``group`` keeps them in one fold, ``drop`` keeps one, ``keep`` does nothing; they are
    reported always. tune: heads whose options are chosen inside the folds, among the values given
    as lists in ``options`` or else the default ones (``tuning.GRIDS``). doubts: rank doubtful
    labels (needs cleanlab). Rows of split ``test`` are scored once, apart, by the refit on all
    other labelled rows.
    """
    names = _wanted_sets(store, on, fusions)
    options = with_grids(tune, options or {})
    found_rows, test, account = read_rows(store, names, group=group, missing=missing)
    found = find_duplicates(found_rows, test)
    rows, dropped = clean(found_rows, test, found, dedupe)
    plan = plan_for(store, rows, folds, group=group, repeats=repeats, seed=seed)
    result = evaluate_rows(
        rows, heads, names, fusions, plan, test=test, seed=seed, options=options, progress=progress
    )
    result.hygiene = hygiene_report(found_rows, test, found, plan, dedupe, dropped)
    if doubts:
        leader = result.proba[result.leaderboard[0]["name"]]
        result.hygiene["label_doubts"] = label_doubts(leader, rows.codes, rows.ids, rows.classes)
    result.settings |= {
        "store": str(store.path),
        "missing": missing,
        "dedupe": dedupe,
        "rows": account,
    }
    for name in account["sets"]:
        recipe = store.feature_set(name).recipe
        result.recipes[name] = {
            "modality": recipe.modality,
            "fingerprint": recipe.fingerprint,
            "fields": dict(recipe.fields),
        }
    return result


def _wanted_sets(store: Any, on: Sequence[str] | None, fusions: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys("+".join(parts_of(o)) for o in on)) if on else list(store.sets)
    singles = list(dict.fromkeys(part for name in names for part in parts_of(name)))
    if len(singles) > 1 and (not on or "early" in fusions) and "+".join(singles) not in names:
        names.append("+".join(singles))
    if not names:
        raise OptionError("on", "the store has no feature set", "extract one first")
    return names


def plan_for(
    store: Any,
    rows: Rows,
    folds: int | str | FoldPlan,
    *,
    group: str | None,
    repeats: int,
    seed: int,
) -> FoldPlan:
    """The fold plan for ``rows``: a saved one found again by ids, or a new one."""
    if isinstance(folds, FoldPlan):
        return folds.align(rows.ids)
    given = None
    if isinstance(folds, str) and folds.startswith("given:"):
        column = folds.partition(":")[2]
        try:
            values = dict(zip(store.items.id, store.items.column(column)))
        except KeyError as error:
            raise OptionError(
                "folds", f"there is no column {column}", f"one of {error.args[0]}"
            ) from error
        given, folds, group = [values[i] for i in rows.ids], "given", column
    if folds == "group-out" and group is None:
        raise OptionError("folds", "group-out needs a column", "name it as the group")
    if rows.groups is not None and group is None:
        group = "duplicates"
    return make_folds(
        rows.classes[rows.codes],
        folds,
        ids=rows.ids,
        groups=rows.groups,
        given=given,
        repeats=repeats,
        seed=seed,
        group_name=group,
    )


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
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """``evaluate`` on plain arrays; see there."""
    options = dict(options or {})
    heads, on = list(dict.fromkeys(heads)), list(dict.fromkeys(on))
    for name in heads:
        make_head(name, seed, options.get(name))  # a wrong name or option costs no fit
    unused = sorted(set(options) - {*heads, *fusions})
    if unused:
        raise OptionError("options", f"{', '.join(unused)} is not among the heads", "add --head")
    for name in fusions:
        if name not in FUSIONS:
            raise OptionError(
                f"fusion {name}", "is not in the table", f"one of {', '.join(FUSIONS)}"
            )
    systems = [System(h, o, "early" if "+" in o else None) for o in on for h in heads]
    singles = [o for o in on if "+" not in o]
    if "learned" in fusions and len(singles) > 1:
        systems.append(System("mlp", "+".join(singles), "learned"))
        make_head("learned", seed, options.get("learned"))
    fused = fused_systems(heads, singles, fusions)
    total = len(systems) * (plan.folds * plan.repeats + (test is not None)) + len(fused)
    done = 0
    answers: dict[str, Answer] = {}

    def step(name: str, fits: int = 1) -> None:
        nonlocal done
        done += fits
        if progress is not None:
            progress(done, total, name)

    shared = [Shared(rows, plan, r, test if r == 0 else None) for r in range(plan.repeats)]
    for function in dict.fromkeys(s.function for s in systems):
        mine = {s.on: s for s in systems if s.function == function}
        names = {o: s.name for o, s in mine.items()}
        found = answer_all(
            function, list(mine), rows, plan, shared, options=options.get(function), seed=seed,
            test=test, step=partial(_named, step, names),
        )  # fmt: skip
        answers |= {names[o]: answer for o, answer in found.items()}
    del shared
    for system in fused:
        answers[system.name] = _fuse(system, answers, rows.codes, plan, test)
        step(system.name)

    board = []
    for system in [*systems, *fused]:
        answer = answers[system.name]
        line: dict[str, Any] = {
            "head": system.head,
            "on": system.on,
            "fusion": system.fusion,
            "name": system.name,
        }
        line.update(score(answer.proba, rows.codes))
        line.update(seconds=round(answer.seconds, 4), how=answer.how)
        if answer.chosen:
            line["chosen"] = answer.chosen
        if answer.notes:
            line["notes"] = answer.notes
        if system.members:
            line["members"] = list(system.members)
        if system.fusion == "gated":
            members = np.stack([answers[m].proba[0] for m in system.members], axis=1)
            line["gate"] = gate_report(
                members, answer.proba[0], rows.codes, system.members, rows.groups, seed
            )
        if answer.test is not None and test is not None:
            line["test"] = score(answer.test[None], test.codes)
        board.append(line)
    board.sort(key=lambda r: (-r["accuracy"]["value"], r["log_loss"]))
    proba = {name: a.proba[0] for name, a in answers.items()}
    if rows.groups is not None:
        right = np.stack([proba[line["name"]].argmax(axis=1) for line in board], axis=1)
        found_intervals = group_intervals(right == rows.codes[:, None], rows.groups, seed)
        for line, interval in zip(board, found_intervals):
            line["accuracy"]["by_group"] = interval
    return Evaluation(
        ids=rows.ids,
        codes=rows.codes,
        classes=rows.classes,
        folds=plan,
        leaderboard=board,
        proba=proba,
        comparisons=against_best(board, proba, rows.codes, rows.groups, seed),
        settings={
            "heads": heads,
            "on": on,
            "fusions": list(fusions),
            "seed": seed,
            "options": {h: dict(o) for h, o in options.items()},
            "classes": [str(c) for c in rows.classes],
        },
        test_ids=None if test is None else test.ids,
        test_codes=None if test is None else test.codes,
        test_proba={name: a.test for name, a in answers.items() if a.test is not None},
    )


def _named(step: Callable[[str, int], None], names: Mapping[str, str], on: str, fits: int) -> None:
    step(names[on], fits)


def _fuse(
    system: System,
    answers: Mapping[str, Answer],
    codes: np.ndarray,
    plan: FoldPlan,
    test: Rows | None,
) -> Answer:
    start = time.perf_counter()
    assert system.fusion is not None
    P = np.stack([answers[m].proba for m in system.members], axis=2)
    proba = cross_fuse(system.fusion, P, codes, plan.codes)
    fresh = None
    if test is not None:
        tests = [t for m in system.members if (t := answers[m].test) is not None]
        fresh = fuse_on(system.fusion, P[0], codes, plan.codes[0], np.stack(tests, axis=1))
    return Answer(proba, fresh, time.perf_counter() - start, "from held-out probabilities")
