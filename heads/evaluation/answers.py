"""What every system says of every row.

Base answers are those of one head on one or more sets, by the rows that have these sets. A system
of the leaderboard is put together from them: where rows lack a vector, a row is answered by what
the system is on the sets the row has (its *pattern*), and by nobody where it has none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.engine.outoffold import Answer, answer_all
from headstock.heads.engine.shared import MEMORY, Shared
from headstock.heads.evaluation.reuse import Reuse
from headstock.heads.evaluation.systems import System
from headstock.heads.fusion.fusions import cross_fuse, make_fusion
from headstock.heads.rows.adapted import answer_views
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.store.errors import HeadError

__all__ = ["Base", "answer_systems", "base_answers", "bases_of", "patterns_of", "restrict"]

Base = tuple[str, str]
"""A head and the sets it reads side by side: (``knn``, ``image+audio``)."""
Options = Mapping[str, Mapping[str, Any]]
UNLEARNED = ("mean", "product")
"""Late fusions that learn nothing from their members' answers."""
APPROXIMATE = "approximate: the members it learned from had seen the fold that is scored"


def restrict(on: str, pattern: str) -> str:
    """The sets of ``on`` that ``pattern`` has, in the order of ``on``; empty where none."""
    there = parts_of(pattern)
    return "+".join(p for p in parts_of(on) if p in there)


def patterns_of(rows: Rows, test: Rows | None = None) -> list[str]:
    """Which sets the rows have, each combination that occurs once, most sets first."""
    both = [rows] if test is None else [rows, test]
    if all(r.present is None for r in both):
        return ["+".join(rows.X)]
    found = set(np.concatenate([np.unique(r.patterns()) for r in both]))
    return sorted(found, key=lambda p: (-len(parts_of(p)), p))


def base_answers(
    wanted: Sequence[Base],
    rows: Rows,
    plan: FoldPlan,
    *,
    test: Rows | None = None,
    options: Options | None = None,
    seed: int = 0,
    memory: float = MEMORY,
    device: str = "cpu",
    step: Callable[[Base, int], None] = lambda base, fits: None,
    reuse: Reuse | None = None,
) -> dict[Base, Answer]:
    """The answers of heads, each learned from the rows that have all the sets it reads.

    proba (r, n, k) and test (m, k) are NaN for rows that lack one. Raises HeadError when the rows
    that have the sets lie in one fold. memory: bytes that what heads share may take;
    device: where its largest products are computed. What ``reuse``
    has is not computed again.
    """
    options = options or {}
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
            shared = [
                Shared(mine, cut, r, fresh if r == 0 else None, memory, device)
                for r in range(cut.repeats)
            ]
            answer = answer_all if reuse is None else reuse.scope(mine, cut, fresh).answer_all
            for function in dict.fromkeys(f for f, on in wanted if on in some):
                ons = [on for on in dict.fromkeys(some) if (function, on) in wanted]
                given: dict[str, Any] = {
                    "options": options.get(function), "seed": seed, "test": fresh,
                }  # fmt: skip
                plain = [on for on in ons if not mine.viewed(on)]
                named = partial(_named, step, function)
                found: dict[str, Answer] = {}
                if plain:
                    found = answer(function, plain, mine, cut, shared, step=named, **given)
                for on in [on for on in ons if mine.viewed(on)]:
                    told = partial(named, on)
                    found[on] = answer_views(function, on, mine, cut, step=told, **given)
                for on, one in found.items():
                    out[function, on] = _spread(one, which, len(rows), there, whole)
    return out


def _named(step: Callable[[Base, int], None], function: str, on: str, fits: int) -> None:
    step((function, on), fits)


def _spread(
    answer: Answer, which: np.ndarray, n: int, there: np.ndarray | None, whole: bool
) -> Answer:
    """The answer with its rows at their places among n, and those of the test rows among m."""
    if whole and (there is None or there.all()):
        return answer
    repeats, _, k = answer.proba.shape
    proba = np.full((repeats, n, k), np.nan)
    proba[:, which] = answer.proba
    test = None
    if there is not None:
        test = np.full((len(there), k), np.nan)
        if answer.test is not None:
            test[there] = answer.test
    return replace(answer, proba=proba, test=test)


