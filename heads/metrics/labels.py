"""Scores of predicted labels, from how often each class is true, answered, and both.

Each is a smooth function of these shares, and so is known to first order by what one row more of
each kind would change: its pseudo-values (Jaeckel's infinitesimal jackknife, 1972).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
    "LabelScore", "Tallies", "balanced_accuracy", "confusion", "f_beta", "kappa", "label_moves",
    "label_pseudo", "macro", "mcc", "micro", "of_class", "precision", "quadratic_kappa", "recall",
    "tallies", "top_right", "weighted",
]  # fmt: skip

STEP = 1e-6
BLOCK = 4_000_000
"""Numbers that are held at a time."""


class Tallies(NamedTuple):
    """Shares of the rows: right (..., k) of class c and answered so, true (..., k) of class c,
    said (..., k) answered so; square (...,) mean squared distance of the classes' numbers."""

    right: np.ndarray
    true: np.ndarray
    said: np.ndarray
    square: np.ndarray


LabelScore = Callable[[Tallies], np.ndarray]
"""From tallies with leading axes (...) to scores (...); it depends on their ratios alone."""


def confusion(predicted: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """(k, k) counts: row true class, column predicted class."""
    table = np.zeros((k, k), dtype=np.int64)
    np.add.at(table, (codes, predicted), 1)
    return table


def tallies(predicted: np.ndarray, codes: np.ndarray, k: int) -> Tallies:
    """Of predicted classes (n,) against codes (n,)."""
    n = len(codes)
    right = np.bincount(codes[predicted == codes], minlength=k) / n
    true, said = (np.bincount(each, minlength=k) / n for each in (codes, predicted))
    return Tallies(right, true, said, np.mean((codes - predicted) ** 2.0))


def label_pseudo(
    score: LabelScore, predicted: np.ndarray, codes: np.ndarray, k: int
) -> tuple[float, np.ndarray]:
    """The score, and pseudo-values (n,) whose mean it is."""
    whole = tallies(predicted, codes, k)
    value = float(score(whole))
    cells, place = np.unique(codes * k + predicted, return_inverse=True)
    true, said = cells // k, cells % k
    step = min(STEP, 0.1 / len(codes))
    moved = np.empty(len(cells))
    size = max(1, BLOCK // (3 * k))
    for start in range(0, len(cells), size):
        here = slice(start, start + size)
        t, s = true[here], said[here]
        ends = [score(_beside(whole, t, s, sign * step)) for sign in (1, -1)]
        moved[here] = (ends[0] - ends[1]) / (2 * step)
    return value, value + moved[place.ravel()]


def label_moves(score: LabelScore, predicted: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """(k, 2) how fast the score moves with rows of each class that are answered rightly, and as
    they mostly are when wrongly; 0 of a class without rows."""
    whole = tallies(predicted, codes, k)
    table = confusion(predicted, codes, k).astype(float)
    right = np.arange(k)
    table[right, right] = -1
    table += whole.said / 2  # of a class without mistakes: what is answered most
    table[right, right] = -1
    wrong = table.argmax(axis=1)
    value, out = float(score(whole)), np.zeros((k, 2))
    there = np.flatnonzero(whole.true > 0)
    for column, said in enumerate((right, wrong)):
        moved = score(_beside(whole, right[there], said[there], STEP))
        out[there, column] = (moved - value) / STEP
    return out


def _beside(whole: Tallies, true: np.ndarray, said: np.ndarray, step: float) -> Tallies:
    """Tallies (m, k) with ``step`` more of rows of class true (m,) answered said (m,)."""
    row = np.arange(len(true))
    right, is_true, is_said = (np.tile(part, (len(true), 1)) for part in whole[:3])
    right[row, true] += step * (true == said)
    is_true[row, true] += step
    is_said[row, said] += step
    # the mean over rows of which there are 1 + step in all, as the shares are
    return Tallies(right, is_true, is_said, whole.square + step * (true - said) ** 2.0)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 of nothing, as scikit-learn's ``zero_division``."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def recall(t: Tallies) -> np.ndarray:
    """(..., k) share of each class that is answered so."""
    return _over(t.right, t.true)


def precision(t: Tallies) -> np.ndarray:
    """(..., k) share of the answers of each class that are right."""
    return _over(t.right, t.said)


def f_beta(beta: float) -> LabelScore:
    """(..., k) weighted harmonic mean of precision and recall (van Rijsbergen 1979)."""
    square = beta**2
    return lambda t: _over((1 + square) * t.right, square * t.true + t.said)


def of_class(score: LabelScore, number: int) -> LabelScore:
    return lambda t: score(t)[..., number]


def macro(score: LabelScore) -> LabelScore:
    """The mean over classes that are true or answered anywhere."""

    def mean(t: Tallies) -> np.ndarray:
        there = t.true + t.said > 0
        return (score(t) * there).sum(axis=-1) / there.sum(axis=-1)

    return mean


def weighted(score: LabelScore) -> LabelScore:
    """The mean over classes, each by how frequent it is."""
    return lambda t: (score(t) * t.true).sum(axis=-1) / t.true.sum(axis=-1)


def micro(t: Tallies) -> np.ndarray:
    """The score of all classes' counts together: of one label a row it is the accuracy."""
    return t.right.sum(axis=-1) / t.true.sum(axis=-1)


def balanced_accuracy(t: Tallies) -> np.ndarray:
    """The mean recall of the classes that have rows."""
    there = t.true > 0
    return (recall(t) * there).sum(axis=-1) / there.sum(axis=-1)


def mcc(t: Tallies) -> np.ndarray:
    """Matthews' correlation, of any number of classes (Gorodkin 2004); 0 where one side is all of
    one class."""
    n, right = t.true.sum(axis=-1), t.right.sum(axis=-1)
    both = right * n - (t.true * t.said).sum(axis=-1)
    spread = (n**2 - (t.true**2).sum(axis=-1)) * (n**2 - (t.said**2).sum(axis=-1))
    return _over(both, np.sqrt(np.maximum(np.where(spread > 1e-15, spread, 0), 0)))


def kappa(t: Tallies) -> np.ndarray:
    """Cohen's (1960): agreement beyond that of the same shares by chance."""
    n, right = t.true.sum(axis=-1), t.right.sum(axis=-1)
    chance = (t.true * t.said).sum(axis=-1) / n
    return _one_less(n - right, n - chance)


def quadratic_kappa(t: Tallies) -> np.ndarray:
    """Cohen's (1968) with squared distances, of classes whose order is their sorted order."""
    n, place = t.true.sum(axis=-1), np.arange(t.true.shape[-1])
    first, second = ((part * place).sum(axis=-1) / n for part in (t.true, t.said))
    squares = ((t.true + t.said) * place**2).sum(axis=-1) / n
    return _one_less(t.square / n, squares - 2 * first * second)


def _one_less(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """1 - part / whole; not a number where whole is nothing."""
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    out = np.full(np.broadcast(part, whole).shape, np.nan)
    return 1 - np.divide(part, whole, out=out, where=whole > 1e-15)


def top_right(proba: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """(n,) bool: whether the true class is among the ``count`` most likely of (n, k); of equal
    ones the later classes count as more likely, as scikit-learn has it."""
    own = proba[np.arange(len(codes)), codes][:, None]
    after = np.arange(proba.shape[1]) > codes[:, None]
    return ((proba > own) | ((proba == own) & after)).sum(axis=1) < count
