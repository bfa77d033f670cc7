"""What every system says of every row.

Base answers are those of one head on one or more sets, by the rows that have these sets. A system
of the leaderboard is put together from them: where rows lack a vector, a row is answered by what
the system is on the sets the row has (its *pattern*), and by nobody where it has none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.engine.shared import MEMORY, Shared
from headstock.heads.evaluation.failures import attempt, reason
from headstock.heads.evaluation.fusing import UNLEARNED, Nested, Setting, fused
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.systems import (
    Base,
    Options,
    System,
    bases_of,
    bases_of_system,
    patterns_of,
    restrict,
)
from headstock.heads.outoffold.answer import Answer
from headstock.heads.outoffold.fold_by_fold import answer_views
from headstock.heads.outoffold.together import answer_all
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.search.aims import METRIC, aimed
from headstock.store.errors import HeadError

__all__ = ["Answers", "How", "answer_systems", "base_answers", "nested_fits"]


@dataclass(frozen=True)
class How:
    """How the systems of an evaluation are fitted. options: by head or fusion. nested: fusions that
    learn do so from members that never saw the fold they are scored on; by default where the rows
    and folds allow it, and a note says where not; a stack that reads features always does. memory:
    bytes that what heads share may take; device: where the largest products are computed. What
    ``reuse`` has is not computed again. metric: what searches, weights and gates aim at
    (``aimed``). ``step`` is told of fits done."""

    options: Options = field(default_factory=dict)
    seed: int = 0
    nested: bool | None = None
    memory: float = MEMORY
    device: str = "cpu"
    reuse: Reuse | None = None
    metric: str | None = None
    step: Callable[[str, int], None] = lambda name, fits: None


@dataclass
class Answers:
    """What all systems said. systems: those that answered, without the members that could not;
    by_name: {system name: its answer}; failed: the others, each with its reason."""

    systems: list[System]
    by_name: dict[str, Answer]
    failed: list[tuple[System, HeadError]]


def base_answers(
    wanted: Sequence[Base],
    rows: Rows,
    plan: FoldPlan,
    how: How,
    *,
    test: Rows | None = None,
    step: Callable[[Base, int], None] = lambda base, fits: None,
    failed: dict[Base, HeadError] | None = None,
    nested: bool = False,
) -> dict[Base, Answer]:
    """The answers of heads, each learned from the rows that have all the sets it reads.

    proba (r, n, k) and test (m, k) are NaN for rows that lack one. Raises HeadError when the rows
    that have the sets lie in one fold. nested: proba is (r f, n, k), what heads that did not see a
    fold say of the rows of the others; NaN on the fold's own, and where no such row is among
    theirs. A head that cannot answer is raised, or kept in ``failed`` with its reason.
    """
    out: dict[Base, Answer] = {}
    alike: dict[bytes, list[str]] = {}
    for on in dict.fromkeys(on for _, on in wanted):
        alike.setdefault(rows.having(parts_of(on)).tobytes(), []).append(on)
    for places in alike.values():
        sets = list(dict.fromkeys(p for on in places for p in parts_of(on)))
        which = np.flatnonzero(rows.having(sets))
        whole = len(which) == len(rows)
        mine, cut = rows.only(sets), plan if whole else plan.take(which)
        # Test rows may lack what training rows have: each place then has its own
        tested = {on: None if test is None else test.having(parts_of(on)) for on in places}
        asked: dict[bytes, list[str]] = {}
        for on in places:
            there = tested[on]
            asked.setdefault(b"" if there is None else there.tobytes(), []).append(on)
        for some in asked.values():
            there = tested[some[0]]
            fresh = None
            if test is not None and there is not None and there.any():
                fresh = test.only(list(dict.fromkeys(p for on in some for p in parts_of(on))))
            if nested and cut.folds < 3:
                why = HeadError("fold plan", "of two folds a pair leaves nothing", "use three")
                lost = {base: why for base in wanted if base[1] in some}
                if failed is None:
                    raise why
                failed |= lost
                continue
            shared = [
                Shared(mine, cut, r, fresh if r == 0 else None, how.memory, how.device, nested)
                for r in range(cut.repeats)
            ]
            kept = None if how.reuse is None else how.reuse.scope(mine, cut, fresh)
            answer = answer_all if kept is None else kept.answer_all
            for function in dict.fromkeys(f for f, on in wanted if on in some):
                ons = [on for on in dict.fromkeys(some) if (function, on) in wanted]
                given = {"options": how.options.get(function), "seed": how.seed}
                plain = [on for on in ons if not mine.viewed(on)]
                named = partial(_named, step, function)

                viewed = [on for on in ons if mine.viewed(on)]
                at_once = partial(_at_once, answer, function, shared, named, given)
                one_by_one = partial(_one_by_one, function, shared[0], named, given)
                found: dict[str, Answer] = {}
                for way, places_of in ((at_once, plain), (one_by_one, viewed)):
                    if failed is None:
                        found |= way(places_of)
                        continue
                    answered, cannot = attempt(way, function, places_of)
                    found |= answered
                    failed |= {(function, on): why for on, why in cannot.items()}
                for on, one in found.items():
                    out[function, on] = _spread(one, which, plan, there, whole)
    return out


def _at_once(
    answer: Callable[..., dict[str, Answer]], function: str, shared: Sequence[Shared],
    step: Callable[[str, int], None], given: Mapping[str, Any], on: Sequence[str],
) -> dict[str, Answer]:  # fmt: skip
    return answer(function, on, shared, step=step, **given) if on else {}


def _one_by_one(
    function: str, shared: Shared, step: Callable[[str, int], None], given: Mapping[str, Any],
    on: Sequence[str],
) -> dict[str, Answer]:  # fmt: skip
    """Sets with other vectors in each fold."""
    if shared.nested and on:
        what = "has one network a fold, and this fusion needs one for each pair of folds"
        raise HeadError(f"on {on[0]}", what, "leave --nested and stacks of features out")
    given = {**given, "test": shared.test}
    return {
        o: answer_views(function, o, shared.rows, shared.plan, step=partial(step, o), **given)
        for o in on
    }


def _named(step: Callable[[Base, int], None], function: str, on: str, fits: int) -> None:
    step((function, on), fits)


def _spread(
    answer: Answer, which: np.ndarray, plan: FoldPlan, there: np.ndarray | None, whole: bool
) -> Answer:
    """The answer with its rows at their places among n, and those of the test rows among m; a
    nested one with its folds at theirs among the plan's, of which its rows may lack some."""
    if whole and (there is None or there.all()):
        return answer
    every, _, k = answer.proba.shape
    entries = np.arange(every)
    if every > plan.repeats:
        mine = [r * plan.folds + np.unique(codes[which]) for r, codes in enumerate(plan.codes)]
        every, entries = plan.repeats * plan.folds, np.concatenate(mine)
    proba = np.full((every, plan.n, k), np.nan)
    proba[np.ix_(entries, which)] = answer.proba
    test = None
    if there is not None:
        test = np.full((len(there), k), np.nan)
        if answer.test is not None:
            test[there] = answer.test
    return replace(answer, proba=proba, test=test)


