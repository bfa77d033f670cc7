"""Scores of class probabilities against labels, each with what is needed to judge it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaincinv

__all__ = ["accuracy_interval", "by_confidence", "confusion", "log_loss", "score"]

FLOOR = 1e-15
"""Probabilities are not taken for smaller in the log-loss, as in scikit-learn's for float64."""


def accuracy_interval(errors: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact (Clopper and Pearson 1934) interval of the accuracy for ``errors`` among n rows.

    A mean count over repeats need not be whole; the beta quantiles take it as it is.
    """
    tail, right = (1 - level) / 2, n - errors
    low = float(betaincinv(right, errors + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, errors, 1 - tail)) if errors > 0 else 1.0
    return low, high


def log_loss(proba: np.ndarray, codes: np.ndarray) -> float:
    """Mean of -log p(true class), natural logarithm."""
    own = proba[np.arange(len(codes)), codes]
    return float(-np.log(np.clip(own, FLOOR, 1.0)).mean())


def confusion(predicted: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """(k, k) counts: row true class, column predicted class."""
    table = np.zeros((k, k), dtype=np.int64)
    np.add.at(table, (codes, predicted), 1)
    return table


def score(proba: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """The figures of one system.

    proba (r, n, k): the probabilities of each repeat's held-out rows; codes (n,): true classes.
    With repeats the figures are means over them, and ``repeats`` has each one's accuracy and their
    spread; n stays the number of rows, since repeats do not make more of them.
    """
    repeats, n, k = proba.shape
    each = [_score_one(p, codes, k) for p in proba]
    errors = float(np.mean([e["errors"] for e in each]))
    low, high = accuracy_interval(errors, n)
    out: dict[str, Any] = {
        "n": n,
        "errors": int(errors) if errors.is_integer() else round(errors, 3),
        "accuracy": {"value": 1 - errors / n, "low": low, "high": high},
    }
    for name in ("balanced_accuracy", "log_loss", "brier", "calibration_error", "macro_f1"):
        out[name] = float(np.mean([e[name] for e in each]))
    out["per_class"] = each[0]["per_class"]
    if errors == 0:  # the exact one-sided 95 % bound
        out["error_rate_below"] = 1 - 0.05 ** (1 / n)
    if repeats > 1:
        values = [e["accuracy"] for e in each]
        out["repeats"] = {"accuracy": values, "sd": float(np.std(values, ddof=1))}
    return out


def _score_one(proba: np.ndarray, codes: np.ndarray, k: int) -> dict[str, Any]:
    predicted = proba.argmax(axis=1)
    table = confusion(predicted, codes, k)
    right, true, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    there = true > 0
    recall = np.divide(right, true, out=np.full(k, np.nan), where=there)
    precision = np.divide(right, said, out=np.full(k, np.nan), where=said > 0)
    f1 = 2 * right / np.maximum(true + said, 1)
    return {
        "errors": int(len(codes) - right.sum()),
        "accuracy": float(right.sum() / len(codes)),
        "balanced_accuracy": float(recall[there].mean()),
        "macro_f1": float(f1[there].mean()),
        "log_loss": log_loss(proba, codes),
        "brier": float(((proba - np.eye(k)[codes]) ** 2).sum(axis=1).mean()),
        "calibration_error": calibration_error(proba, codes),
        "per_class": [
            {
                "n": int(true[c]),
                "errors": int(true[c] - right[c]),
                "recall": None if np.isnan(recall[c]) else float(recall[c]),
                "precision": None if np.isnan(precision[c]) else float(precision[c]),
            }
            for c in range(k)
        ],
    }


def calibration_error(proba: np.ndarray, codes: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top class: mean of |confidence - accuracy| over bins of
    equal count (Nguyen and O'Connor 2015), weighted by their rows."""
    confidence, right = by_confidence(proba, codes)
    parts = [p for p in np.array_split(np.arange(len(right)), min(bins, len(right))) if len(p)]
    gaps = [len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts]
    return float(sum(gaps) / len(codes))


def by_confidence(proba: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) probabilities of the top class, rising, and (n,) whether it is right; rows of one
    probability have the share of them that is, so that the order of rows decides nothing."""
    values, tied, count = np.unique(proba.max(axis=1), return_inverse=True, return_counts=True)
    right = np.bincount(tied, proba.argmax(axis=1) == codes) / count
    return np.repeat(values, count), np.repeat(right, count)
