"""How far a score of numbers is known: intervals and differences, by rows or by whole groups.

All stand on pseudo-values (``metrics.regression``): their mean has Student's t with the spread of
rows, or groups, and an interval is drawn on the scale where the score has no end in reach: the
logarithm of a loss, Fisher's z of a correlation, the logarithm of what R2 leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstock.heads.metrics.table import Metric
from headstock.heads.statistics.intervals import (
    LEVEL,
    Spread,
    group_sums,
    resamples,
    spread_of,
    unit_codes,
)

__all__ = ["Chosen", "Known", "chosen_best", "difference", "interval"]

DRAWS = 1000
"""Resamples behind the interval of a metric of one's own, which has no pseudo-values."""


class Known:
    """A metric of answers (r, n, 1) to numbers (n,), the mean over r repeats: ``value``, and its
    pseudo-values (n,), None of a metric that has none."""

    def __init__(self, metric: Metric, said: np.ndarray, y: np.ndarray) -> None:
        self.metric, self.said, self.y = metric, said, y
        self.pseudo: np.ndarray | None = None
        if metric.pseudo is None:
            self.value = float(np.mean([metric.score(one, y) for one in said]))
            return
        found = [metric.pseudo(one, y) for one in said]
        self.value = float(np.mean([value for value, _ in found]))
        self.pseudo = np.mean([pseudo for _, pseudo in found], axis=0)

    def drawn(self, groups: np.ndarray | None, seed: int = 0) -> np.ndarray:
        """(DRAWS,) the metric in resamples of rows or whole groups, the same for all systems."""
        keys = unit_codes(len(self.y), groups)
        order = np.argsort(keys, kind="stable")
        out = []
        for weights in resamples(int(keys.max()) + 1, seed, DRAWS):
            for one in weights.astype(int):
                rows = np.repeat(order, one[keys[order]])
                values = [self.metric.score(said[rows], self.y[rows]) for said in self.said]
                out.append(float(np.mean(values)))
        return np.array(out)


def interval(found: Known, groups: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of the score in other rows, or other groups (n,)."""
    metric, value = found.metric, found.value
    if not np.isfinite(value):
        return np.nan, np.nan
    if found.pseudo is None:
        return _percentiles(found.drawn(groups))
    return _ends(metric, value, float(_spread(found.pseudo, groups).half[0]))


def _ends(metric: Metric, value: float, half: float) -> tuple[float, float]:
    """Of a value known to ``half`` on its own scale, drawn on the scale without ends."""
    if not np.isfinite(half):
        return metric.low, metric.high
    if metric.low == 0 and metric.high == np.inf:
        reach = half / value if value > 0 else 0.0
        return value * float(np.exp(-reach)), value * float(np.exp(reach))
    if metric.high == 1 and metric.low == -1:
        left = max(1 - value**2, 1e-12)
        z, reach = float(np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))), half / left
        return float(np.tanh(z - reach)), float(np.tanh(z + reach))
    left = max(1 - value, 1e-12)
    reach = half / left
    return 1 - left * float(np.exp(reach)), 1 - left * float(np.exp(-reach))


def difference(a: Known, b: Known, groups: np.ndarray | None = None) -> tuple[float, float, float]:
    """The score of a less that of b on the same rows, and its 95 % interval, of two systems that
    were named beforehand."""
    value = a.value - b.value
    if a.pseudo is None or b.pseudo is None:
        return value, *_percentiles(a.drawn(groups) - b.drawn(groups))
    spread = _spread(a.pseudo - b.pseudo, groups)
    half = float(spread.half[0])
    return value, value - half, value + half


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanquantile(values, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _spread(pseudo: np.ndarray, groups: np.ndarray | None) -> Spread:
    """``spread_of`` with no more degrees of freedom than the variance of values with such tails
    has: few large errors decide like few rows."""
    spread = spread_of(pseudo[:, None], groups)
    if spread.units < 2:
        return spread
    moved = np.bincount(unit_codes(len(pseudo), groups), pseudo - pseudo.mean())
    squares = float((moved**2).sum())
    kurtosis = len(moved) * float((moved**4).sum()) / squares**2 if squares > 0 else 1.0
    tails = 2 * len(moved) / max(kurtosis - 1, 1e-9)
    return spread._replace(freedom=float(max(min(spread.freedom, tails), 1.0)))


class Chosen(NamedTuple):
    """What the best of s systems is worth when other rows choose it: the score of the first on the
    rows that made it first; the score on rows that were left out of the choice, with its interval;
    how often each system was chosen (s,)."""

    apparent: float
    nested: float
    low: float
    high: float
    wins: np.ndarray


def chosen_best(
    systems: Sequence[Known], groups: np.ndarray | None = None, seed: int = 0
) -> Chosen | None:
    """As ``selection.selection``, by pseudo-values: rows, or whole groups (n,), are resampled, each
    resample chooses the best, and the rows it left out score it. None where a system has no
    pseudo-values, or its score is not defined."""
    metric = systems[0].metric
    if any(one.pseudo is None or not np.isfinite(one.value) for one in systems):
        return None
    pseudo = np.stack([one.pseudo for one in systems], axis=1)  # type: ignore[misc]
    sums, sizes = group_sums(pseudo, groups)
    given, seen, wins = np.zeros(len(sums)), np.zeros(len(sums)), np.zeros(len(systems))
    for weight in resamples(len(sums), seed):
        score = metric.sign * (weight @ sums)
        best = score == score.max(axis=1, keepdims=True)
        chosen = best / best.sum(axis=1, keepdims=True)
        left = weight == 0
        given += np.where(left, chosen @ sums.T, 0).sum(axis=0)
        seen += left.sum(axis=0)
        wins += chosen.sum(axis=0)
    there = seen > 0
    if not there.any():
        return None
    wins /= wins.sum()
    nested = float((given[there] / seen[there]).sum() / sizes[there].sum())
    each = [_spread(pseudo[:, s], groups) for s in range(len(systems))]
    means = np.array([float(one.mean[0]) for one in each])
    errors = np.array([float(one.error[0]) for one in each])
    middle = float(wins @ means)
    error = np.sqrt(float(wins @ (errors**2 + (means - middle) ** 2)))
    half = float(each[0]._replace(error=np.array([error])).half[0])
    return Chosen(systems[0].value, nested, *_ends(metric, nested, half), wins)
