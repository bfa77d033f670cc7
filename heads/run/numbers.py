"""What an evaluation of numbers gave; the parts that it shares with one of classes are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headstock.heads.run.rows import Hygiene, Plan
from headstock.heads.run.run import SetRecipe, Settings
from headstock.heads.run.scores import Failed, Measure, MetricDifference, Weight

__all__ = [
    "NumberComparison", "NumberLine", "NumberRun", "NumberScores", "NumberSelection",
    "SquaredErrors", "Worst",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberScores:
    """What a system reached on n rows, by metric. patterns: on rows that have these sets alone."""

    n: int
    metrics: Mapping[str, Measure]
    patterns: Mapping[str, NumberScores] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredErrors:
    """Points that a search tried, and by fit the held-out mean squared error of each."""

    points: tuple[Mapping[str, Any], ...]
    squared_error: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLine(NumberScores):
    """One system of the leaderboard. saw: rows whose labels a network that it reads has seen.
    seconds, how: None and empty for guessing, which is not fitted."""

    head: str
    on: str
    fusion: str | None
    name: str
    seconds: float | None = None
    how: str = ""
    reused: bool = False
    members: tuple[str, ...] = ()
    chosen: tuple[Mapping[str, Any], ...] = ()
    tried: SquaredErrors | None = None
    importances: Mapping[str, Weight] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    saw: int = 0
    valid: NumberScores | None = None
    test: NumberScores | None = None

    @property
    def late(self) -> bool:
        """Whether it joins answers of several systems."""
        return self.fusion not in (None, "early")

    def held(self, split: str) -> NumberScores | None:
        """The scores on ``valid`` or ``test``."""
        return self.valid if split == "valid" else self.test


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberComparison:
    """System a, the first, against b on the n rows that both answer, by the metric that decides;
    the verdict is ``better``, ``worse`` or ``not distinguishable``."""

    a: str
    b: str
    n: int
    repeats: int
    difference: MetricDifference
    by: str
    adjusted_p: float
    verdict: str

    @property
    def differs(self) -> bool:
        return self.verdict != "not distinguishable"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSelection:
    """``numbers.regression.selection``."""

    leader: str
    systems: int
    apparent: float
    nested: Measure
    optimism: float
    wins: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """A row that the first system answers worst."""

    id: str
    true: float
    predicted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRun:
    """A run whose settings have ``number`` for target. leaderboard: the best by the metric that
    decides first, never empty. worst: of the first system. fold_sizes: rows that each fold holds
    out, by repeat."""

    leaderboard: tuple[NumberLine, ...]
    folds: Plan
    settings: Settings
    recipes: Mapping[str, SetRecipe] = field(default_factory=dict)
    hygiene: Hygiene = field(default_factory=Hygiene)
    comparisons: tuple[NumberComparison, ...] = ()
    selection: NumberSelection | None = None
    baseline: NumberLine | None = None
    failed: tuple[Failed, ...] = ()
    fold_sizes: tuple[tuple[int, ...], ...] = ()
    worst: tuple[Worst, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