def answer_systems(
    systems: Sequence[System], rows: Rows, plan: FoldPlan, how: How, test: Rows | None = None
) -> Answers:
    """What each system says. NaN where a system has nothing to read of a row.

    A head that cannot answer costs the systems that need it and no other; a fusion of several
    heads goes on with those that answer. Raises HeadError when nothing answers.
    """
    how = replace(how, options=aimed(how.options, how.metric, rows.classes.tolist()))
    options, step = how.options, how.step
    patterns = patterns_of(rows, test)
    single = [s for s in systems if not s.members]
    bases = bases_of(single, patterns)
    names = {(s.function, s.on): s.name for s in single}
    lost: dict[Base, HeadError] = {}
    base = base_answers(
        bases, rows, plan, how, test=test, failed=lost,
        step=lambda b, fits: step(names.get(b, "@".join(b)), fits),
    )  # fmt: skip
    answers = Answers([], {}, [])
    for system in single:
        why = [lost[b] for b in bases_of_system(system, patterns) if b in lost]
        if why:
            answers.failed.append((system, why[0]))
        else:
            answers.systems.append(system)
            answers.by_name[system.name] = _routed(system, base, rows, test, patterns)
    if not answers.systems and answers.failed:
        raise answers.failed[0][1]
    out = answers.by_name
    read = {m for s in systems if s.fusion not in UNLEARNED for m in s.members}
    learned = partial(base_answers, rows=rows, plan=plan, how=how, nested=True)
    again = Nested(learned, plan, patterns, [s for s in answers.systems if s.name in read], base)
    setting = Setting(rows, plan, test, patterns, options, how.seed, again)
    kept = None if how.reuse is None else how.reuse.scope(rows, plan, test)

    def join(system: System) -> Answer:
        fuse = partial(fused, system, out, setting, how.nested, step)
        given = dict(options.get(str(system.fusion)) or {})
        aim = given.pop(METRIC, None)
        if kept is None or given:
            return fuse()
        more = [] if how.nested is False or system.fusion in UNLEARNED else [
            kept.of_head(
                function, on, options.get(function), how.seed, False, how.memory, how.device
            )
            for function, on in again.bases(system.members)
        ]  # fmt: skip
        members = [out[m] for m in system.members]
        more += [] if aim is None else [repr(aim)]
        return kept.fused(system, members, how.seed, how.nested, more, fuse)

    for whole in systems:
        if not whole.members:
            continue
        system, absent = _without(whole, answers.failed)
        if len(system.members) < 2:
            answers.failed.append((whole, absent[0][1]))
            continue
        try:
            answer = join(system)
        except Exception as error:  # noqa: BLE001  told by its line; what is no head's is raised
            answers.failed.append((whole, reason(whole.name, error)))
            continue
        if absent:
            names_of = ", ".join(one.name for one, _ in absent)
            answer = replace(answer, notes=[*answer.notes, f"without {names_of}: no answer"])
        if system.fusion == "stacked" and how.metric not in (None, "accuracy"):
            learns = f"its head learns from the labels by its own loss, not by {how.metric}"
            answer = replace(answer, notes=[*answer.notes, learns])
        answers.systems.append(system)
        out[system.name] = answer
        step(system.name, 1)
    return answers


