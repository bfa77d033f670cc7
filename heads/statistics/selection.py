"""What choosing the best of many systems by the rows that score them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headstock.heads.metrics.table import Metric
from headstock.heads.run.scores import Interval, Selection
from headstock.heads.statistics.compare import rights
from headstock.heads.statistics.intervals import (
    Spread,
    group_sums,
    resamples,
    share_ends,
    spread_of,
)
from headstock.heads.statistics.measured import drawn, ends_of, pseudo_values

__all__ = ["selection"]

SHOWN = 5


def selection(
    names: Sequence[str],
    proba: Mapping[str, np.ndarray],
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    metric: Metric | None = None,
) -> Selection | None:
    """How accurate "the best of these systems" is when other rows choose it, or how good by another
    ``metric``; None of one system. names: of the systems, best first.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis 2018): the
    held-out rows (whole ``groups``, where given) are resampled, each resample chooses the systems
    with the fewest errors in it, and the rows it left out score them; systems that tie count alike,
    for any order among them would come from the rows that were left out. proba: (n, k) or, of r
    repeats, (r, n, k). ``nested`` is the mean of these scores, with a 95 % interval by what each
    row was given by the resamples that left it out; ``apparent`` the leader's accuracy on the rows
    that made it leader, ``optimism`` the difference; ``wins`` says how often each system was
    chosen. Only systems that answer every row take part. Another metric is followed by its
    pseudo-values, and where it has none, in fewer resamples, by itself.
    """
    whole = {name: p[None] if p.ndim == 2 else p for name, p in proba.items()}
    names = [name for name in names if np.isfinite(whole[name]).all()]
    if len(names) < 2:
        return None
    if metric is not None and metric.interval == "resamples":
        return _drawn_selection(metric, names, [whole[name] for name in names], codes, groups)
    repeats = len(whole[names[0]])
    if metric is None or metric.name == "accuracy":
        right, sign = np.stack([rights(whole[name], codes) for name in names], axis=1), 1
    else:
        right = repeats * pseudo_values(metric, [whole[name] for name in names], codes)
        sign = metric.sign
        if not np.isfinite(right).all():
            return None
    sums, sizes = (part.astype(np.float32) for part in group_sums(right, groups))
    given, seen = np.zeros(len(sums)), np.zeros(len(sums))
    wins = np.zeros(len(names))
    for weight in resamples(len(sums), seed):
        score = sign * (weight @ sums)  # whole numbers: that two are equal is exact
        chosen = _shares(score)
        left = weight == 0
        given += np.where(left, chosen @ sums.T, 0).sum(axis=0)
        seen += left.sum(axis=0)
        wins += chosen.sum(axis=0)
    known = seen > 0
    if not known.any():
        return None
    wins /= wins.sum()
    value = float((given[known] / seen[known]).sum() / sizes[known].sum()) / repeats
    spread = _spread(right / repeats, groups, wins)
    if metric is None or metric.name == "accuracy":
        ends = share_ends(np.array([value * len(codes)]), len(codes), spread)
        low, high = (float(end[0]) for end in ends)
    else:
        moved = spread._replace(mean=np.array([value]))
        fewest = int(np.unique(codes, return_counts=True)[1].min())
        low, high = ends_of(metric, moved, len(codes), fewest)
    apparent = float(right[:, 0].mean()) / repeats
    return _record(metric, names, apparent, (value, low, high), wins, groups)


def _shares(score: np.ndarray) -> np.ndarray:
    """(b, s) who is chosen by scores (b, s): the best, or in equal parts those who tie."""
    best = score == score.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True, dtype=np.float32)


def _record(
    metric: Metric | None, names: Sequence[str], apparent: float, nested: tuple[float, ...],
    wins: np.ndarray, groups: np.ndarray | None,
) -> Selection:  # fmt: skip
    order = np.argsort(-wins, kind="stable")[:SHOWN]
    return Selection(
        leader=names[0],
        systems=len(names),
        apparent=apparent,
        nested=Interval(value=nested[0], low=nested[1], high=nested[2]),
        optimism=(1 if metric is None else metric.sign) * (apparent - nested[0]),
        wins=tuple((names[i], float(wins[i])) for i in order if wins[i]),
        by="rows" if groups is None else "groups",
    )


def _drawn_selection(
    metric: Metric, names: Sequence[str], proba: Sequence[np.ndarray], codes: np.ndarray,
    groups: np.ndarray | None,
) -> Selection | None:  # fmt: skip
    """By the metric itself in each resample and on the rows it left out."""
    inside, outside = (drawn(metric, proba, codes, groups, left_out) for left_out in (False, True))
    there = np.isfinite(inside).all(axis=1) & np.isfinite(outside).all(axis=1)
    if not there.any():
        return None
    chosen = _shares(metric.sign * inside[there])
    wins = chosen.mean(axis=0)
    nested = float((chosen * outside[there]).sum(axis=1).mean())
    value = np.array([np.mean([metric.score(p, codes) for p in one]) for one in proba])
    middle = (wins * value).sum()
    error = np.sqrt((wins * (inside[there].var(axis=0) + (value - middle) ** 2)).sum())
    low, high = float(nested - 2 * error), float(nested + 2 * error)
    ends = max(low, metric.low), min(high, metric.high)
    return _record(metric, names, float(value[0]), (nested, *ends), wins, groups)


def _spread(right: np.ndarray, groups: np.ndarray | None, wins: np.ndarray) -> Spread:
    """Of one system drawn as often as wins (s,) say."""
    each = spread_of(right, groups)
    middle = (wins * each.mean).sum()
    error = np.sqrt((wins * (each.error**2 + (each.mean - middle) ** 2)).sum())
    return each._replace(mean=np.array([middle]), error=np.array([error]))
