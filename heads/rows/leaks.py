"""Single features that tell the label alone: more often the label in disguise than a discovery.

Each column of a table, or of vectors that somebody else made, is asked what it can do without any
other: each row is answered by the other rows of the same value, or by the row of the nearest one.
That is leave-one-out, so noise is right as often as guessing, however many values it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.rows.labelled import Rows
from headstock.store.manifest.cells import CATEGORY, columns_in
from headstock.store.recipe import Recipe

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["SAMPLE", "asked_sets", "right_alone", "suspects", "suspects_in", "suspects_of"]

GAIN = 0.95
"""The way from guessing to always right that a suspected feature goes at least."""
LEVEL = 1e-3
"""Of all columns together, the chance that one of pure noise is suspected."""
SAMPLE = 2048
"""Rows that columns are asked on: enough for the claim, and quick for thousands of columns."""


def asked_sets(store: StoreReader, names: Iterable[str]) -> dict[str, Recipe]:
    """The sets whose columns may be anything: of a table, or made elsewhere. What a network makes
    of a file has no label in it."""
    recipes = {name: store.feature_set(name).recipe for name in names}
    return {n: r for n, r in recipes.items() if r.modality == "columns" or "unknown" in r.fields}


def suspects_of(rows: Rows, asked: Mapping[str, Recipe], seed: int = 0) -> list[dict[str, Any]]:
    """``suspects`` among the columns of these sets, on the rows that have a vector; of classes."""
    out: list[dict[str, Any]] = []
    if rows.numbers is not None:
        return out
    for name, recipe in asked.items():
        have = np.flatnonzero(rows.having([name]))
        if len(have) > SAMPLE:
            have = np.random.default_rng(seed).choice(have, SAMPLE, replace=False)
        found = suspects_in(rows.X[name][have], rows.codes[have], rows.names.get(name), recipe)
        out += [{"set": name, **one} for one in found]
    return out


def suspects_in(
    X: np.ndarray, codes: np.ndarray, names: Sequence[str] | None, recipe: Recipe
) -> list[dict[str, Any]]:
    """``suspects`` among the table's columns behind X (n, d): a category's words are one column
    again, for each word alone tells one class at most, and all of them may tell every one."""
    if "rules" not in recipe.fields:
        return suspects(X, codes, names)
    columns: list[np.ndarray] = []
    called: list[str] = []
    at = 0
    for one in columns_in(recipe):
        block = X[:, at : at + len(one.features)]
        at += len(one.features)
        word = one.kind == CATEGORY
        columns += [block.argmax(axis=1)] if word else list(block.T)
        called += [one.name] if word else one.features
    return suspects(np.stack(columns, axis=1), codes, called)


def suspects(
    X: np.ndarray, codes: np.ndarray, names: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The columns of X (n, d) that tell the label codes (n,) nearly alone, best first: {"feature",
    "accuracy", "guessing", "rows"}.

    A column is suspected when it goes ``GAIN`` of the way from the share of the largest class to
    1, and when noise would not: by the binomial tail of half as many rows (two neighbours answer
    each other, and are right together), times d.
    """
    from scipy.stats import binom

    n, d = X.shape
    shares = np.bincount(codes) / max(n, 1)
    if n < 4 or (shares > 0).sum() < 2:
        return []
    chance = float(shares.max())
    right = np.array([right_alone(X[:, j], codes) for j in range(d)])
    gain = (right / n - chance) / (1 - chance)
    tail = binom.sf(np.ceil(right / 2) - 1, n // 2, chance) * d
    which = np.flatnonzero((gain >= GAIN) & (tail <= LEVEL))
    which = which[np.argsort(-right[which], kind="stable")]
    return [
        {
            "feature": str(names[j]) if names is not None else f"column {j}",
            "accuracy": float(right[j] / n),
            "guessing": chance,
            "rows": n,
        }
        for j in which.tolist()
    ]


def right_alone(x: np.ndarray, codes: np.ndarray) -> int:
    """How many of the rows x (n,) is right about without any other feature, leave-one-out."""
    order = np.lexsort((codes, x))
    x, codes = x[order], codes[order]
    new_value = np.r_[True, x[1:] != x[:-1]]
    new_pair = new_value | np.r_[True, codes[1:] != codes[:-1]]
    value, pair = np.cumsum(new_value) - 1, np.cumsum(new_pair) - 1
    rows_of_pair = np.bincount(pair)
    first = np.flatnonzero(new_pair)
    owner, label = value[first], codes[first]
    # of each value its most frequent label, and how many rows the second one has
    by_count = np.lexsort((rows_of_pair, owner))
    last = np.flatnonzero(np.r_[np.diff(owner[by_count]) > 0, True])
    top = by_count[last]
    second = np.zeros(len(top), dtype=np.int64)
    tied = last > np.r_[-1, last[:-1]] + 1
    second[tied] = rows_of_pair[by_count[last[tied] - 1]]
    rows_of_value = np.bincount(value)
    among = rows_of_pair[top] - 1 > second  # without the row itself the label still leads
    right = int(rows_of_pair[top][among & (rows_of_value > 1)].sum())
    alone = np.flatnonzero(rows_of_value == 1)
    if len(rows_of_value) < 2 or not len(alone):
        return right
    points = x[new_value].astype(np.float64)
    gap = np.diff(points)
    left, beyond = np.r_[np.inf, gap][alone], np.r_[gap, np.inf][alone]
    neighbour = np.where(left <= beyond, alone - 1, alone + 1)
    leads = rows_of_pair[top] > second
    said = leads[neighbour] & (label[top][neighbour] == label[top][alone])
    return right + int(said.sum())
