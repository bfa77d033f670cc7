"""Scores of how rows are ordered, each with its pseudo-values: one score (n,) and which rows are
positive (n,). All are not a number where every row is positive, or none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np

__all__ = [
    "Ranked", "auroc", "average_precision", "class_moves", "drawn_recall", "each_class",
    "each_pair", "partial_auroc", "recall_at_precision",
]  # fmt: skip

Ranked = tuple[float, np.ndarray]
"""A value, and pseudo-values (n,) whose mean it is to first order."""
Rank = Callable[[np.ndarray, np.ndarray], Ranked]


def _undefined(n: int) -> Ranked:
    return np.nan, np.full(n, np.nan)


def _placements(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p,) share of the negatives that lie below each positive, (m,) share of the positives that
    lie above each negative; equal scores count half."""
    up, down = score[positive], score[~positive]
    placed = []
    for one, other in ((up, down), (down, up)):
        rest = np.sort(other)
        below, upto = (np.searchsorted(rest, one, side) for side in ("left", "right"))
        placed.append((below + upto) / (2 * len(rest)))
    return placed[0], 1 - placed[1]


def auroc(score: np.ndarray, positive: np.ndarray) -> Ranked:
    """Area under the receiver operating curve: how often a positive row lies above a negative one.
    The pseudo-values are DeLong's (DeLong, DeLong and Clarke-Pearson 1988)."""
    n, p = len(score), int(positive.sum())
    if not 0 < p < n:
        return _undefined(n)
    above, below = _placements(score, positive)
    value = float(above.mean())
    pseudo = np.empty(n)
    pseudo[positive] = value + (above - value) * (n / p)
    pseudo[~positive] = value + (below - value) * (n / (n - p))
    return value, pseudo


def _steps(
    score: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """From the highest threshold down, (t,) each: true positives at it and above, rows at it and
    above, positives at it; and (n,) which threshold each row is at."""
    levels, place = np.unique(-score, return_inverse=True)
    place = place.ravel()
    own = np.bincount(place, positive, minlength=len(levels))
    return np.cumsum(own), np.cumsum(np.bincount(place, minlength=len(levels))), own, place


def average_precision(score: np.ndarray, positive: np.ndarray) -> Ranked:
    """The mean over positive rows of the precision at their score, which is the sum of precisions
    by steps of recall."""
    n, p = len(score), int(positive.sum())
    if p == 0:
        return _undefined(n)
    true, taken, own, place = _steps(score, positive)
    precision = true / taken
    value = float((own * precision).sum() / p)
    # a row counts by itself, and in the precision of its threshold and of all below
    ups = np.cumsum((own / taken)[::-1])[::-1][place]
    all_below = np.cumsum((own * precision / taken)[::-1])[::-1][place]
    moved = positive * (precision[place] - value + ups) - all_below
    return value, value + moved * (n / p)


def partial_auroc(most: float) -> Rank:
    """The area up to the false positive rate ``most``, so scaled that chance is .5 and the best 1
    (McClish 1989), as ``roc_auc_score(max_fpr=...)``."""
    least = most**2 / 2

    def partial(score: np.ndarray, positive: np.ndarray) -> Ranked:
        n, p = len(score), int(positive.sum())
        if not 0 < p < n:
            return _undefined(n)
        true, taken, _, place = _steps(score, positive)
        tpr = np.r_[0, true / p]
        fpr = np.r_[0, (taken - true) / (n - p)]
        last = int(np.searchsorted(fpr, most, side="right"))
        height = float(np.interp(most, fpr[last - 1 : last + 1], tpr[last - 1 : last + 1]))
        area = float(np.trapezoid(np.r_[tpr[:last], height], np.r_[fpr[:last], most]))
        middle_tpr, middle_fpr = (tpr[1:] + tpr[:-1]) / 2, (fpr[1:] + fpr[:-1]) / 2
        inside = fpr[1:][place] <= most
        moved = np.empty(n)
        up = np.maximum(most - middle_fpr[place[positive]], 0)
        down = np.where(inside, middle_tpr[place] - height, 0)[~positive]
        moved[positive] = (up - up.mean()) * (n / p)
        moved[~positive] = (down - down.mean()) * (n / (n - p))
        scale = 0.5 / (most - least)
        value = 0.5 + (area - least) * scale
        return value, value + moved * scale

    return partial


def recall_at_precision(least: float) -> Callable[[np.ndarray, np.ndarray], float]:
    """The largest share of the positive rows above some threshold at which the precision is
    ``least`` or more; 0 where there is none."""

    def best(score: np.ndarray, positive: np.ndarray) -> float:
        true, taken, _, _ = _steps(score, positive)
        if not len(true) or not true[-1]:
            return np.nan
        enough = true / taken >= least
        return float(true[enough].max() / true[-1]) if enough.any() else 0.0

    return best


def drawn_recall(
    least: float, score: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(b,) ``recall_at_precision`` with each row counted weights (b, n) times."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    counted = weights[:, order]
    true = np.cumsum(counted * positive[order], axis=1)[:, last]
    taken = np.cumsum(counted, axis=1)[:, last]
    enough = np.where(true / np.maximum(taken, 1) >= least, true, 0).max(axis=1)
    whole = true[:, -1].astype(float)
    return np.divide(enough, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def each_class(rank: Rank, proba: np.ndarray, codes: np.ndarray) -> Ranked:
    """The mean over the classes that have rows, each against the rest by its column of (n, k); of
    two classes that of the second."""
    if proba.shape[1] == 2:
        return rank(proba[:, 1], codes == 1)
    parts = [rank(proba[:, c], codes == c) for c in np.unique(codes)]
    return float(np.mean([v for v, _ in parts])), np.mean([p for _, p in parts], axis=0)


def class_moves(rank: Rank, proba: np.ndarray, codes: np.ndarray, number: int | None) -> np.ndarray:
    """(k, 2) how fast the mean over classes (or the value of class ``number``) moves with rows of
    each class that are placed as well as can be, and by chance; 0 of a class without rows."""
    n, k = proba.shape
    counts, out = np.bincount(codes, minlength=k), np.zeros((k, 2))
    if number is None and k == 2:
        number = 1
    for c in np.flatnonzero(counts) if number is None else (number,):
        positive = codes == c
        value = rank(proba[:, c], positive)[0]
        gaps = np.array([1 - value, 0.5 - value])
        if number is None:
            out[c] = gaps * (n / counts[c]) / (counts > 0).sum()
        else:
            share = np.where(np.arange(k) == c, counts[c], n - counts[c])
            out = (gaps * n) / np.maximum(share, 1)[:, None] * (counts > 0)[:, None]
    return out


def each_pair(rank: Rank, proba: np.ndarray, codes: np.ndarray) -> Ranked:
    """The mean over pairs of classes, on their rows alone, each class of the two against the other
    by its own column (Hand and Till 2001)."""
    n, found = len(codes), []
    for a, b in combinations(np.unique(codes), 2):
        here = (codes == a) | (codes == b)
        for one in (a, b):
            value, pseudo = rank(proba[here, one], codes[here] == one)
            whole = np.full(n, value)
            whole[here] += (pseudo - value) * (n / here.sum())
            found.append((value, whole))
    if not found:
        return _undefined(n)
    return float(np.mean([v for v, _ in found])), np.mean([p for _, p in found], axis=0)
