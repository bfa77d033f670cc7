"""Systems of one or several runs, held against each other on the rows that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from headstock.heads.metrics.table import Metric, metric_named
from headstock.heads.report.saved import Saved, System
from headstock.heads.run.scores import Comparison
from headstock.heads.statistics.compare import between_systems, mcnemar
from headstock.heads.statistics.familywise import between_all
from headstock.heads.statistics.intervals import LEVEL, difference_interval
from headstock.heads.statistics.measured import metric_difference
from headstock.heads.userfile import only_files
from headstock.store.errors import HeadstockError

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
    has right, and b's accuracy less a's, or that of what decides, with its 95 % interval where
    there is one; ahead: whether b's is the better one."""

    differs: bool
    p: float
    test: Pair
    gap: tuple[float, float, float] | None = None
    ahead: bool = False

    @classmethod
    def recorded(cls, one: Comparison) -> Against:
        """What a run holds, where a is the best."""
        gap = one.difference or one.accuracy_difference
        test = Pair(one.only_a_right, one.only_b_right, one.mcnemar_p)
        ends = None
        if gap.value is not None and gap.low is not None and gap.high is not None:
            ends = (-gap.value, -gap.high, -gap.low)
        return cls(one.differs, one.adjusted_p, test, ends, one.verdict == "worse")


def shared_metric(runs: Sequence[Saved]) -> Metric | None:
    """What decides in every run, where that is one metric other than the accuracy, of the same
    classes, and can be had as it was: a file of somebody's own may be gone or another, and runs
    only inside ``only_files`` that name it."""
    names = {run.run.settings.decides for run in runs}
    classes = {tuple(run.classes.tolist()) for run in runs}
    if len(names) != 1 or len(classes) != 1 or names == {"accuracy"}:
        return None
    name = names.pop()
    try:
        with only_files():
            metric = metric_named(name, classes.pop())
    except HeadstockError:
        return None
    return (
        metric
        if {run.run.settings.metric_files.get(name, "") for run in runs} == {metric.source}
        else None
    )


@dataclass(frozen=True)
class Contest:
    """systems: all with held-out probabilities, best first. right: (s, m) bool, which of the m
    shared rows (same id, same label in every run) each has right; ids (m,); groups (m,) text where
    rows come in groups, "" for a row of its own. metric: what decides in every run where that is
    not the accuracy, with proba (s, m, k) and codes (m,)."""

    runs: list[Saved]
    systems: list[System]
    right: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    metric: Metric | None = None
    proba: np.ndarray | None = None
    codes: np.ndarray | None = None

    @classmethod
    def of(cls, runs: list[Saved], group_of: Mapping[str, str] | None = None) -> Contest:
        """All systems of ``runs``; ``group_of``: each id's group, when they have any."""
        labels = [dict(zip(run.ids.tolist(), run.labels.tolist())) for run in runs]
        shared = [i for i in labels[0] if all(other.get(i) == labels[0][i] for other in labels[1:])]
        systems, right, said = [], [], []
        metric, codes = shared_metric(runs), None
        for run in runs:
            where = {i: row for row, i in enumerate(run.ids.tolist())}
            rows = np.array([where[i] for i in shared], dtype=np.int64)
            for system in run.systems:
                if system.proba is not None:
                    systems.append(system)
                    right.append(system.right[rows])
                    said.append(system.proba[rows])
            codes = run.codes[rows]
        rank = [-system.line.accuracy.value for system in systems]
        if metric is not None and codes is not None and len(shared):
            values = np.array([metric.sign * metric.score(one, codes) for one in said])
            rank = (-np.nan_to_num(values, nan=-np.inf)).tolist()
        order = sorted(range(len(systems)), key=lambda s: rank[s])
        table = np.array([right[s] for s in order], dtype=bool).reshape(len(order), len(shared))
        groups = None
        if group_of:
            groups = np.array([group_of.get(i) or f"\0{i}" for i in shared], dtype=str)
        ids, ordered = np.array(shared, dtype=str), [systems[s] for s in order]
        if metric is None or not order:
            return cls(runs, ordered, table, ids, groups)
        proba = np.stack([said[s] for s in order])
        return cls(runs, ordered, table, ids, groups, metric, proba, codes)

    @property
    def decides(self) -> str:
        """The name of what systems are ordered and compared by."""
        return "accuracy" if self.metric is None else self.metric.name

    @cached_property
    def values(self) -> np.ndarray:
        """(s,) of each system on the shared rows."""
        if self.metric is None or self.proba is None or self.codes is None:
            return self.right.mean(axis=1)
        return np.array([self.metric.score(one, self.codes) for one in self.proba])

    def title(self, system: System) -> str:
        """The system's name, with its run's in front when there are several."""
        return system.name if len(self.runs) == 1 else f"{system.saved.name}: {system.name}"

    @cached_property
    def p_values(self) -> np.ndarray:
        """(s, s) between any two systems, adjusted for all pairs of them: whoever is shown beside
        whom was chosen by these rows."""
        if self.metric is None or self.proba is None or self.codes is None:
            return between_all(self.right.T.astype(float), self.groups)
        proba = [one[None] for one in self.proba]
        return between_systems(self.metric, proba, self.codes, self.groups)

    def tests(self, pairs: Sequence[tuple[int, int]]) -> list[Against]:
        """Each pair's exact McNemar test, and ``p_values``, of the accuracy no smaller than that.
        They differ when the latter is below LEVEL."""
        if not pairs or not len(self.ids):
            return []
        made = [pair(self.right[a], self.right[b]) for a, b in pairs]
        if self.metric is not None:
            return [self._by_metric(a, b, test) for (a, b), test in zip(pairs, made)]
        p = [max(float(self.p_values[a, b]), t.p) for (a, b), t in zip(pairs, made)]
        if self.groups is None:
            return [Against(one < LEVEL, one, t) for one, t in zip(p, made)]
        gain = np.stack([self.right[b].astype(float) - self.right[a] for a, b in pairs], axis=1)
        low, high = difference_interval(gain, self.groups)
        gaps = zip(gain.mean(axis=0).tolist(), low.tolist(), high.tolist())
        return [Against(one < LEVEL, one, t, gap) for one, t, gap in zip(p, made, gaps)]

    def _by_metric(self, a: int, b: int, test: Pair) -> Against:
        assert self.metric is not None
        assert self.proba is not None
        assert self.codes is not None
        one, other = self.proba[b][None], self.proba[a][None]
        found = metric_difference(self.metric, one, other, self.codes, self.groups)
        ends = (found["value"], found["low"], found["high"])
        gap = None if None in ends else ends
        p = float(self.p_values[a, b])
        ahead = self.metric.sign * (found["value"] or 0.0) > 0
        return Against(p < LEVEL, p, test, gap, ahead)

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
