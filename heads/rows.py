"""From a store to the labelled rows that heads learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstock.store.errors import HeadError, IncompleteSet, OptionError

__all__ = ["Rows", "columns_of", "parts_of", "read_rows"]


def parts_of(on: str) -> tuple[str, ...]:
    """The sets of ``image+audio``, in order."""
    return tuple(part.strip() for part in on.split("+"))


@dataclass(frozen=True)
class Rows:
    """n rows with their matrices.

    X: {set: (n, d) float32}; codes: (n,) into ``classes`` (k,), -1 where the row has no label;
    groups: (n,) text or None; extra: what else is known of the rows, for hygiene.
    """

    ids: np.ndarray
    X: Mapping[str, np.ndarray]
    codes: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None = None
    digests: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: np.ndarray) -> Rows:
        """The rows at ``which``, by number."""
        return Rows(
            ids=self.ids[which],
            X={name: X[which] for name, X in self.X.items()},
            codes=self.codes[which],
            classes=self.classes,
            groups=None if self.groups is None else self.groups[which],
            digests={name: digest[which] for name, digest in self.digests.items()},
        )

    def matrix(self, on: str) -> tuple[np.ndarray, dict[str, slice]]:
        """(n, sum d) float32 of the sets in ``on`` side by side, and each set's columns."""
        parts = parts_of(on)
        spans = columns_of(parts, {p: self.X[p].shape[1] for p in parts})
        if len(parts) == 1:
            return self.X[parts[0]], spans
        return np.hstack([self.X[p] for p in parts]), spans


def columns_of(parts: Sequence[str], widths: Mapping[str, int]) -> dict[str, slice]:
    """{set: slice} of sets that stand side by side."""
    spans, start = {}, 0
    for part in parts:
        spans[part] = slice(start, start + widths[part])
        start += widths[part]
    return spans


def read_rows(
    store: Any, on: Sequence[str], *, group: str | None = None, missing: str = "refuse"
) -> tuple[Rows, Rows | None, dict[str, Any]]:
    """The labelled training rows, the labelled test rows (split ``test``) or None, and an account.

    missing: what to do with labelled rows that lack a vector in one of the sets: ``refuse`` (raises
    IncompleteSet) or ``exclude`` (they are left out and counted in the account).
    Raises HeadError when no row has a label, OptionError for a column or setting that is not there.
    """
    if missing not in ("refuse", "exclude"):
        raise OptionError("missing", f"{missing!r} is no setting", "use refuse or exclude")
    sets = list(dict.fromkeys(part for name in on for part in parts_of(name)))
    items = store.items
    labelled = np.array([label != "" for label in items.label], dtype=bool)
    if not labelled.any():
        raise HeadError(
            store.path, "no row has a label", "add labels to the manifest, or store label"
        )
    for name in sets:
        store.feature_set(name)  # MissingSet before anything else
    complete = np.asarray(store.complete(sets), dtype=bool)
    lacking = int((labelled & ~complete).sum())
    if lacking and missing == "refuse":
        raise IncompleteSet(
            store.path,
            f"{lacking} of {int(labelled.sum())} labelled rows have no vector in "
            f"{' or '.join(sets)} (first: {items.id[np.flatnonzero(labelled & ~complete)[0]]})",
            "run extract again, or leave them out with missing=exclude",
        )
    is_test = np.array([str(s).strip().lower() == "test" for s in items.split], dtype=bool)
    train = np.flatnonzero(labelled & complete & ~is_test)
    test = np.flatnonzero(labelled & complete & is_test)
    classes = np.unique(items.label[train].astype(str))
    alien = sorted(set(items.label[test].astype(str)) - set(classes))
    if alien:
        raise HeadError(
            store.path,
            f"test rows of class {', '.join(alien[:5])} that no training row has",
            "check split",
        )
    groups = None
    if group is not None:
        try:
            groups = items.column(group)
        except KeyError as error:
            raise OptionError(
                "group", f"there is no column {group}", f"one of {error.args[0]}"
            ) from error
    account = {
        "rows": len(items),
        "train": len(train),
        "test": len(test),
        "unlabelled": int((~labelled).sum()),
        "excluded_incomplete": lacking,
        "sets": sets,
    }

    def take(which: np.ndarray) -> Rows:
        return Rows(
            ids=items.id[which],
            X={name: _matrix(store, name, which) for name in sets},
            codes=np.searchsorted(classes, items.label[which].astype(str)),
            classes=classes,
            groups=None if groups is None else _own_groups(groups[which], items.id[which]),
            digests={name: np.asarray(store.feature_set(name).digest)[which] for name in sets},
        )

    if not len(train):
        raise HeadError(
            store.path, "every labelled row is in the test split", "leave rows to learn from"
        )
    return take(train), take(test) if len(test) else None, account


def _matrix(store: Any, name: str, which: np.ndarray) -> np.ndarray:
    X = np.ascontiguousarray(store.feature_set(name).x(which), dtype=np.float32)
    if not np.isfinite(X).all():
        bad = np.flatnonzero(~np.isfinite(X).all(axis=1))
        raise HeadError(
            f"set {name}",
            f"{len(bad)} rows hold values that are not finite "
            f"(first: {store.items.id[which[bad[0]]]})",
            "extract them again",
        )
    return X


def _own_groups(groups: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A row without a group is a group of its own."""
    return np.array([g if g else f"\0{i}" for g, i in zip(groups, ids)], dtype=object)
