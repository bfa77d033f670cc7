"""Scores of class probabilities against labels, each with what is needed to judge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv

from headstock.heads.metrics.labels import balanced_accuracy, f_beta, macro, tallies
from headstock.heads.metrics.probabilities import brier_rows, confidence_gap, loss_rows

__all__ = ["ByRow", "accuracy_interval", "score", "score_rows"]


def accuracy_interval(errors: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact (Clopper and Pearson 1934) interval of the accuracy for ``errors`` among n rows.

    A mean count over repeats need not be whole; the beta quantiles take it as it is.
    """
    tail, right = (1 - level) / 2, n - errors
    low = float(betaincinv(right, errors + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, errors, 1 - tail)) if errors > 0 else 1.0
    return low, high


class ByRow(NamedTuple):
    """What the scores of n rows stand on, (n,) each: the answers, how sure they are, the log-loss
    and the Brier score of each row."""

    predicted: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray
    brier: np.ndarray

    @classmethod
    def of(cls, proba: np.ndarray, codes: np.ndarray) -> ByRow:
        """Of probabilities (n, k) against codes (n,)."""
        return cls(
            proba.argmax(axis=1), proba.max(axis=1), loss_rows(proba, codes),
            brier_rows(proba, codes),
        )  # fmt: skip


def score(proba: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """``score_rows`` of probabilities (r, n, k)."""
    return score_rows([ByRow.of(p, codes) for p in proba], codes, proba.shape[2])


def score_rows(rows: Sequence[ByRow], codes: np.ndarray, k: int) -> dict[str, Any]:
    """The figures of one system.

    rows: of each repeat; codes (n,): true classes. With repeats the figures are means over them,
    and ``repeats`` has each one's accuracy and their spread; n stays the number of rows, since
    repeats do not make more of them.
    """
    repeats, n = len(rows), len(codes)
    each = [_score_one(one, codes, k) for one in rows]
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


def _score_one(rows: ByRow, codes: np.ndarray, k: int) -> dict[str, Any]:
    predicted = rows.predicted
    counts = (codes[predicted == codes], codes, predicted)
    right, true, said = (np.bincount(each, minlength=k) for each in counts)
    recall = np.divide(right, true, out=np.full(k, np.nan), where=true > 0)
    precision = np.divide(right, said, out=np.full(k, np.nan), where=said > 0)
    shares = tallies(predicted, codes, k)
    return {
        "errors": int(len(codes) - right.sum()),
        "accuracy": float(right.sum() / len(codes)),
        "balanced_accuracy": float(balanced_accuracy(shares)),
        "macro_f1": float(macro(f_beta(1))(shares)),
        "log_loss": float(rows.loss.mean()),
        "brier": float(rows.brier.mean()),
        "calibration_error": confidence_gap(rows.confidence, predicted == codes),
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
