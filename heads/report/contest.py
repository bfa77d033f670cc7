"""Systems of one or several runs, held against each other on the rows that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from headstock.heads.numbers.compare import mcnemar
from headstock.heads.numbers.familywise import between_all
from headstock.heads.numbers.intervals import LEVEL, difference_interval
from headstock.heads.report.saved import Saved, System
from headstock.heads.run.scores import Comparison

__all__ = ["LEVEL", "Against", "Contest", "Pair", "pair"]


class Pair(NamedTuple):
    """Two systems on the same rows: rows that only one has right, and the exact McNemar test."""

    only_a: int
    only_b: int
    p: float


def pair(right_a: np.ndarray, right_b: np.ndarray) -> Pair:
    """Of (n,) bool against (n,) bool."""
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    return Pair(only_a, only_b, mcnemar(only_a, only_b))


@dataclass(frozen=True)
class Against:
    """System b beside system a: whether they can be told apart, the adjusted p, the rows only one
    has right, and b's accuracy less a's with its 95 % interval where there is one."""

    differs: bool
    p: float
    test: Pair
    gap: tuple[float, float, float] | None = None

    @classmethod
    def recorded(cls, one: Comparison) -> Against:
        """What a run holds, where a is the best."""
        gap, test = one.accuracy_difference, Pair(one.only_a_right, one.only_b_right, one.mcnemar_p)
        ends = None if gap.low is None or gap.high is None else (-gap.value, -gap.high, -gap.low)
        return cls(one.differs, one.adjusted_p, test, ends)


@dataclass(frozen=True)
class Contest:
    """systems: all with held-out probabilities, best accuracy first. right: (s, m) bool, which of
    the m shared rows (same id, same label in every run) each has right; ids (m,); groups (m,) text
    where rows come in groups, "" for a row of its own."""

    runs: list[Saved]
    systems: list[System]
    right: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None

    @classmethod
    def of(cls, runs: list[Saved], group_of: Mapping[str, str] | None = None) -> Contest:
        """All systems of ``runs``; ``group_of``: each id's group, when they have any."""
        labels = [dict(zip(run.ids.tolist(), run.labels.tolist())) for run in runs]
        shared = [i for i in labels[0] if all(other.get(i) == labels[0][i] for other in labels[1:])]
        systems, right = [], []
        for run in runs:
            where = {i: row for row, i in enumerate(run.ids.tolist())}
            rows = np.array([where[i] for i in shared], dtype=np.int64)
            for system in run.systems:
                if system.proba is not None:
                    systems.append(system)
                    right.append(system.right[rows])
        order = sorted(range(len(systems)), key=lambda s: -systems[s].line.accuracy.value)
        table = np.array([right[s] for s in order], dtype=bool).reshape(len(order), len(shared))
        groups = None
        if group_of:
            groups = np.array([group_of.get(i) or f"\0{i}" for i in shared], dtype=str)
        return cls(runs, [systems[s] for s in order], table, np.array(shared, dtype=str), groups)

    def title(self, system: System) -> str:
        """The system's name, with its run's in front when there are several."""
        return system.name if len(self.runs) == 1 else f"{system.saved.name}: {system.name}"

    @cached_property
    def p_values(self) -> np.ndarray:
        """(s, s) between any two systems, adjusted for all pairs of them: whoever is shown beside
        whom was chosen by these rows."""
        return between_all(self.right.T.astype(float), self.groups)

    def tests(self, pairs: Sequence[tuple[int, int]]) -> list[Against]:
        """Each pair's exact McNemar test, and ``p_values``, no smaller than that. They differ when
        the latter is below LEVEL."""
        if not pairs or not len(self.ids):
            return []
        made = [pair(self.right[a], self.right[b]) for a, b in pairs]
        p = [max(float(self.p_values[a, b]), t.p) for (a, b), t in zip(pairs, made)]
        if self.groups is None:
            return [Against(one < LEVEL, one, t) for one, t in zip(p, made)]
        gain = np.stack([self.right[b].astype(float) - self.right[a] for a, b in pairs], axis=1)
        low, high = difference_interval(gain, self.groups)
        gaps = zip(gain.mean(axis=0).tolist(), low.tolist(), high.tolist())
        return [Against(one < LEVEL, one, t, gap) for one, t, gap in zip(p, made, gaps)]

    def between(self, most: int) -> dict[tuple[int, int], Against]:
        """The tests between any two of the first ``most`` systems: {(a, b): test}, a before b."""
        keys = [(a, b) for b in range(min(most, len(self.systems))) for a in range(b)]
        return dict(zip(keys, self.tests(keys)))

    @cached_property
    def against_best(self) -> dict[tuple[str, str], Against]:
        """What is known of each other system against the first, by (run, system): what the run
        recorded, or with several runs the test on the shared rows."""
        if len(self.runs) == 1:
            (saved,) = self.runs
            return {(saved.name, c.b): Against.recorded(c) for c in saved.run.comparisons}
        made = self.tests([(0, s) for s in range(1, len(self.systems))])
        return {(s.saved.name, s.name): test for s, test in zip(self.systems[1:], made)}

    def overlap(self, a: int, b: int) -> tuple[int, float]:
        """How many rows both have wrong, and their share of those that either has wrong."""
        wrong_a, wrong_b = ~self.right[a], ~self.right[b]
        both = int((wrong_a & wrong_b).sum())
        return both, both / max(int((wrong_a | wrong_b).sum()), 1)
