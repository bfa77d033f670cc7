"""Two systems on the same rows: is one better, and which errors do they share?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from scipy.special import bdtr

from headstock.heads.metrics.probabilities import loss_rows
from headstock.heads.metrics.table import Metric
from headstock.heads.run.scores import Compared, Comparison, Difference, MetricDifference
from headstock.heads.statistics.familywise import between_all, between_drawn
from headstock.heads.statistics.intervals import LEVEL, difference_interval, mean_interval
from headstock.heads.statistics.measured import drawn, metric_difference, pseudo_values

__all__ = ["against_best", "between_systems", "compare", "mcnemar", "rights"]


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value (McNemar 1947, binomial form) that the rows on which one system alone
    is right fall to either side by chance."""
    n, low = only_a + only_b, min(only_a, only_b)
    return float(min(1.0, 2 * bdtr(low, n, 0.5))) if n else 1.0


def rights(proba: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) in how many of r repeats the probabilities (r, n, k) are right; NaN: no answer."""
    right = (proba.argmax(axis=2) == codes).sum(axis=0).astype(float)
    return np.where(np.isnan(proba[0, :, 0]), np.nan, right)


def compare(
    a: np.ndarray, b: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None,
    metric: Metric | None = None,
) -> Compared:  # fmt: skip
    """Systems a and b, (n, k) or (r, n, k) probabilities of the same held-out rows in each of r
    repeats, against codes (n,).

    The difference of accuracies (a - b) and of log-losses with 95 % intervals, over all repeats;
    with the spread of whole groups where ``groups`` (n,) is given, since their rows are not
    independent. They are those of two systems that were named beforehand. Rows are counted in the
    first repeat: ``shared_errors``, which both get wrong, of which ``same_answer`` with the same
    wrong class, and those on which one alone is right, with McNemar's exact test. ``difference``:
    of a ``metric`` other than the accuracy, with its name.
    """
    a, b = (p[None] if p.ndim == 2 else p for p in (a, b))
    said_a, said_b = a[0].argmax(axis=1), b[0].argmax(axis=1)
    right_a, right_b = said_a == codes, said_b == codes
    both_wrong = ~right_a & ~right_b
    gain = ((rights(a, codes) - rights(b, codes)) / len(a))[:, None]
    loss = (_losses(a, codes) - _losses(b, codes))[:, None]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    difference = None
    if metric is not None and metric.name != "accuracy":
        gap = metric_difference(metric, a, b, codes, groups)
        difference = MetricDifference(metric=metric.name, **gap)
    return Compared(
        n=len(codes),
        repeats=len(a),
        only_a_right=only_a,
        only_b_right=only_b,
        shared_errors=int(both_wrong.sum()),
        same_answer=int((both_wrong & (said_a == said_b)).sum()),
        mcnemar_p=mcnemar(only_a, only_b),
        accuracy_difference=_interval(gain, difference_interval(gain, groups)),
        log_loss_difference=_interval(loss, mean_interval(loss, groups)),
        by="rows" if groups is None else "groups",
        difference=difference,
    )


def _losses(proba: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n,) log-loss of each row, the mean over repeats."""
    return np.mean([loss_rows(one, codes) for one in proba], axis=0)


def _interval(values: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> Difference:
    low, high = (float(end[0]) if np.isfinite(end[0]) else None for end in ends)
    return Difference(value=float(values.mean()), low=low, high=high)


def between_systems(
    metric: Metric, proba: Sequence[np.ndarray], codes: np.ndarray,
    groups: np.ndarray | None = None, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """(s, s) adjusted p-values that two of the systems, (r, n, k) each, NaN where one does not
    answer, are equally good by ``metric`` on the rows that both answer."""
    if metric.interval == "resamples":
        there = np.all([~np.isnan(one[0, :, 0]) for one in proba], axis=0)
        if not there.any():
            return np.ones((len(proba), len(proba)))
        some, rows = None if groups is None else groups[there], codes[there]
        shared = [one[:, there] for one in proba]
        value = np.array([np.mean([metric.score(p, rows) for p in one]) for one in shared])
        units = len(rows) if some is None else len(np.unique(some.astype(str)))
        return between_drawn(value, drawn(metric, shared, rows, some), units)

    def on(rows: np.ndarray) -> np.ndarray:
        out = np.full((len(codes), len(proba)), np.nan)
        out[rows] = pseudo_values(metric, [one[:, rows] for one in proba], codes[rows])
        return out

    whole = pseudo_values(metric, proba, codes)
    if not np.isfinite(whole[~np.isnan([one[0, :, 0] for one in proba]).T]).all():
        return np.ones((len(proba), len(proba)))  # not defined for one of them
    return between_all(whole, groups, seed, on)


def against_best(
    names: Sequence[str],
    proba: Mapping[str, np.ndarray],
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    metric: Metric | None = None,
) -> tuple[Comparison, ...]:
    """The first of the systems ``names``, which lead by these rows, against every other one, on the
    rows both answer.

    proba: (n, k) or (r, n, k). ``adjusted_p`` is adjusted for all pairs of systems, not only for
    those with the leader, since it leads by these very rows (``familywise``), and is no smaller
    than McNemar's, however groups turn out. The verdict is ``better`` when it is below 5 %, else
    ``not distinguishable``; ``worse`` for one that answers fewer rows and beats the leader there.
    That any ``better`` or ``worse`` of a run is wrong happens in 5 % of runs. With a ``metric``
    other than the accuracy all of this is about its differences.
    """
    if len(names) < 2:
        return ()
    whole = {name: p[None] if p.ndim == 2 else p for name, p in proba.items()}
    right = np.stack([rights(whole[name], codes) for name in names], axis=1)
    by_accuracy = metric is None or metric.name == "accuracy"
    if metric is None or by_accuracy:
        p_values = between_all(right, groups, seed)[0]
    else:
        p_values = between_systems(metric, [whole[name] for name in names], codes, groups, seed)[0]
    out = []
    for number, name in enumerate(names[1:], 1):
        there = ~np.isnan(right[:, 0] + right[:, number])
        if not there.any():
            continue
        some = None if groups is None else groups[there]
        a, b = (whole[which][:, there] for which in (names[0], name))
        result = compare(a, b, codes[there], some, metric)
        p = float(p_values[number])
        if result.repeats == 1 and by_accuracy:
            p = max(p, result.mcnemar_p)
        gain = (result.difference or result.accuracy_difference).value or 0.0
        verdict = "better" if (1 if metric is None else metric.sign) * gain > 0 else "worse"
        verdict = verdict if p < LEVEL else "not distinguishable"
        known = {one.name: getattr(result, one.name) for one in fields(result)}
        out.append(Comparison(a=names[0], b=name, adjusted_p=p, verdict=verdict, **known))
    return tuple(out)
