"""The rows of a run: folds, what was left out, and what to know before any score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "Account", "Alike", "Doubt", "Fold", "Foldless", "Groups", "Hygiene", "Leak", "Looks",
    "Neighbours", "Plan", "Rare",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A fold plan without its rows."""

    kind: str
    group: str | None
    n: int
    folds: int
    repeats: int
    seed: int
    version: int | None = None
    digest: str | None = None

    @property
    def grouped(self) -> bool:
        """Whether folds keep the groups of a column together."""
        return self.group not in (None, "duplicates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """How many rows it holds out, classes (k,) of each class, and of how many groups."""

    n: int
    classes: tuple[int, ...]
    groups: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foldless:
    """Rows whose cell in the column of ``given:COLUMN`` is empty."""

    column: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rare:
    """Classes left out by ``rule``, with their rows, their groups, and held-out rows of theirs."""

    rule: str
    classes: Mapping[str, int]
    units: Mapping[str, int]
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The rows of a store: used, held out, left out. vectorless: classes that are no classes here,
    for none of their training rows has a vector, with those rows. unseen, missing: by set. target:
    why the labels are taken for numbers, or for classes."""

    rows: int
    train: int
    valid: int
    test: int
    unlabelled: int
    excluded_incomplete: int
    sets: tuple[str, ...]
    vectorless: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] | None = None
    target: str = ""
    joined_labels: tuple[str, ...] = ()
    dropped: int = 0
    foldless: Foldless | None = None
    rare: Rare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Clusters of alike rows in one set, their rows, how many of them disagree in label or lie in
    several folds or splits, and the first of them by ids."""

    clusters: int
    rows: int
    other_label: int
    across_folds: int
    across_splits: int
    first: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of a column, and how many lie in several folds or on both sides of a split; asked:
    whether folds were to respect them; tied: how many of them duplicates tie to others."""

    column: str
    asked: bool
    groups: int
    across_folds: int
    across_splits: int
    first: tuple[str, ...] = ()
    first_splits: tuple[str, ...] = ()
    tied: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How often the test split was looked at (``evaluation.ledger``): this look's ``id`` and how
    many systems it has ``shown``, the ``looks`` and ``systems`` so far, the folders of the ``runs``
    before. unwritten: why it could not be put down."""

    file: str
    id: str
    rows: int
    shown: int
    looks: int
    systems: int
    runs: tuple[str, ...]
    unwritten: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A column that tells the label alone."""

    set: str
    feature: str
    accuracy: float
    guessing: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Of so many rows, the shares whose nearest and second nearest row of another fold has their
    label, and the p of the sign test between the two."""

    rows: int
    nearest: float
    second: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A row whose label the answers contradict."""

    id: str
    label: str
    likely: str
    quality: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hygiene:
    """What to know of the rows before any score. exact, near, copies: by set (copies: by modality);
    None where nothing was looked for. large: sizes of near clusters that no fold holds. seen: rows
    whose labels a set's network saw."""

    dedupe: str = "group"
    dropped: int = 0
    near_cosine: float | None = None
    exact: Mapping[str, Alike] | None = None
    near: Mapping[str, Alike] | None = None
    copies: Mapping[str, Alike] | None = None
    large: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    groups: Groups | None = None
    looks: Looks | None = None
    seen: Mapping[str, int] = field(default_factory=dict)
    leaks: tuple[Leak, ...] = ()
    neighbours: Mapping[str, Neighbours] = field(default_factory=dict)
    label_doubts: tuple[Doubt, ...] = ()
