"""What to know of the rows before any score: duplicates, their labels, groups on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import NARROWEST, Rows
from headstock.heads.rows.media import WORDS, Media
from headstock.heads.rows.near import clusters, components, graded
from headstock.heads.rows.near import near as near_clusters
from headstock.store.errors import OptionError

__all__ = [
    "DEDUPE",
    "Duplicates",
    "clean",
    "find_duplicates",
    "group_report",
    "hygiene_report",
]

KINDS = ("exact", "copies", "near")
DEDUPE = ("group", "drop", "keep")
NEAR = 0.98
"""Cosine of standardised vectors from which two rows count as near duplicates: re-encodings of one
sound reach it, different recordings of one word by one speaker do not."""
LARGEST = 60_000
"""Rows above which near duplicates are not searched: the search is quadratic."""


@dataclass(frozen=True)
class Duplicates:
    """Clusters of alike rows over training rows followed by test rows (n + m in all).

    exact, near: {set: list of row-number arrays}; copies: {modality: such a list}; ``skipped`` says
    why a search was left out. large: {set: sizes} of near clusters that no fold could hold: they
    are told, and do not tie their rows.
    """

    exact: dict[str, list[np.ndarray]]
    near: dict[str, list[np.ndarray]]
    skipped: list[str] = field(default_factory=list)
    copies: dict[str, list[np.ndarray]] = field(default_factory=dict)
    large: dict[str, list[int]] = field(default_factory=dict)

    def among(self, kept: np.ndarray) -> Duplicates:
        """Those of the rows that stay, kept (n + m,) bool, by their new numbers."""
        place = np.cumsum(kept) - 1

        def cut(found: Mapping[str, list[np.ndarray]]) -> dict[str, list[np.ndarray]]:
            left = {name: [place[c[kept[c]]] for c in by] for name, by in found.items()}
            return {name: [c for c in by if len(c) > 1] for name, by in left.items()}

        close = cut(self.near)
        large = _large(close, int(kept.sum()))
        return Duplicates(cut(self.exact), close, self.skipped, cut(self.copies), large)

    def keys(self, total: int) -> np.ndarray:
        """(total,) one number for all rows that any cluster, in any set, ties together."""
        ties = [c for by in (self.exact, self.copies) for found in by.values() for c in found]
        ties += [c for found in self.near.values() for c in found if len(c) <= _fold_of(total)]
        if not ties:
            return np.arange(total)
        a = np.concatenate([np.full(len(c) - 1, c[0]) for c in ties])
        return components(a, np.concatenate([c[1:] for c in ties]), total)


def _fold_of(total: int) -> int:
    """Rows of the usual fold, a fifth of all; of few rows ten."""
    return max(10, total // 5)


def find_duplicates(
    rows: Rows, test: Rows | None = None, near: float = NEAR, media: Media | None = None
) -> Duplicates:
    """Rows with the same bytes (by digest); then copies of one picture or sound, by the
    fingerprints in ``media``; then near duplicates by cosine in the sets whose rows have none."""
    exact, close, skipped, unprinted = {}, {}, [], []
    both = [rows] if test is None else [rows, test]
    copied, notes = media.copies() if media else ({}, [])
    for name in rows.X:
        held = [r.having([name]) for r in both]
        there = np.flatnonzero(np.concatenate(held))
        parts = [r.X[name] if h.all() else r.X[name][h] for r, h in zip(both, held)]
        modality = media.modality.get(name, "") if media else ""
        telling = graded(parts) >= NARROWEST
        digests = [r.digests[name] for r in both if name in r.digests]
        # the digest of a table's row is that of its numbers: few of them are equal by chance
        if len(digests) == len(both) and (telling or modality != "columns"):
            whole = np.concatenate(digests)
            known = there[whole[there].any(axis=1)]  # imported rows have none: no two are the same
            names = np.ascontiguousarray(whole[known]).view(f"V{whole.shape[1]}").ravel()
            keys = np.unique(names, return_inverse=True)[1]
            exact[name] = [known[c] for c in clusters(keys.ravel())]
        if media and modality in copied and not media.lacking(name, there):
            continue
        if modality in WORDS and media and media.lacking(name, there):
            unprinted.append(name)
        if name in rows.adapted:
            skipped.append(f"{name}: near duplicates are not searched in vectors that know labels")
        elif len(there) > LARGEST:
            skipped.append(f"{name}: near duplicates are not searched above {LARGEST} rows")
        elif rows.X[name].shape[1] < NARROWEST:
            skipped.append(f"{name}: near duplicates are not searched below {NARROWEST} columns")
        elif not telling:
            skipped.append(
                f"{name}: near duplicates are not searched where fewer than {NARROWEST} columns "
                "take many values"
            )
        else:
            close[name] = [there[c] for c in near_clusters(parts, near)]
    skipped += notes
    if unprinted:
        skipped.append(
            f"{', '.join(unprinted)}: no fingerprints: copies saved again are looked for among "
            "vectors only; run extract again"
        )
    large = _large(close, sum(map(len, both)))
    return Duplicates(exact, close, skipped, copied, large)


def _large(close: Mapping[str, list[np.ndarray]], total: int) -> dict[str, list[int]]:
    """Sizes of the near clusters that no fold of so many rows could hold."""
    most = _fold_of(total)
    sizes = {name: [len(c) for c in found if len(c) > most] for name, found in close.items()}
    return {name: found for name, found in sizes.items() if found}


def clean(rows: Rows, test: Rows | None, found: Duplicates, how: str) -> tuple[Rows, int]:
    """The training rows after ``how``, and how many were dropped.

    ``group``: alike rows share a group, so that folds never part them. ``drop``: of alike training
    rows the first stays, and none that a test row is like. ``keep``: as they are.
    """
    if how not in DEDUPE:
        raise OptionError("dedupe", f"{how!r} is no setting", f"one of {', '.join(DEDUPE)}")
    n = len(rows)
    keys = found.keys(n + (0 if test is None else len(test)))
    if how == "keep" or len(np.unique(keys)) == len(keys):
        return rows, 0
    if how == "drop":
        first = np.zeros(n, dtype=bool)
        first[np.unique(keys[:n], return_index=True)[1]] = True
        stay = np.flatnonzero(first & ~np.isin(keys[:n], keys[n:]))
        return rows.take(stay), n - len(stay)
    own = keys[:n]
    if rows.groups is not None:  # one graph of rows, their clusters and their groups
        column = np.unique(rows.groups.astype(str), return_inverse=True)[1]
        alike = np.unique(own, return_inverse=True)[1] + n
        group = column + alike.max() + 1
        each = np.arange(n)
        own = components(
            np.concatenate([each, each]), np.concatenate([alike, group]), int(group.max()) + 1
        )[:n]
    return replace(rows, groups=np.array([f"alike {g}" for g in own], dtype=object)), 0


def hygiene_report(
    rows: Rows,
    test: Rows | None,
    found: Duplicates,
    plan: FoldPlan,
    how: str,
    dropped: int,
) -> dict[str, Any]:
    """The findings as plain data: for each set and kind how many clusters and rows, how many have
    rows of different labels, of different folds, or on both sides of the test split; the first
    clusters by id. ``rows`` and ``test`` are those that ``found`` was made of.
    """
    n = len(rows)
    ids = rows.ids if test is None else np.concatenate([rows.ids, test.ids])
    labels = rows.y if test is None else np.concatenate([rows.y, test.y])
    fold_of = dict(zip(plan.ids, plan.codes[0]))
    out: dict[str, Any] = {"dedupe": how, "dropped": dropped, "near_cosine": NEAR}
    kinds = [("exact", found.exact), ("near", found.near)]
    kinds += [("copies", found.copies)] if found.copies else []
    for kind, by in kinds:
        out[kind] = {}
        for name, alike in by.items():
            folds = [{fold_of[str(ids[r])] for r in c if str(ids[r]) in fold_of} for c in alike]
            conflict = [c for c in alike if len(np.unique(labels[c])) > 1]
            out[kind][name] = {
                "clusters": len(alike),
                "rows": sum(map(len, alike)),
                "other_label": len(conflict),
                "across_folds": sum(len(f) > 1 for f in folds),
                "across_splits": sum(bool((c < n).any() and (c >= n).any()) for c in alike),
                "first": [[str(i) for i in ids[c[:4]]] for c in [*conflict, *alike][:5]],
            }
    if found.large:
        out["large"] = found.large
    if found.skipped:
        out["skipped"] = found.skipped
    if test is not None and test.split is not None:
        out["held_out"] = sorted(set(test.split.tolist()))
    return out


def group_report(
    items: Any, rows: Rows, test: Rows | None, plan: FoldPlan, group: str | None
) -> dict[str, Any] | None:
    """Of the groups in the column that folds were asked to respect, or else in the manifest's own
    column ``group``: how many have rows in several folds, how many on both sides of the test split,
    and how many of them duplicates tie to others, so that they share a fold. None where there is
    no such column.
    """
    column = group or "group"
    values = items.column(column)
    if not any(values):
        return None
    of = dict(zip(map(str, items.id), map(str, values)))
    mine = np.array([of[str(i)] for i in plan.ids])
    groups = sorted({g for g in mine if g})
    many = [
        g for g in groups if any(len(set(codes[mine == g].tolist())) > 1 for codes in plan.codes)
    ]
    other = set() if test is None else {of[str(i)] for i in test.ids}
    both = [g for g in groups if g in other]
    out: dict[str, Any] = {"column": column, "asked": group is not None, "groups": len(groups)}
    out |= {"across_folds": len(many), "across_splits": len(both)}
    out |= {"first": many[:5], "first_splits": both[:5]}
    if group is not None and rows.groups is not None:
        own = np.array([of[str(i)] for i in rows.ids])
        ties: dict[str, set[str]] = {}
        for name, key in zip(own, map(str, rows.groups)):
            if name:
                ties.setdefault(key, set()).add(name)
        out["tied"] = sum(len(names) for names in ties.values() if len(names) > 1)
    return out
