"""What the charts show, as plain numbers: calibration, coverage, doubts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headstock.heads.metrics.probabilities import by_confidence

__all__ = [
    "Bin",
    "coverage",
    "doubts",
    "reliability",
    "thinned",
]


class Bin(NamedTuple):
    """Rows of similar confidence: how many, their mean confidence and their accuracy."""

    n: int
    confidence: float
    accuracy: float


def reliability(proba: np.ndarray, codes: np.ndarray, bins: int = 10) -> list[Bin]:
    """Rows in ``bins`` parts of equal count by their confidence, least confident first.

    proba (n, k), codes (n,). The parts are those of the expected calibration error in metrics.
    """
    confidence, right = by_confidence(proba.max(axis=1), proba.argmax(axis=1) == codes)
    return [
        Bin(len(part), float(confidence[part].mean()), float(right[part].mean()))
        for part in np.array_split(np.arange(len(right)), min(bins, len(right)))
        if len(part)
    ]


def coverage(proba: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) shares and (n,) accuracies: of the most confident rows, 1 to n of them, the share of
    all rows and how many of them are right."""
    right = by_confidence(proba.max(axis=1), proba.argmax(axis=1) == codes)[1][::-1]
    count = np.arange(1, len(codes) + 1)
    return count / len(codes), np.cumsum(right) / count


def thinned(n: int, most: int = 240) -> np.ndarray:
    """At most ``most`` of the positions 0 to n-1, evenly, the ends always among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def doubts(proba: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose label the held-out probabilities doubt, most doubtful first, and the class each
    would have instead.

    Confident learning (Northcutt, Jiang, Chuang 2021): class j is believed of a row when its
    probability reaches the mean that rows labelled j get for j. A row is in doubt when the most
    probable class so believed is not its label; the order is by how much more probable it is.
    """
    threshold = np.full(proba.shape[1], np.inf)
    for c in np.unique(codes):
        threshold[c] = proba[codes == c, c].mean()
    believed = np.where(proba >= threshold, proba, -1.0)
    other = believed.argmax(axis=1)
    rows = np.flatnonzero((believed.max(axis=1) >= 0) & (other != codes))
    gap = proba[rows, other[rows]] - proba[rows, codes[rows]]
    order = np.argsort(-gap, kind="stable")
    return rows[order], other[rows][order]