def answer_systems(
    systems: Sequence[System],
    rows: Rows,
    plan: FoldPlan,
    *,
    test: Rows | None = None,
    options: Options | None = None,
    seed: int = 0,
    nested: bool | None = None,
    memory: float = MEMORY,
    device: str = "cpu",
    step: Callable[[str, int], None] = lambda name, fits: None,
    reuse: Reuse | None = None,
) -> dict[str, Answer]:
    """{system name: its answer}. NaN where a system has nothing to read of a row.

    nested: fusions that learn do so from members that never saw the fold they are scored on; by
    default where the rows and folds allow it, and a note says where not. A stack that reads
    features always does. memory, device: as in ``base_answers``. ``step`` is told of fits done.
    """
    options = options or {}
    patterns = patterns_of(rows, test)
    single = [s for s in systems if not s.members]
    bases = bases_of(single, patterns)
    names = {(s.function, s.on): s.name for s in single}
    base = base_answers(
        bases, rows, plan, test=test, options=options, seed=seed, memory=memory, device=device,
        step=lambda b, fits: step(names.get(b, "@".join(b)), fits), reuse=reuse,
    )  # fmt: skip
    out = {s.name: _routed(s, base, rows, test, patterns) for s in single}
    again = _Nested(
        partial(
            base_answers, options=options, seed=seed, memory=memory, device=device, reuse=reuse
        ),
        rows, plan, options, seed, patterns, {s.name: s for s in single},
    )  # fmt: skip
    kept = None if reuse is None else reuse.scope(rows, plan, test)
    for system in systems:
        if system.members:
            fuse = partial(_fused, system, out, rows, plan, test, patterns, again, nested, step)
            if kept is None or options.get(str(system.fusion)):
                out[system.name] = fuse()
            else:
                more = [] if nested is False or system.fusion in UNLEARNED else [
                    kept.of_head(function, on, options.get(function), seed, False, memory, device)
                    for function, on in again.bases(system.members)
                ]  # fmt: skip
                members = [out[m] for m in system.members]
                out[system.name] = kept.fused(system, members, seed, nested, more, fuse)
            step(system.name, 1)
    return out


def nested_fits(systems: Sequence[System], plan: FoldPlan) -> int:
    """How many fits nesting the fusions among ``systems`` takes at most, where rows lack nothing:
    each member without each pair of folds."""
    read = {m for s in systems if s.fusion not in UNLEARNED for m in s.members}
    return len(read) * plan.repeats * plan.folds * (plan.folds - 1) if plan.folds > 2 else 0


def bases_of(systems: Sequence[System], patterns: Sequence[str]) -> list[Base]:
    """What must be fitted to answer rows of these patterns."""
    return list(dict.fromkeys(b for s in systems if not s.members for b in _bases(s, patterns)))


def _bases(system: System, patterns: Sequence[str]) -> list[Base]:
    read = dict.fromkeys(restrict(system.on, pattern) for pattern in patterns)
    return [(system.function, on) for on in read if on]


def _routed(
    system: System,
    base: Mapping[Base, Answer],
    rows: Rows,
    test: Rows | None,
    patterns: Sequence[str],
) -> Answer:
    """A head on several sets: each row answered by the head on those of them it has."""
    bases = _bases(system, patterns)
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


