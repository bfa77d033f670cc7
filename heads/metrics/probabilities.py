"""Scores of probabilities taken at their word: row by row, and of the answers' confidence."""

from __future__ import annotations

import numpy as np

__all__ = ["FLOOR", "brier_rows", "by_confidence", "calibration_error", "confidence_gap",
    "drawn_calibration", "log_loss", "loss_rows",
]  # fmt: skip

FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities are not taken for smaller in the log-loss, as in scikit-learn's."""


def loss_rows(proba: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) -log p(true class), natural logarithm, of probabilities (n, k)."""
    return -np.log(np.clip(proba[np.arange(len(codes)), codes], FLOOR, 1.0))


def log_loss(proba: np.ndarray, codes: np.ndarray) -> float:
    """The mean of ``loss_rows``."""
    return float(loss_rows(proba, codes).mean())


def brier_rows(proba: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) squared distance of probabilities (n, k) from the labels, summed over the classes; of
    two classes half of that, as scikit-learn's (Brier 1950)."""
    squares = ((proba - np.eye(proba.shape[1])[codes]) ** 2).sum(axis=1)
    return squares / 2 if proba.shape[1] == 2 else squares


def calibration_error(proba: np.ndarray, codes: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top class: mean of |confidence - accuracy| over bins of
    equal count (Nguyen and O'Connor 2015), weighted by their rows."""
    return confidence_gap(proba.max(axis=1), proba.argmax(axis=1) == codes, bins)


def confidence_gap(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """``calibration_error`` of answers (n,) as sure as confidence (n,)."""
    confidence, right = by_confidence(confidence, right)
    parts = [p for p in np.array_split(np.arange(len(right)), min(bins, len(right))) if len(p)]
    gaps = [len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts]
    return float(sum(gaps) / len(right))


def by_confidence(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """confidence (n,), rising, and right (n,) with it; rows of one confidence have the share of
    them that is right, so that the order of rows decides nothing."""
    values, tied, count = np.unique(confidence, return_inverse=True, return_counts=True)
    return np.repeat(values, count), np.repeat(np.bincount(tied, right) / count, count)


def drawn_calibration(
    proba: np.ndarray, codes: np.ndarray, weights: np.ndarray, bins: int = 15
) -> np.ndarray:
    """(b,) ``calibration_error`` with each row counted weights (b, n) times, its bins of equal
    count to within a row."""
    order = np.argsort(proba.max(axis=1), kind="stable")
    gap = (proba.max(axis=1) - (proba.argmax(axis=1) == codes))[order]
    out = np.empty(len(weights))
    for line, drawn in enumerate(weights[:, order]):
        middle = np.cumsum(drawn) - drawn / 2
        place = np.minimum((bins * middle / drawn.sum()).astype(int), bins - 1)
        out[line] = np.abs(np.bincount(place, gap * drawn)).sum() / drawn.sum()
    return out
