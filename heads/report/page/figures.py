"""What the charts show, as plain numbers: calibration, coverage."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headstock.heads.metrics.probabilities import by_confidence

__all__ = [
    "Bin",
    "coverage",
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
