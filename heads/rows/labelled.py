"""From a store to the labelled rows that heads learn from."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.specs import CLASSES, NUMBER
from headstock.store.errors import HeadError, IncompleteSet, OptionError, near
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.splits import HELD_OUT, splits_of
from headstock.store.manifest.target import found_target

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = [
    "ALL", "MISSING", "NARROWEST", "Rows", "Views", "columns_of", "parts_of", "read_rows",
    "tells_copies",
]  # fmt: skip

MISSING = ("refuse", "exclude", "patterns")
NARROWEST = 10
"""Columns below which like vectors are no copies: with few columns, vectors of one class point the
same way, and rows of a table have the same values."""
ALL = -1
"""In place of a fold: the network of all rows, for the refit."""


def parts_of(on: str) -> tuple[str, ...]:
    """The sets of ``image+audio``, in order."""
    return tuple(part.strip() for part in on.split("+"))


@dataclass(frozen=True)
class Views:
    """A set on n rows whose network was adapted on labels. fold (n,): which fold's network did not
    see the row. X: f matrices (n, d), that of network k at k; none where there are no folds."""

    fold: np.ndarray
    X: tuple[np.ndarray, ...] = ()

    def take(self, which: np.ndarray) -> Views:
        """The rows at ``which``, by number."""
        return Views(self.fold[which], tuple(x[which] for x in self.X))


@dataclass(frozen=True)
class Rows:
    """n rows with their matrices.

    X: {set: (n, d) float32}; codes: (n,) into ``classes`` (k,); numbers: (n,) float64 where that is
    the target (``codes`` are then 0, of one class), else None; groups: (n,) text or None; digests:
    {set: (n, 32) uint8} of the bytes a vector came from. present: {set: (n,) bool} where rows may
    lack a vector, None where none does; an absent vector is NaN, so that whoever reads it by
    mistake shows. names: {set: what its d columns are called, or None}. adapted: the sets whose
    network was adapted on labels; X then holds the vectors of the network of all rows. split: (n,)
    ``valid`` or ``test`` for rows that are held out; None is ``test`` for all of them.
    """

    ids: np.ndarray
    X: Mapping[str, np.ndarray]
    codes: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None = None
    digests: Mapping[str, np.ndarray] = field(default_factory=dict)
    present: Mapping[str, np.ndarray] | None = None
    names: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    adapted: Mapping[str, Views] = field(default_factory=dict)
    split: np.ndarray | None = None
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def target(self) -> str:
        """``classes`` or ``number``."""
        return CLASSES if self.numbers is None else NUMBER

    @property
    def y(self) -> np.ndarray:
        """(n,) what heads learn: codes, or numbers."""
        return self.codes if self.numbers is None else self.numbers

    def take(self, which: np.ndarray) -> Rows:
        """The rows at ``which``, by number."""
        return replace(
            self,
            ids=self.ids[which],
            X={name: X[which] for name, X in self.X.items()},
            codes=self.codes[which],
            groups=None if self.groups is None else self.groups[which],
            digests={name: digest[which] for name, digest in self.digests.items()},
            present=None
            if self.present is None
            else {name: there[which] for name, there in self.present.items()},
            adapted={name: views.take(which) for name, views in self.adapted.items()},
            split=None if self.split is None else self.split[which],
            numbers=None if self.numbers is None else self.numbers[which],
        )

    def held_in(self, split: str) -> np.ndarray:
        """The numbers of the held-out rows of one split, ``valid`` or ``test``."""
        if self.split is None:
            return np.arange(len(self) if split == "test" else 0)
        return np.flatnonzero(self.split == split)

    def having(self, sets: Sequence[str]) -> np.ndarray:
        """(n,) bool: the rows with a vector in each of ``sets``."""
        if self.present is None:
            return np.ones(len(self), dtype=bool)
        return np.logical_and.reduce([self.present[name] for name in sets])

    def only(self, sets: Sequence[str]) -> Rows:
        """The rows that have each of ``sets``, with these sets alone: nothing is absent."""
        which = np.flatnonzero(self.having(sets))
        whole = self if len(which) == len(self) else self.take(which)
        return replace(
            whole,
            X={name: whole.X[name] for name in sets},
            digests={name: d for name, d in whole.digests.items() if name in sets},
            present=None,
        )

    def patterns(self) -> np.ndarray:
        """(n,) text: the sets each row has, as ``image+audio``."""
        names = list(self.X)
        there = np.stack([self.having([name]) for name in names], axis=1)
        kinds, which = np.unique(there, axis=0, return_inverse=True)
        texts = ["+".join(n for n, has in zip(names, kind) if has) for kind in kinds]
        return np.array(texts, dtype=object)[which.ravel()]

    def viewed(self, on: str) -> bool:
        """Whether a set of ``on`` has other vectors in each fold."""
        return any(self.adapted[p].X for p in parts_of(on) if p in self.adapted)

    def matrix(self, on: str, fold: int | None = None) -> tuple[np.ndarray, dict[str, slice]]:
        """(n, sum d) float32 of the sets in ``on`` side by side, and each set's columns.

        A set that was adapted with folds has other vectors in each: those of the network that did
        not see ``fold``, or of the network of ``ALL`` rows. Raises HeadError for one without a
        fold, for whoever does not ask would score what the network remembers.
        """
        parts = parts_of(on)
        if fold is None and self.viewed(on):
            raise HeadError(
                f"on {on}",
                "has a network a fold, and this looks at all folds together",
                "leave this set out of it",
            )
        X = [self._of_fold(part, fold) for part in parts]
        spans = columns_of(parts, {p: x.shape[1] for p, x in zip(parts, X)})
        return X[0] if len(X) == 1 else np.hstack(X), spans

    def _of_fold(self, name: str, fold: int | None) -> np.ndarray:
        views = self.adapted.get(name)
        if views is None or not views.X or fold is None or fold == ALL:
            return self.X[name]
        return views.X[fold]


def tells_copies(column: Any) -> bool:
    """Whether rows of a feature set with equal digests are copies: the digest of a table's row is
    that of its values."""
    return column.recipe.modality != "columns" or column.dim >= NARROWEST


def columns_of(parts: Sequence[str], widths: Mapping[str, int]) -> dict[str, slice]:
    """{set: slice} of sets that stand side by side."""
    spans, start = {}, 0
    for part in parts:
        spans[part] = slice(start, start + widths[part])
        start += widths[part]
    return spans


def read_rows(
    store: StoreReader,
    on: Sequence[str],
    *,
    group: str | None = None,
    missing: str = "refuse",
    rare: str = "refuse",
    target: str | None = None,
) -> tuple[Rows, Rows | None, dict[str, Any]]:
    """The labelled training rows, the labelled rows that are held out (of the splits ``valid`` and
    ``test``, see ``Rows.held_in``) or None, and an account.

    Labels that differ in Unicode form alone are one class, and so are groups.

    missing: what to do with labelled rows that lack a vector in one of the sets: ``refuse`` (raises
    IncompleteSet), ``exclude`` (they are left out and counted in the account) or ``patterns`` (they
    stay, with NaN for what is absent, if they have a vector in any set; the others are left out).
    rare: with ``refuse`` a test row of a class that no training row has is a HeadError, else it is
    left out, and counted as ``unknown`` in the account. target: ``classes`` or ``number``; None:
    found from the labels (``found_target``), and what was found is said in the account.
    Raises HeadError when no row has a label, OptionError for a column or setting that is not there.
    """
    if missing not in MISSING:
        raise OptionError("missing", f"{missing!r} is no setting", f"one of {', '.join(MISSING)}")
    for name in on:
        if len(set(parts_of(name))) < len(parts_of(name)):
            raise OptionError("on", f"{name} names a set twice", "name each once")
    sets = list(dict.fromkeys(part for name in on for part in parts_of(name)))
    items = store.items
    labelled = np.array([label != "" for label in items.label], dtype=bool)
    if not labelled.any():
        raise HeadError(
            store.path, "no row has a label", "add labels to the manifest, or store label"
        )
    for name in sets:
        store.feature_set(name)  # MissingSet before anything else
    there = {name: np.asarray(store.complete([name]), dtype=bool) for name in sets}
    join = np.logical_or if missing == "patterns" else np.logical_and
    complete = join.reduce(list(there.values()))
    lacking = int((labelled & ~complete).sum())
    if lacking and missing == "refuse":
        raise IncompleteSet(
            store.path,
            f"{lacking} of {int(labelled.sum())} labelled rows have no vector in "
            f"{' or '.join(sets)} (first: {items.id[np.flatnonzero(labelled & ~complete)[0]]})",
            "run extract again, or leave them out by --missing exclude, or answer them by what "
            "they have by --missing patterns",
        )
    splits = splits_of(items.split, items.id, store.path)
    held = np.isin(splits, HELD_OUT)
    train = np.flatnonzero(labelled & complete & ~held)
    test = np.flatnonzero(labelled & complete & held)
    joined, notes = join_forms(items.label.tolist())
    labels = np.array(joined, dtype=str)
    found = found_target(labels[labelled], target)
    numbers = None
    if found.numbers is not None:
        numbers = np.full(len(labels), np.nan)
        numbers[labelled], labels, notes = found.numbers, np.full(len(labels), NUMBER), []
    classes = np.unique(labels[train])
    bare = labels[labelled & ~complete & ~held]
    vectorless = Counter(bare[~np.isin(bare, classes)].tolist())
    alien = sorted(set(labels[test]) - set(classes))
    unknown: dict[str, int] = {}
    if alien and rare != "refuse":
        unknown = {name: int((labels[test] == name).sum()) for name in alien}
        test = test[~np.isin(labels[test], alien)]
    elif alien:
        raise HeadError(
            store.path,
            f"held-out rows of class {', '.join(alien[:5])} that no training row has",
            "check split",
        )
    groups = None
    if group is not None:
        try:
            groups = items.column(group)
        except KeyError as error:
            raise OptionError(
                "group",
                f"there is no column {group}",
                f"{near(group, error.args[0].split(', '))}one of {error.args[0]}",
            ) from error
    account: dict[str, Any] = {
        "rows": len(items),
        "train": len(train),
        "valid": int((splits[test] == "valid").sum()),
        "test": int((splits[test] == "test").sum()),
        "unlabelled": int((~labelled).sum()),
        "excluded_incomplete": lacking,
        "vectorless": dict(vectorless),
        "sets": sets,
    }
    if notes:
        account["joined_labels"] = notes
    if found.line:
        account["target"] = found.line
    unseen = {name: _unseen(store, name, labelled) for name in sets}
    account["unseen"] = {name: count for name, count in unseen.items() if count}
    if unknown:
        account["unknown"] = unknown
    if missing == "patterns":
        account["missing"] = {name: int((labelled & ~own).sum()) for name, own in there.items()}

    def take(which: np.ndarray) -> Rows:
        has = {name: own[which] for name, own in there.items()}
        return Rows(
            ids=items.id[which],
            X={name: _matrix(store, name, which, has[name]) for name in sets},
            codes=np.searchsorted(classes, labels[which]),
            classes=classes,
            groups=None if groups is None else _own_groups(groups[which], items.id[which]),
            digests={
                name: np.asarray(store.feature_set(name).digest)[which]
                for name in sets
                if tells_copies(store.feature_set(name))
            },
            present=None if all(own.all() for own in has.values()) else has,
            names={name: store.feature_set(name).feature_names for name in sets},
            split=splits[which],
            numbers=None if numbers is None else numbers[which],
        )

    if not len(train):
        raise HeadError(
            store.path,
            f"every labelled row is in {' or '.join(sorted(set(splits[test]))) or 'no split'}",
            "leave rows to learn from",
        )
    nowhere = [name for name in sets if not there[name][train].any()]
    if nowhere:
        raise IncompleteSet(
            store.path,
            f"no labelled row has a vector in {' or '.join(nowhere)}",
            "extract them, or name other sets",
        )
    return take(train), take(test) if len(test) else None, account


def _unseen(store: StoreReader, name: str, labelled: np.ndarray) -> int:
    """How many labelled rows have a vector whose file the last extraction did not see."""
    marked = store.unseen(name)
    return sum(identity in marked for identity in store.items.id[labelled]) if marked else 0


def _matrix(store: StoreReader, name: str, which: np.ndarray, has: np.ndarray) -> np.ndarray:
    X = np.ascontiguousarray(store.feature_set(name).x(which[has]), dtype=np.float32)
    if not np.isfinite(X).all():
        bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
        raise HeadError(
            f"set {name}",
            f"{len(bad)} rows hold values that are not finite "
            f"(first: {store.items.id[which[has][bad[0]]]})",
            "extract them again",
        )
    if has.all():
        return X
    whole = np.full((len(which), X.shape[1]), np.nan, dtype=np.float32)
    whole[has] = X
    return whole


def _own_groups(groups: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A row without a group is a group of its own."""
    forms = [unicodedata.normalize("NFC", str(group)) for group in groups]
    return np.array([g if g else f"\0{i}" for g, i in zip(forms, ids)], dtype=object)
