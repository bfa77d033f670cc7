"""What a late fusion says: learned from held-out answers of its members, nested where it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from headstock.heads.evaluation.systems import Base, Options, System, bases_of_system, restrict
from headstock.heads.fusion.fusions import cross_fuse, make_fusion
from headstock.heads.fusion.stacking import Stacked
from headstock.heads.outoffold.answer import Answer
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.specs import NUMBER
from headstock.store.errors import HeadError

__all__ = ["UNLEARNED", "Nested", "Setting", "fused"]

UNLEARNED = ("mean", "product")
"""Late fusions that learn nothing from their members' answers."""
APPROXIMATE = "approximate: the members it learned from had seen the fold that is scored"


class Nested:
    """What members that were fitted without a fold say of the other rows, for a fusion that is to
    learn from them alone. ``answer`` gives it for all that any fusion may ask, at the first
    question; ``plain``: what the members say of each row otherwise."""

    def __init__(
        self, answer: Callable[..., dict[Base, Answer]], plan: FoldPlan, patterns: Sequence[str],
        systems: Sequence[System], plain: Mapping[Base, Answer],
    ) -> None:  # fmt: skip
        self._answer, self._plan, self._patterns, self._plain = answer, plan, patterns, plain
        self._systems = {system.name: system for system in systems}
        self._known: dict[Base, Answer] | None = None
        self._failed: dict[Base, HeadError] = {}

    def bases(self, members: Sequence[str]) -> list[Base]:
        """The heads that are fitted again for ``members``."""
        every = [b for m in members for b in bases_of_system(self._systems[m], self._patterns)]
        return list(dict.fromkeys(every))

    def __call__(
        self, members: Sequence[str], which: np.ndarray, step: Callable[[int], None], r: int,
        fold: int,
    ) -> np.ndarray:  # fmt: skip
        """(rows of ``which`` outside ``fold``, s, k): what ``members`` fitted without the fold say
        of its other rows, held out by the other folds. ``step`` is told of fits done."""
        if self._known is None:
            self._known = self._answer(
                self.bases(list(self._systems)), failed=self._failed, step=lambda _, n: step(n)
            )
        asked = which[self._plan.codes[r, which] != fold]
        out = []
        for base in ((self._systems[m].function, self._systems[m].on) for m in members):
            if base in self._failed:
                raise self._failed[base]
            proba = self._known[base].proba[r * self._plan.folds + fold, asked]
            if np.isnan(proba).all():  # the head never sees a row of this fold
                proba = self._plain[base].proba[r, asked]
            out.append(proba)
        return np.stack(out, axis=1)


@dataclass(frozen=True)
class Setting:
    """What all fusions of an evaluation share."""

    rows: Rows
    plan: FoldPlan
    test: Rows | None
    patterns: Sequence[str]
    options: Options
    seed: int
    again: Nested


def fused(
    system: System,
    answers: Mapping[str, Answer],
    setting: Setting,
    nested: bool | None,
    step: Callable[[str, int], None],
) -> Answer:
    """A late fusion: for each pattern of the members that can answer it, learned from all rows
    they can answer, with one member left that member itself."""
    start = time.perf_counter()
    assert system.fusion is not None
    rows, plan, test, again = setting.rows, setting.plan, setting.test, setting.again
    options, seed = setting.options.get(system.fusion), setting.seed
    fusion = make_fusion(system.fusion, seed, options, rows.target)
    reads = bool(getattr(fusion, "wants_features", False))
    learns = system.fusion not in UNLEARNED
    must = learns and (reads or nested is True)
    nested = learns and (must or nested is None)
    notes = [APPROXIMATE] if learns and not nested else []
    if isinstance(fusion, Stacked):
        notes += fusion.notes(len(rows.classes))
    first = answers[system.members[0]]
    proba = np.full_like(first.proba, np.nan)
    fresh = None if test is None else np.full((len(test), proba.shape[2]), np.nan)
    own = rows.patterns()
    theirs = None if test is None else test.patterns()
    for pattern in setting.patterns:
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
        folds, y = plan.codes[:, which], rows.y[which]
        made: dict[str, Any] = {"seed": seed, "options": options, "target": rows.target}
        fuse = partial(cross_fuse, system.fusion, P, y, folds, X=X, **made)
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
            fusion = make_fusion(system.fusion, **made)
            if X is None:
                fusion.fit(P[0], y, folds[0])
                fresh[asked] = fusion.predict(np.stack(tests, axis=1))
            else:
                fusion.fit(P[0], y, folds[0], X)
                F = test.take(asked).matrix("+".join(sets))[0]
                fresh[asked] = fusion.predict(np.stack(tests, axis=1), F)
    how = "from held-out answers" if rows.target == NUMBER else "from held-out probabilities"
    if nested and not any(note.startswith(APPROXIMATE) for note in notes):
        how += " of members that never saw the scored fold"
    notes = list(dict.fromkeys(notes))
    return Answer(proba, fresh, time.perf_counter() - start, how, notes)
