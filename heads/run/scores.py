"""What systems reached: scores with their intervals, and how systems stand to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Accuracy", "Calibration", "Column", "Compared", "Comparison", "Difference", "Ends",
    "Failed", "Gate", "GroupEnds", "Interval", "Line", "Measure", "MetricDifference", "OfClass",
    "Point", "Repeats", "Scores", "Selection", "SystemLine", "SystemName", "Tried", "Verdict",
    "Weight",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Of a 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval(Ends):
    """A figure and its 95 % interval."""

    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEnds(Ends):
    """With the spread of whole groups: of how many."""

    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy(Interval):
    """by_group: where rows come in groups."""

    by_group: GroupEnds | None = None

    def ends(self, grouped: bool) -> Ends:
        """Those of whole groups where they are asked for and known."""
        return self.by_group if grouped and self.by_group else self


@dataclass(frozen=True, slots=True, kw_only=True)
class OfClass:
    """One class: its rows, how many are wrong, recall with its ends, precision. None of a class
    without rows, or that is never answered."""

    n: int
    errors: int
    recall: float | None
    precision: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """``statistics.figures.calibration_line``; None where it is not known."""

    slope: Interval | None = None
    intercept: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    accuracy: tuple[float, ...]
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure by a metric; None where it is not defined. by: what varies independently."""

    value: float | None
    low: float | None
    high: float | None
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a system reached on n rows; errors: a mean where there are repeats. per_class (k,), in
    the order of the settings' classes. intervals: of figures, by their names. metrics: those that
    were asked for beside the accuracy. error_rate_below: the exact bound where nothing is wrong.
    patterns: the scores on rows that have these sets alone."""

    n: int
    errors: float
    accuracy: Accuracy
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    brier: float
    calibration_error: float
    per_class: tuple[OfClass, ...] = ()
    intervals: Mapping[str, Ends] = field(default_factory=dict)
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    calibration: Calibration | None = None
    error_rate_below: float | None = None
    repeats: Repeats | None = None
    patterns: Mapping[str, Scores] = field(default_factory=dict)

    def figure(self, name: str) -> float | None:
        """The value of a metric; None where it is not defined, or was not asked for."""
        if name == "accuracy":
            return self.accuracy.value
        found = self.metrics.get(name)
        return found.value if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Points that a search tried, and by fit the held-out log-loss of each, or by a ``metric`` its
    ``values``."""

    points: tuple[Mapping[str, Any], ...]
    log_loss: tuple[tuple[float, ...], ...] = ()
    metric: str | None = None
    values: tuple[tuple[float | None, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column, by name or number, its share of the weight, and of several heads the deviation."""

    name: str | int
    share: float
    sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A set's share of a head's weight, how many columns it has, and the heaviest of them."""

    share: float
    width: int
    columns: tuple[Column, ...]
    sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Of two systems' figures; the ends are None where one group is all there is."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """Of two systems' figures by a metric; None where it is not defined."""

    metric: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two systems on the n rows that both answer (``statistics.compare.compare``); difference: by a
    metric other than the accuracy."""

    n: int
    repeats: int
    only_a_right: int
    only_b_right: int
    shared_errors: int
    same_answer: int
    mcnemar_p: float
    accuracy_difference: Difference
    log_loss_difference: Difference
    by: str
    difference: MetricDifference | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """System a, the first, against b; the verdict is ``better``, ``worse`` or ``not
    distinguishable``."""

    __slots__ = ()  # of what stands on two bases one alone can have any

    a: str
    b: str
    adjusted_p: float
    verdict: str

    @property
    def differs(self) -> bool:
        return self.verdict != "not distinguishable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Verdict, Compared):
    """With what is known of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a confidence gate does (``fusion.gate.gate_report``)."""

    first: str
    second: str
    k: int
    share: float
    threshold: float
    first_accuracy: float
    best: str
    best_accuracy: float
    apparent_accuracy: float
    nested_accuracy: float
    against_best: Compared
    curve: tuple[tuple[int, float], ...]
    adjusted_p: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class SystemName:
    """What is fitted, on which sets."""

    __slots__ = ()

    head: str
    on: str
    fusion: str | None
    name: str

    @property
    def late(self) -> bool:
        """Whether it joins answers of several systems."""
        return self.fusion not in (None, "early")


@dataclass(frozen=True, kw_only=True)
class SystemLine(SystemName):
    """One system of a leaderboard, beside its scores. saw: rows whose labels a network that it
    reads has seen. seconds, how: None and empty for guessing, which is not fitted."""

    __slots__ = ()

    seconds: float | None = None
    how: str = ""
    reused: bool = False
    members: tuple[str, ...] = ()
    chosen: tuple[Mapping[str, Any], ...] = ()
    importances: Mapping[str, Weight] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    saw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(SystemLine, Scores):
    """chance_p: that it guesses."""

    tried: Tried | None = None
    chance_p: float | None = None
    gate: Gate | None = None
    valid: Scores | None = None
    test: Scores | None = None

    def held(self, split: str) -> Scores | None:
        """The scores on ``valid`` or ``test``."""
        return self.valid if split == "valid" else self.test


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(SystemName):
    """A system without an answer, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``statistics.selection.selection``."""

    leader: str
    systems: int
    apparent: float
    nested: Interval
    optimism: float
    wins: tuple[tuple[str, float], ...]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Of a learning curve: n training rows."""

    system: str
    n: int
    accuracy: Accuracy
    log_loss: float
