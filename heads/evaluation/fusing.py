"""What a late fusion says: learned from held-out answers of its members, nested where it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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

__all__ = ["UNLEARNED", "Nested", "fused"]

UNLEARNED = ("mean", "product")
"""Late fusions that learn nothing from their members' answers."""
APPROXIMATE = "approximate: the members it learned from had seen the fold that is scored"


class Nested:
    """Members fitted again without one fold, for a fusion that is to learn from them alone."""

    def __init__(
        self, answer: Callable[..., dict[Base, Answer]], rows: Rows, plan: FoldPlan,
        options: Options, seed: int, patterns: Sequence[str], systems: Mapping[str, System],
    ) -> None:  # fmt: skip
        self._answer, self._rows, self._plan = answer, rows, plan
        self.options, self.seed = options, seed
        self._patterns, self._systems = patterns, systems
        self._known: dict[tuple[int, int], dict[Base, np.ndarray]] = {}

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


def fused(
    system: System,
    answers: Mapping[str, Answer],
    rows: Rows,
    plan: FoldPlan,
    test: Rows | None,
    patterns: Sequence[str],
    again: Nested,
    nested: bool | None,
    step: Callable[[str, int], None],
) -> Answer:
    """A late fusion: for each pattern of the members that can answer it, learned from all rows
    they can answer, with one member left that member itself."""
    start = time.perf_counter()
    assert system.fusion is not None
    options, seed = again.options.get(system.fusion), again.seed
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
