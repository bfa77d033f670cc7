"""What stands beside a score: intervals of the other figures and of each class, and how far the
probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from headstock.heads.metrics.probabilities import FLOOR
from headstock.heads.statistics.intervals import Ends, mean_interval, share_interval, spread_of
from headstock.heads.statistics.metrics import ByRow, score_rows

__all__ = ["calibration_line", "figures"]

STEEPEST = 50.0
"""A slope beyond which no error is left to say how steep it is."""
SUREST = 1e-6
Interval = dict[str, float] | None


def figures(
    rows: Sequence[ByRow], codes: np.ndarray, k: int, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """``score_rows`` of r repeats, and what stands beside them where rows, or groups (n,), vary.

    ``intervals``: 95 % ends of the balanced accuracy, the log-loss and the Brier score over all
    repeats; ``interval`` of each class: [low, high] of its recall, None of one without rows;
    ``by_group`` of the accuracy: the ends with the spread of whole groups.
    """
    out = score_rows(rows, codes, k)
    right = np.mean([one.predicted == codes for one in rows], axis=0)[:, None]
    recalls = _recalls(right, codes, groups, k)
    ends = {"balanced_accuracy": _balanced(right, codes, groups, recalls)}
    for name, values in (("log_loss", [r.loss for r in rows]), ("brier", [r.brier for r in rows])):
        ends[name] = mean_interval(np.mean(values, axis=0)[:, None], groups)
    out["intervals"] = {
        name: {"low": max(float(low[0]), 0.0), "high": float(high[0])}
        for name, (low, high) in ends.items()
        if np.isfinite((low[0], high[0])).all()
    }
    for line, (low, high) in zip(out["per_class"], recalls, strict=True):
        line["interval"] = None if np.isnan(low) else [float(low), float(high)]
    if groups is not None:
        low, high = (float(end[0]) for end in share_interval(right, groups))
        units = len(np.unique(groups.astype(str)))
        out["accuracy"]["by_group"] = {"low": low, "high": high, "groups": units}
    return out


def _recalls(right: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, k: int) -> np.ndarray:
    """(k, 2) ends of each class's share of right answers, NaN of a class without rows."""
    out = np.full((k, 2), np.nan)
    for c in np.unique(codes):
        mine = codes == c
        ends = share_interval(right[mine], None if groups is None else groups[mine])
        out[c] = [float(end[0]) for end in ends]
    return out


def _balanced(
    right: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, recalls: np.ndarray
) -> Ends:
    """Of the mean of the classes' recalls, from their own ends (MOVER: Zou and Donner 2008); with
    groups, in which classes share their luck, no narrower than by the spread of whole groups."""
    classes, place, counts = np.unique(codes, return_inverse=True, return_counts=True)
    recall = np.bincount(place, weights=right[:, 0]) / counts
    value, k = recall.mean(), len(classes)
    low, high = recalls[classes].T
    below = np.sqrt(((recall - low) ** 2).sum()) / k
    above = np.sqrt(((high - recall) ** 2).sum()) / k
    if groups is not None:
        moved = (right[:, 0] - recall[place]) * (len(codes) / (k * counts))[place]
        half = float(spread_of(moved[:, None], groups).half[0])
        below, above = max(below, half), max(above, half)
    return np.array([max(value - below, 0.0)]), np.array([min(value + above, 1.0)])


def calibration_line(
    proba: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Interval]:
    """Slope and intercept of the probabilities (r, n, k) on the scale of log-odds, each with its
    95 % interval.

    ``slope``: the factor on log-probabilities at which the labels are most likely: 1 is as it
    should be, below 1 the probabilities are too far apart (overconfident). ``intercept``: what must
    be added to the log-odds of the answers' confidence so that its mean is the accuracy: below 0
    the answers are surer than they are right (Cox 1958; calibration in the large). None where no
    row is wrong, and of the intercept where none is right.
    """
    logs = np.log(np.maximum(proba, FLOOR))
    logs -= logs.max(axis=2, keepdims=True)  # softmax is the same, and exp cannot be too large
    lowest = logs.min(axis=2, keepdims=True)
    own, each = (np.arange(len(codes)), codes), np.ones(proba.shape[2])
    right = proba.argmax(axis=2) == codes
    out: dict[str, Interval] = {"slope": None, "intercept": None}

    def slope_scores(b: float) -> np.ndarray:
        """(n,) of each row: how its own log-probability differs from what the slope expects."""
        gaps = []
        for one, low in zip(logs, lowest, strict=True):
            weights = np.exp(b * (one if b > 0 else one - low))
            gaps.append(one[own] - np.einsum("nk,nk->n", weights, one) / (weights @ each))
        return np.mean(gaps, axis=0)

    def odds_scores(a: float) -> np.ndarray:
        return (right - expit(a + odds)).mean(axis=0)

    odds = logit(np.clip(proba.max(axis=2), SUREST, 1 - SUREST))
    for name, scores, usual in (
        ("slope", slope_scores, (0.25, 4.0)),
        ("intercept", odds_scores, (-2.0, 2.0)),
    ):
        ends = next((r for r in (usual, (-STEEPEST, STEEPEST)) if _crosses(scores, *r)), None)
        if ends is None or right.all() or not right.any():
            continue
        value = float(brentq(lambda x, of=scores: of(x).sum(), *ends, xtol=1e-4))  # type: ignore[misc]
        step = 1e-3
        steep = (scores(value - step).mean() - scores(value + step).mean()) / (2 * step)
        half = float(spread_of(scores(value)[:, None] / steep, groups).half[0])
        if np.isfinite(half):
            out[name] = {"value": value, "low": value - half, "high": value + half}
    return out


def _crosses(scores: Callable[[float], np.ndarray], low: float, high: float) -> bool:
    """Whether the sum of the scores, which falls, is 0 between the two."""
    return bool(scores(low).sum() > 0 > scores(high).sum())
