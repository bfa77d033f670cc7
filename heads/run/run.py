"""What an evaluation gave: one object that every view reads and that ``metrics.json`` holds.

The names are those of the file. A part that a run does not have is None or empty, and is left out
of the file. Nothing here computes: what stands in a run was computed when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headstock.heads.run.rows import Account, Fold, Hygiene, Plan
from headstock.heads.run.scores import Comparison, Failed, Line, Point, Selection

__all__ = [
    "Finding", "Reused", "Run", "SetRecipe", "Settings",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRecipe:
    modality: str
    fingerprint: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """Where answers are kept, how many were there, and how many were added."""

    folder: str
    found: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for, and of what. options: by head or fusion. metric: that decides, and those
    that are shown; metric_files: what each that comes from a file is known by. scored: ``folds``,
    or ``valid`` where that split is the one fold. notes: what holds for all systems. dates: columns
    of dates."""

    heads: tuple[str, ...]
    on: tuple[str, ...]
    fusions: tuple[str, ...]
    seed: int
    options: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    nested: bool | None = None
    target: str = "classes"
    metric: tuple[str, ...] = ("accuracy",)
    metric_files: Mapping[str, str] = field(default_factory=dict)
    scored: str = "folds"
    by_blocks: bool = False
    doubts: bool = False
    missing: str = "refuse"
    dedupe: str = "group"
    rare: str = "drop"
    notes: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    rows: Account | None = None
    reuse: Reused | None = None
    store: str | None = None
    store_uuid: str | None = None
    when: str | None = None
    version: str | None = None

    @property
    def decides(self) -> str:
        """The metric that the leaderboard is ordered by."""
        return next(iter(self.metric), "accuracy")

    @property
    def beside(self) -> list[str]:
        """Metrics that are shown beside the one that decides and the accuracy."""
        return [name for name in self.metric if name not in (self.decides, "accuracy")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What an automatic check found, and what to do (docs/checks.md)."""

    code: str
    title: str
    found: str
    do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """leaderboard: the best by the metric that decides first, never empty. comparisons: of the
    first system with each other one. fold_table: by repeat and fold. files: sha256 of the run
    folder's other files."""

    leaderboard: tuple[Line, ...]
    folds: Plan
    settings: Settings
    recipes: Mapping[str, SetRecipe] = field(default_factory=dict)
    hygiene: Hygiene = field(default_factory=Hygiene)
    comparisons: tuple[Comparison, ...] = ()
    selection: Selection | None = None
    baseline: Line | None = None
    failed: tuple[Failed, ...] = ()
    fold_table: tuple[tuple[Fold, ...], ...] = ()
    learning_curve: tuple[Point, ...] = ()
    checks: tuple[Finding, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
