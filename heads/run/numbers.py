"""What an evaluation of numbers gave; the parts that it shares with one of classes are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headstock.heads.run.rows import Hygiene, Plan
from headstock.heads.run.run import SetRecipe, Settings
from headstock.heads.run.scores import Failed, Measure, MetricDifference, SystemLine, Verdict

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
class NumberLine(SystemLine, NumberScores):
    """One system of the leaderboard."""

    tried: SquaredErrors | None = None
    valid: NumberScores | None = None
    test: NumberScores | None = None

    def held(self, split: str) -> NumberScores | None:
        """The scores on ``valid`` or ``test``."""
        return self.valid if split == "valid" else self.test


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberComparison(Verdict):
    """By the metric that decides, on the n rows that both answer."""

    n: int
    repeats: int
    difference: MetricDifference
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSelection:
    """``statistics.regression.chosen_best``."""

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
