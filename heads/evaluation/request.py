"""All that an evaluation is asked for, answered: every head on every set with every fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from headstock.heads.evaluation.answers import Answers, How, answer_systems, nested_fits
from headstock.heads.evaluation.in_time import answer_in_time
from headstock.heads.evaluation.systems import System, bases_of, fused_systems, patterns_of
from headstock.heads.fusion.fusions import make_fusion, maker_of
from headstock.heads.head import make_head
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.times import in_time
from headstock.heads.specs import CLASSES
from headstock.store.errors import HeadError, OptionError
from headstock.store.manifest.splits import HELD_OUT

__all__ = ["answer_request", "held_answers", "on_valid"]


def answer_request(
    rows: Rows, heads: Sequence[str], on: Sequence[str], fusions: Sequence[str], plan: FoldPlan,
    how: How, *, test: Rows | None = None, one_fold: bool = False, target: str = CLASSES,
    progress: Callable[[int, int, str], None] | None = None,
) -> Answers:  # fmt: skip
    """The answers of all systems, of ``in_time.scored_in_time`` alone with folds in time.

    Raises OptionError for a name or an option that is none, HeadError where ``one_fold`` and no row
    of ``test`` is valid, before anything is fitted.
    """
    if one_fold and (test is None or not len(test.held_in("valid"))):
        fix = "name one in the table's split column, or take a number of folds"
        raise HeadError("folds", "there is no labelled row in split valid", fix)
    _refuse_wrong(heads, fusions, plan, how, target)
    systems = [System(h, o, "early" if "+" in o else None) for o in on for h in heads]
    singles = [o for o in on if "+" not in o]
    if "learned" in fusions and len(singles) > 1:
        systems.append(System("mlp", "+".join(singles), "learned"))
        make_head("learned", how.seed, how.options.get("learned"))
    fused = fused_systems(heads, singles, fusions, target)
    bases = len(bases_of(systems, patterns_of(rows, test)))
    total = bases * (plan.folds * plan.repeats + (test is not None)) + len(fused)
    total += 0 if how.nested is False else nested_fits(fused, plan)
    done = 0

    def step(name: str, fits: int = 1) -> None:
        nonlocal done
        done = min(done + fits, total)
        if progress is not None:
            progress(done, total, name)

    systems += fused
    ask = partial(answer_systems, how=replace(how, step=step))
    if in_time(plan) and not one_fold:
        given = answer_in_time(systems, rows, plan, ask, test, how.seed)
    else:
        given = ask(systems, rows, plan, test=test)
    step(systems[-1].name, total)  # what was known took no fits
    return given


def _refuse_wrong(
    heads: Sequence[str], fusions: Sequence[str], plan: FoldPlan, how: How, target: str
) -> None:
    for name in heads:
        make_head(name, how.seed, how.options.get(name), target)
    unused = sorted(set(how.options) - {*heads, *fusions})
    if unused:
        raise OptionError("options", f"{', '.join(unused)} is not among the heads", "add --head")
    for name in fusions:
        if maker_of(name, target) is not None:
            stack = make_fusion(name, how.seed, how.options.get(name), target)
            if (how.nested or getattr(stack, "wants_features", False)) and plan.folds < 3:
                raise OptionError("folds", "two are too few for a nested fusion", "three or more")


def on_valid(
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


def held_answers(
    rows: Rows | None, answers: Mapping[str, Answer]
) -> Iterator[tuple[str, Rows, dict[str, np.ndarray]]]:
    """Each split that has any of the held-out ``rows``, these rows, and what the refits say of
    them: {system name: (m, k)}."""
    for split in HELD_OUT if rows is not None else ():
        which = rows.held_in(split)  # type: ignore[union-attr]
        if len(which):
            said = {name: a.test[which] for name, a in answers.items() if a.test is not None}
            yield split, rows.take(which), said  # type: ignore[union-attr]
