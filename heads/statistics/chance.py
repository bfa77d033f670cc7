"""What guessing would score, and whether a system does better."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, stdtr

from headstock.heads.statistics.intervals import spread_of

__all__ = ["LEAST", "chance_p", "priors"]

PERMUTATIONS = 999
LEAST = 1 / (1 + PERMUTATIONS)
"""No p-value is smaller, however many rows there are."""
MOST_ROWS = 2000
"""Rows up to which labels are permuted; beyond, the count of right answers under permutation is
normal for all that can be seen, with a mean and a variance that are known."""


def priors(codes: np.ndarray, folds: np.ndarray, k: int) -> np.ndarray:
    """(r, n, k) the shares of the classes in the training rows of each row's fold: the answer of
    one who knows the labels and looks at nothing. Its first class is the most frequent one. folds
    (r, n)."""
    out = np.empty((*folds.shape, k))
    for repeat, fold in enumerate(folds):
        counts = np.zeros((fold.max() + 1, k))
        np.add.at(counts, (fold, codes), 1)
        left = counts.sum(axis=0) - counts
        out[repeat] = (left / left.sum(axis=1, keepdims=True))[fold]
    return out


def chance_p(
    said: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """(s,) one-sided p-values that systems whose answers are said (n, s) are right so often though
    they say nothing of the labels codes (n,).

    Labels are exchanged within strata (n,), the folds, inside which a system is one and the same
    (Ojala and Garriga 2010, test 1, with the answers held fixed). Where rows come in groups (n,),
    whose labels cannot be exchanged one by one, p is no smaller than by Student's t of whole
    groups.
    """
    folds = np.zeros(len(codes), dtype=int) if strata is None else strata
    right = said == codes[:, None]
    expected = _expected(said, codes, folds)
    if len(codes) <= MOST_ROWS:
        p = _permuted(said, codes, folds, right.sum(axis=0), seed)
    else:
        excess = right.sum(axis=0) - expected.sum(axis=0)
        p = 1 - ndtr((excess - 0.5) / np.maximum(np.sqrt(_variance(said, codes, folds)), 1e-12))
        p = np.maximum(p, LEAST)
    if groups is not None:
        spread = spread_of(right - expected, groups)
        if spread.units < 2:
            return np.ones(said.shape[1])
        score = spread.mean / np.maximum(spread.error, 1e-12)
        p = np.maximum(p, 1 - stdtr(spread.freedom, score))
    return p


def _permuted(
    said: np.ndarray, codes: np.ndarray, folds: np.ndarray, right: np.ndarray, seed: int
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.empty((PERMUTATIONS, len(codes)), dtype=np.int32)
    for fold in np.unique(folds):
        mine = np.flatnonzero(folds == fold)
        block = np.tile(codes[mine].astype(np.int32), (PERMUTATIONS, 1))
        labels[:, mine] = rng.permuted(block, axis=1)
    reached = [(labels == answer).sum(axis=1) >= r for answer, r in zip(said.T, right)]
    return (1 + np.sum(reached, axis=1)) / (1 + PERMUTATIONS)


def _expected(said: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(n, s) how often each answer would be right if the labels of its fold were exchanged."""
    share = np.zeros((folds.max() + 1, max(codes.max(), said.max()) + 1))
    np.add.at(share, (folds, codes), 1)
    share /= np.maximum(share.sum(axis=1, keepdims=True), 1)
    return share[folds[:, None], said]


def _variance(said: np.ndarray, codes: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(s,) of the count of right answers when labels change places in folds (Hoeffding 1951)."""
    k = max(codes.max(), said.max()) + 1
    out = np.zeros(said.shape[1])
    for fold in np.unique(folds):
        mine = folds == fold
        n = int(mine.sum())
        if n < 2:
            continue
        label = np.bincount(codes[mine], minlength=k)
        for s, answer in enumerate(said[mine].T):
            given = np.bincount(answer, minlength=k)
            both = float(given @ label)
            cross = (given * label**2 + given**2 * label).sum() / n
            out[s] += (both - cross + (both / n) ** 2) / (n - 1)
    return out