def _without(
    system: System, failed: Sequence[tuple[System, HeadError]]
) -> tuple[System, list[tuple[System, HeadError]]]:
    """The fusion without the members that have no answer, and those: for a fusion of one head they
    are a reason to have none itself."""
    absent = [(one, why) for one, why in failed if one.name in system.members]
    if not absent:
        return system, []
    if system.head != "all":
        return replace(system, members=()), absent
    lost = {one.name for one, _ in absent}
    return replace(system, members=tuple(m for m in system.members if m not in lost)), absent


def nested_fits(systems: Sequence[System], plan: FoldPlan) -> int:
    """How many fits nesting the fusions among ``systems`` takes at most, where rows lack nothing:
    each member without each pair of folds."""
    read = {m for s in systems if s.fusion not in UNLEARNED for m in s.members}
    return len(read) * plan.repeats * math.comb(plan.folds, 2) if plan.folds > 2 else 0


def _routed(
    system: System,
    base: Mapping[Base, Answer],
    rows: Rows,
    test: Rows | None,
    patterns: Sequence[str],
) -> Answer:
    """A head on several sets: each row answered by the head on those of them it has."""
    bases = bases_of_system(system, patterns)
    first = base[bases[0]]
    if len(bases) == 1:
        return first
    proba = np.full_like(first.proba, np.nan)
    fresh = None if first.test is None else np.full_like(first.test, np.nan)
    own, theirs = rows.patterns(), None if test is None else test.patterns()
    for pattern in patterns:
        on = restrict(system.on, pattern)
        if not on:
            continue
        answer = base[system.function, on]
        proba[:, own == pattern] = answer.proba[:, own == pattern]
        if fresh is not None and theirs is not None and answer.test is not None:
            fresh[theirs == pattern] = answer.test[theirs == pattern]
    used = [base[b] for b in bases]
    notes = [note for answer in used for note in answer.notes]
    return Answer(
        proba, fresh, sum(a.seconds for a in used), f"{first.how}, by what a row has",
        list(dict.fromkeys(notes)), first.chosen, first.importances,
        all(a.reused for a in used), first.tried,
    )  # fmt: skip