class _Nested:
    """Members fitted again without one fold, for a fusion that is to learn from them alone."""

    def __init__(
        self, answer: Callable[..., dict[Base, Answer]], rows: Rows, plan: FoldPlan,
        options: Options, seed: int, patterns: Sequence[str], systems: Mapping[str, System],
    ) -> None:  # fmt: skip
        self._answer, self._rows, self._plan = answer, rows, plan
        self._options, self._seed = options, seed
        self._patterns, self._systems = patterns, systems
        self._known: dict[tuple[int, int], dict[Base, np.ndarray]] = {}

    def bases(self, members: Sequence[str]) -> list[Base]:
        """The heads that are fitted again for ``members``."""
        every = [b for m in members for b in _bases(self._systems[m], self._patterns)]
        return list(dict.fromkeys(every))

    def __call__(
        self, members: Sequence[str], which: np.ndarray, step: Callable[[int], None], r: int,
        fold: int,
    ) -> np.ndarray:  # fmt: skip
        """(rows of ``which`` outside ``fold``, s, k): what ``members`` fitted without the fold say
        of its other rows, held out by the other folds. ``step`` is told of fits done."""
        train = np.flatnonzero(self._plan.codes[r] != fold)
        known = self._known.setdefault((r, fold), {})
        wanted = [b for b in self.bases(members) if b not in known]
        if wanted:
            once = FoldPlan(self._plan.ids, self._plan.codes[r : r + 1])
            found = self._answer(
                wanted, self._rows.take(train), once.take(train), step=lambda _, fits: step(fits)
            )
            known |= {b: answer.proba[0] for b, answer in found.items()}
        keep = np.isin(train, which)
        said = [known[self._systems[m].function, self._systems[m].on][keep] for m in members]
        return np.stack(said, axis=1)


def _fused(
    system: System,
    answers: Mapping[str, Answer],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None,
    patterns: Sequence[str],
    again: _Nested,
    nested: bool | None,
    step: Callable[[str, int], None],
) -> Answer:
    """A late fusion: for each pattern of the members that can answer it, learned from all rows
    they can answer, with one member left that member itself."""
    start = time.perf_counter()
    assert system.fusion is not None
    options, seed = again._options.get(system.fusion), again._seed
    reads = bool(getattr(make_fusion(system.fusion, seed, options), "wants_features", False))
    learns = system.fusion not in UNLEARNED
    must = learns and (reads or nested is True)
    nested = learns and (must or nested is None)
    notes = [APPROXIMATE] if learns and not nested else []
    first = answers[system.members[0]]
    proba = np.full_like(first.proba, np.nan)
    fresh = None if test is None else np.full((len(test), proba.shape[2]), np.nan)
    own = rows.patterns()
    theirs = None if test is None else test.patterns()
    for pattern in patterns:
        on = {m: m.rpartition("@")[2] for m in system.members}
        able = [m for m in system.members if restrict(on[m], pattern) == on[m]]
        if not able:
            continue
        mine = np.flatnonzero(own == pattern)
        asked = np.empty(0, int) if theirs is None else np.flatnonzero(theirs == pattern)
        if len(able) == 1:
            proba[:, mine] = answers[able[0]].proba[:, mine]
            said = answers[able[0]].test
            if fresh is not None and said is not None:
                fresh[asked] = said[asked]
            continue
        sets = list(dict.fromkeys(p for m in able for p in parts_of(on[m])))
        which = np.flatnonzero(rows.having(sets))
        plan.take(which)  # refuses rows of one fold
        P = np.stack([answers[m].proba[:, which] for m in able], axis=2)
        X = rows.take(which).matrix("+".join(sets))[0] if reads else None
        folds, codes = plan.codes[:, which], rows.codes[which]
        fuse = partial(cross_fuse, system.fusion, P, codes, folds, seed=seed, options=options, X=X)
        try:
            told = partial(step, system.name)
            found = fuse(nested=partial(again, able, which, told) if nested else None)
        except HeadError as error:  # without two folds too little is left, or there is no network
            if must or not nested:
                raise
            found = fuse()
            notes.append(f"{APPROXIMATE} ({error.what})")
        here = own[which] == pattern
        proba[:, which[here]] = found[:, here]
        if fresh is not None and test is not None and len(asked):
            tests = [t[asked] for m in able if (t := answers[m].test) is not None]
            fusion = make_fusion(system.fusion, seed, options)
            if X is None:
                fusion.fit(P[0], codes, folds[0])
                fresh[asked] = fusion.predict(np.stack(tests, axis=1))
            else:
                fusion.fit(P[0], codes, folds[0], X)
                F = test.take(asked).matrix("+".join(sets))[0]
                fresh[asked] = fusion.predict(np.stack(tests, axis=1), F)
    how = "from held-out probabilities"
    if nested and not notes:
        how += " of members that never saw the scored fold"
    notes = list(dict.fromkeys(notes))
    return Answer(proba, fresh, time.perf_counter() - start, how, notes)
