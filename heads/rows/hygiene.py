"""What to know of the rows before any score: duplicates, their labels, groups on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headstock.heads.kinds.scaling import inverse, standardise
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import NARROWEST, Rows
from headstock.heads.rows.leaks import leak_lines
from headstock.store.errors import HeadError, OptionError, one_line

__all__ = [
    "DEDUPE",
    "Duplicates",
    "clean",
    "find_duplicates",
    "group_report",
    "hygiene_lines",
    "hygiene_report",
    "label_doubts",
]

DEDUPE = ("group", "drop", "keep")
NEAR = 0.98
"""Cosine of standardised vectors from which two rows count as near duplicates: re-encodings of one
sound reach it, different recordings of one word by one speaker do not."""
PAIRS = 1 << 22
"""Numbers in the rows whose cosines are measured at a time."""
LARGEST = 60_000
"""Rows above which near duplicates are not searched: the search is quadratic."""


@dataclass(frozen=True)
class Duplicates:
    """Clusters of alike rows over training rows followed by test rows (n + m in all).

    exact, near: {set: list of row-number arrays}; ``skipped`` says why a search was left out.
    """

    exact: dict[str, list[np.ndarray]]
    near: dict[str, list[np.ndarray]]
    skipped: list[str] = field(default_factory=list)

    def keys(self, total: int) -> np.ndarray:
        """(total,) one number for all rows that any cluster, in any set, ties together."""
        clusters = [c for by in (self.exact, self.near) for found in by.values() for c in found]
        if not clusters:
            return np.arange(total)
        a = np.concatenate([np.full(len(c) - 1, c[0]) for c in clusters])
        return _components(a, np.concatenate([c[1:] for c in clusters]), total)


def _components(a: np.ndarray, b: np.ndarray, total: int) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(a), dtype=bool), (a, b)), shape=(total, total))
    return connected_components(graph, directed=False)[1]


def _clusters(keys: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each key that more than one row has."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return [np.sort(part) for part in np.split(order, cuts) if len(part) > 1]


def find_duplicates(rows: Rows, test: Rows | None = None, near: float = NEAR) -> Duplicates:
    """Rows with the same bytes (by digest), and near duplicates by cosine, set by set."""
    exact, close, skipped = {}, {}, []
    both = [rows] if test is None else [rows, test]
    for name in rows.X:
        there = np.flatnonzero(np.concatenate([r.having([name]) for r in both]))
        digests = [r.digests[name] for r in both if name in r.digests]
        if len(digests) == len(both):
            whole = np.concatenate(digests)
            known = there[whole[there].any(axis=1)]  # imported rows have none: no two are the same
            names = np.ascontiguousarray(whole[known]).view(f"V{whole.shape[1]}").ravel()
            keys = np.unique(names, return_inverse=True)[1]
            exact[name] = [known[c] for c in _clusters(keys.ravel())]
        if name in rows.adapted:
            skipped.append(f"{name}: near duplicates are not searched in vectors that know labels")
            continue
        total = len(there)
        if total > LARGEST:
            skipped.append(f"{name}: near duplicates are not searched above {LARGEST} rows")
            continue
        if rows.X[name].shape[1] < NARROWEST:
            skipped.append(f"{name}: near duplicates are not searched below {NARROWEST} columns")
            continue
        held = [r.having([name]) for r in both]
        parts = [r.X[name] if h.all() else r.X[name][h] for r, h in zip(both, held)]
        close[name] = [there[c] for c in _near(parts, near)]
    return Duplicates(exact, close, skipped)


def _near(parts: Sequence[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Clusters of rows of the matrices (n, d), one under the other, tied by cosine >= threshold of
    standardised columns. What is as large as they are is never copied.

    Wide rows are screened by a random projection to 128 columns: its cosines err by at most
    (1 - c^2) / sqrt(128) in standard deviation, so 0.03 below the threshold misses none in effect;
    the pairs that pass are measured exactly.
    """
    n, d = sum(map(len, parts)), parts[0].shape[1]
    if not n:
        return []
    mean, scale = _moments(parts)
    wide = d > 256
    slack = 0.03 if wide else 0.0
    screen = np.empty((n, 128 if wide else d), dtype=np.float32)
    if wide:
        turn = np.random.default_rng(0).normal(size=(d, 128)).astype(np.float32)
        turn = (turn * inverse(scale)[:, None]).astype(np.float32)
        centre = mean.astype(np.float32)
        for start, X in _blocks(parts):
            np.matmul(X - centre, turn, out=screen[start : start + len(X)])
    else:
        for start, X in _blocks(parts):
            screen[start : start + len(X)] = standardise(X, mean, scale)
    screen /= np.maximum(np.linalg.norm(screen, axis=1, keepdims=True), 1e-12)
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    step = max(1, PAIRS // d)  # many alike rows make many pairs: bounded memory
    for start in range(0, n, 1024):
        stop = min(start + 1024, n)
        similarity = screen[start:stop] @ screen[:stop].T
        i, j = np.nonzero(similarity >= threshold - slack)
        i += start
        i, j = i[j < i], j[j < i]
        if wide:
            hits = [
                _cosines(parts, mean, scale, i[s : s + step], j[s : s + step]) >= threshold
                for s in range(0, len(i), step)
            ]
            hit = np.concatenate(hits) if hits else np.zeros(0, dtype=bool)
            i, j = i[hit], j[hit]
        left.append(i)
        right.append(j)
    if not sum(map(len, left)):
        return []
    return _clusters(_components(np.concatenate(left), np.concatenate(right), n))


def _blocks(parts: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Views of rows that stay in cache, and the number of each one's first."""
    first = 0
    for X in parts:
        step = max(1, PAIRS // 16 // X.shape[1])
        for start in range(0, len(X), step):
            yield first + start, X[start : start + step]
        first += len(X)


def _moments(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``scaling.moments`` in one pass: of what is left when the median of the first rows is taken
    off, which is small enough for float32 within a block, and exactly 0 in a constant column."""
    n = sum(map(len, parts))
    first = next(X for X in parts if len(X))[:256]
    about = np.median(first.astype(np.float64), axis=0).astype(np.float32)
    one, two = np.zeros(len(about)), np.zeros(len(about))
    for _, X in _blocks(parts):
        rest = X - about
        one += rest.sum(axis=0)
        two += np.einsum("ij,ij->j", rest, rest)
    return about + one / n, np.sqrt(np.maximum(two / n - (one / n) ** 2, 0))


def _cosines(
    parts: Sequence[np.ndarray], mean: np.ndarray, scale: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """(p,) of the standardised rows ``a`` and ``b``, by number."""
    rows, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    begins = np.cumsum([0, *map(len, parts)])
    X = np.concatenate(
        [
            X[rows[(first <= rows) & (rows < first + len(X))] - first]
            for X, first in zip(parts, begins)
        ]
    )
    Z = standardise(X, mean, scale)
    Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    return np.einsum("ij,ij->i", Z[index[: len(a)]], Z[index[len(a) :]])


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
        own = _components(
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
    codes = rows.codes if test is None else np.concatenate([rows.codes, test.codes])
    fold_of = dict(zip(plan.ids, plan.codes[0]))
    out: dict[str, Any] = {"dedupe": how, "dropped": dropped, "near_cosine": NEAR}
    for kind, by in (("exact", found.exact), ("near", found.near)):
        out[kind] = {}
        for name, clusters in by.items():
            folds = [{fold_of[str(ids[r])] for r in c if str(ids[r]) in fold_of} for c in clusters]
            conflict = [c for c in clusters if len(np.unique(codes[c])) > 1]
            out[kind][name] = {
                "clusters": len(clusters),
                "rows": sum(map(len, clusters)),
                "other_label": len(conflict),
                "across_folds": sum(len(f) > 1 for f in folds),
                "across_splits": sum(bool((c < n).any() and (c >= n).any()) for c in clusters),
                "first": [[str(i) for i in ids[c[:4]]] for c in [*conflict, *clusters][:5]],
            }
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


def hygiene_lines(report: dict[str, Any]) -> list[str]:
    """What a reader should know before the scores, one finding a line; nothing to say, no line."""
    lines = leak_lines(report.get("leaks", []))
    lines += [
        f"{name}: its network saw the labels of {count} rows that are scored here: "
        "no score that reads it is honest"
        for name, count in report.get("seen", {}).items()
    ]
    if looks := report.get("looks"):
        lines.append(_looks_line(looks))
    apart = report.get("held_out") or ["test"]
    held = f"the {' or '.join(apart)} split"
    fate = {"group": "kept in one fold", "drop": "all but one left out", "keep": "left as they are"}
    for kind, word in (("exact", "the same bytes"), ("near", "nearly the same vector")):
        for name, found in report.get(kind, {}).items():
            if not found["clusters"]:
                continue
            line = (
                f"{name}: {found['rows']} rows in {found['clusters']} clusters have {word} "
                f"({fate[report['dedupe']]})"
            )
            for count, what in (
                (found["across_folds"], "across folds"),
                (found["across_splits"], f"on both sides of {held}"),
                (found["other_label"], "with different labels"),
            ):
                if count:
                    line += f"; {count} {what}"
            lines.append(line)
    told = report.get("groups") or {}
    first, both = (
        ", ".join(one_line(g, 40) for g in told.get(key, [])) for key in ("first", "first_splits")
    )
    if told.get("across_folds"):
        lines.append(
            f"{told['across_folds']} of {told['groups']} groups in column {told['column']} have "
            f"rows in several folds (first: {first}): the scores are not those of new groups"
            + ("" if told["asked"] else f"; keep them together with --group {told['column']}")
        )
    if told.get("across_splits"):
        lines.append(
            f"{told['across_splits']} groups have rows on both sides of {held} "
            f"(first: {both}): its score is not one of new groups"
        )
    if told.get("tied"):
        lines.append(f"duplicates tie {told['tied']} groups to others, which share their fold")
    return lines + list(report.get("skipped", []))


def _looks_line(looks: dict[str, Any]) -> str:
    """How often the test split was looked at, as the ledger has it."""
    of = f"the test split's {looks['rows']} rows are looked at"
    if looks["looks"] == 1:
        line = f"{of} for the first time, for {looks['shown']} systems"
    else:
        runs = ", ".join(one_line(run, 60) for run in looks["runs"][-3:])
        before = f" (before: {runs})" if runs else ""
        line = (
            f"{of} for time {looks['looks']}, {looks['systems']} systems in all{before}: "
            "the more often, the less its score is worth"
        )
    line = line.replace(" 1 systems", " 1 system")
    why = looks.get("unwritten")
    return f"{line}; this look could not be put down ({why})" if why else line


def label_doubts(
    proba: np.ndarray, codes: np.ndarray, ids: Any, classes: Any, top: int = 20
) -> list[dict[str, Any]]:
    """Rows whose label the held-out probabilities (n, k) contradict most, worst first, by cleanlab
    (confident learning, Northcutt et al. 2021). Raises HeadError where it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise HeadError(
            "label doubts", "cleanlab is not installed", "pip install cleanlab"
        ) from error
    quality = get_label_quality_scores(codes, proba)
    issue = find_label_issues(codes, proba, n_jobs=1)
    worst = [r for r in np.argsort(quality, kind="stable") if issue[r]][:top]
    return [
        {
            "id": str(ids[r]),
            "label": str(classes[codes[r]]),
            "likely": str(classes[proba[r].argmax()]),
            "quality": float(quality[r]),
        }
        for r in worst
    ]
