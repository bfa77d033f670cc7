"""A metric of systems on rows: its value, its interval, the pseudo-values by which systems are
compared, and differences of two systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit, ndtr, stdtr, stdtrit

from headstock.heads.metrics.table import Metric
from headstock.heads.statistics.intervals import (
    LEVEL,
    Spread,
    difference_interval,
    mean_interval,
    resamples,
    share_ends,
    spread_of,
    unit_codes,
)
from headstock.heads.statistics.metrics import accuracy_interval

__all__ = [
    "Measured", "drawn", "ends_of", "measured", "metric_difference", "metric_record",
]  # fmt: skip

LEAST = 5.0
"""Degrees of freedom that tails leave at least: fewer only make the ends of an interval jump."""
DRAWS = 400
"""Resamples behind an interval of a metric that has no pseudo-values."""
PERMUTED = 199
"""Exchanges of labels behind a p-value against guessing."""


class Measured(NamedTuple):
    """A metric on n rows, the mean over repeats: its value; pseudo-values (n,) whose mean it is to
    first order, or None; what varies independently (n,), or None of rows; ``doubt``, the variance
    that rows of each class bring that may not have been seen, ``shift``, how far they move it, and
    ``flips``, the variance that they bring to a difference. fewest: rows, or groups, of the rarest
    class."""

    metric: Metric
    value: float
    pseudo: np.ndarray | None
    units: np.ndarray | None
    doubt: float = 0.0
    shift: float = 0.0
    flips: float = 0.0
    fewest: int = 1


def concentrated(values: np.ndarray, units: np.ndarray | None) -> Spread:
    """``spread_of`` with no more degrees of freedom than 2 n / (kurtosis - 1), those of the
    variance of values with such tails: a few positive rows among many negative ones decide like
    few. Of groups the error is that of leaving each out (CR3), for what is no mean is not known to
    the second order from few."""
    spread = spread_of(values, units)
    if spread.units < 2:
        return spread
    moved = values - spread.mean
    if units is not None:
        keys = unit_codes(len(values), units)
        moved = np.stack([np.bincount(keys, each) for each in moved.T], axis=1)
    squares = (moved**2).sum(axis=0)
    kurtosis = len(moved) * (moved**4).sum(axis=0) / np.maximum(squares**2, 1e-300)
    tails = 2 * len(moved) / np.maximum(kurtosis.max() - 1, 1e-9)
    wide = 1.0 if units is None else np.sqrt(spread.units / (spread.units - 1))
    freedom = float(min(spread.freedom, max(tails, LEAST)))
    return spread._replace(error=spread.error * wide, freedom=freedom)


def measured(
    metric: Metric, proba: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None
) -> Measured:
    """``metric`` of probabilities (r, n, k) of r repeats against codes (n,), whose rows come in
    groups (n,) or by themselves."""
    if metric.share is None and metric.pseudo is None:
        value = float(np.mean([metric.score(one, codes) for one in proba]))
        return Measured(metric, value, None, groups)
    found = [pseudo_of(metric, one, codes) for one in proba]
    value = float(np.mean([v for v, _ in found]))
    pseudo = np.mean([p for _, p in found], axis=0)
    counts = _units_of(codes, groups, proba.shape[2])
    unseen = _unseen(metric, proba[0], codes, counts)
    return Measured(metric, value, pseudo, groups, *unseen, int(counts[counts > 0].min()))


def _units_of(codes: np.ndarray, groups: np.ndarray | None, k: int) -> np.ndarray:
    """(k,) how many rows, or groups, each class is in."""
    there = np.unique(unit_codes(len(codes), groups) * k + codes) % k
    return np.bincount(there, minlength=k)


def _unseen(
    metric: Metric, proba: np.ndarray, codes: np.ndarray, counts: np.ndarray
) -> tuple[float, float, float]:
    """As if half a row more of each class (of groups, something between a row and a group) were
    answered well and half of one badly: what Agresti and Coull (1998) do for a share, and Agresti
    and Min (2005) for a difference. Of many classes less of each, so that together they are two."""
    if metric.moves is None:
        return 0.0, 0.0, 0.0
    there = counts > 0
    moves = metric.moves(proba, codes)[there]
    size = np.sqrt(np.bincount(codes, minlength=len(counts))[there] / counts[there]) / len(codes)
    share = min(1.0, 2 / there.sum())
    doubt = share * float((moves**2 * size[:, None] ** 2).sum()) / 2
    shift = share * float((moves.sum(axis=1) * size).sum()) / 2
    if metric.needs != "labels":
        return doubt, shift, 0.0
    return doubt, shift, share * float(((moves[:, 0] - moves[:, 1]) ** 2 * size**2).sum())


def pseudo_of(metric: Metric, proba: np.ndarray, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """The value, and pseudo-values (n,), of (n, k); not for a metric that has none."""
    if metric.share is not None:
        return _of_share(*metric.share(proba, codes))
    assert metric.pseudo is not None
    return metric.pseudo(proba, codes)


def _of_share(right: np.ndarray, which: np.ndarray) -> tuple[float, np.ndarray]:
    if not which.any():
        return np.nan, np.full(len(right), np.nan)
    if which.all():
        return float(right.mean()), right.astype(float)
    value = float(right[which].mean())
    return value, value + np.where(which, right - value, 0.0) / which.mean()


def with_doubt(spread: Spread, doubt: float) -> Spread:
    return spread._replace(error=np.sqrt(spread.error**2 + doubt))


def ends_of(
    metric: Metric, spread: Spread, rows: int, fewest: int, shift: float = 0.0
) -> tuple[float, float]:
    """The 95 % interval of a value that is a mean of pseudo-values with this spread: Student's t,
    on the log-odds of where it, moved by ``shift``, lies between the least and the most that it can
    be. Of the least and the most themselves, where nothing varies, it is no narrower than the exact
    one of a share of as many rows as the rarest class has (``fewest``)."""
    value, half = float(spread.mean[0]), float(spread.half[0])
    if not np.isfinite(value):
        return np.nan, np.nan
    low, high = metric.low, metric.high
    if not np.isfinite(half):
        return low, high
    width = high - low
    if not np.isfinite(width):
        return max(value - half, low), min(value + half, high)
    least = 0.5 / (rows + 1)  # so that its log-odds are finite
    share = min(max((value + shift - low) / width, least), 1 - least)
    reach = half / width / (share * (1 - share))
    ends = [float(expit(logit(share) + side * reach)) for side in (-1, 1)]
    whole = (value - low) / width
    if whole > 1 - 1e-9:
        ends[0] = min(ends[0], accuracy_interval(0, fewest)[0])
    if whole < 1e-9:
        ends[1] = max(ends[1], accuracy_interval(fewest, fewest)[1])
    return low + width * min(ends[0], whole), low + width * max(ends[1], whole)


def interval(found: Measured, proba: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """The 95 % interval: exact of a share, Student's t of a mean of losses, else ``ends_of``."""
    metric, units = found.metric, found.units
    if not np.isfinite(found.value):
        return np.nan, np.nan
    if found.pseudo is None:
        return drawn_ends(metric, found.value, drawn(metric, [proba], codes, units)[:, 0], units)
    if metric.share is not None:
        parts = [metric.share(one, codes) for one in proba]
        right = np.mean([r & w for r, w in parts], axis=0)
        which = np.mean([w for _, w in parts], axis=0)
        mine = which > 0
        count = float(which.sum())
        spread = None
        if units is not None:  # of the rows it is about: other groups say nothing
            moved = found.value + (right - found.value * which)[mine] * (mine.sum() / count)
            spread = spread_of(moved[:, None], units[mine])
        ends = share_ends(np.array([right.sum()]), count, spread)
        return float(ends[0][0]), float(ends[1][0])
    if metric.name in ("log_loss", "brier"):
        low, high = (float(end[0]) for end in mean_interval(found.pseudo[:, None], units))
        return max(low, metric.low), min(high, metric.high)
    spread = with_doubt(concentrated(found.pseudo[:, None], units), found.doubt)
    return ends_of(metric, spread, len(codes), found.fewest, found.shift)


def pseudo_values(metric: Metric, proba: Sequence[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """(n, s) of systems, each (r, n, k), NaN where one does not answer."""
    out = np.full((len(codes), len(proba)), np.nan)
    for number, one in enumerate(proba):
        there = ~np.isnan(one[0, :, 0])
        each = [pseudo_of(metric, repeat[there], codes[there])[1] for repeat in one]
        out[there, number] = np.mean(each, axis=0)
    return out


def drawn(
    metric: Metric, proba: Sequence[np.ndarray], codes: np.ndarray, groups: np.ndarray | None,
    left_out: bool = False,
) -> np.ndarray:  # fmt: skip
    """(DRAWS, s) the metric of systems, each (r, n, k), in resamples of rows or of whole groups, or
    on what they left out: the same resamples for all of them, and for the same rows always."""
    assert metric.drawn is not None
    keys = unit_codes(len(codes), groups)
    out = []
    for weights in resamples(int(keys.max()) + 1, 0, DRAWS):
        counted = (weights == 0 if left_out else weights)[:, keys].astype(np.float32)
        out.append(
            [np.mean([metric.drawn(p, codes, counted) for p in one], axis=0) for one in proba]
        )
    return np.concatenate(out, axis=1).T


def drawn_ends(
    metric: Metric, value: float, values: np.ndarray, groups: np.ndarray | None
) -> tuple[float, float]:
    """Percentiles of the values (b,) in resamples, drawn out by what few groups leave unseen. Where
    resampling moves the metric to one side, as distances from perfect calibration, the mirrored
    percentiles too: the nearer and the farther of both (see docs/honesty.md)."""
    values = values[np.isfinite(values)]
    if len(values) < DRAWS // 2:
        return metric.low, metric.high
    far = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2]) - value
    if groups is not None:
        units = len(np.unique(np.asarray(groups, dtype=str)))
        if units < 2:
            return metric.low, metric.high
        far *= np.sqrt(units / (units - 1)) * stdtrit(units - 1, 1 - LEVEL / 2) / 1.96
    if metric.needs == "probabilities":
        far = np.array([min(far[0], -far[1]), max(far[1], -far[0])])
    low, high = value + np.minimum(far[0], 0), value + np.maximum(far[1], 0)
    return float(max(low, metric.low)), float(min(high, metric.high))


def metric_record(
    metric: Metric, proba: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """``value``, ``low`` and ``high`` (None where not defined) of (r, n, k), and ``by``, what was
    taken to vary independently."""
    found = measured(metric, proba, codes, groups)
    ends = interval(found, proba, codes)
    value, low, high = (float(x) if np.isfinite(x) else None for x in (found.value, *ends))
    return {"value": value, "low": low, "high": high, "by": "rows" if groups is None else "groups"}


def metric_difference(
    metric: Metric, a: np.ndarray, b: np.ndarray, codes: np.ndarray, groups: np.ndarray | None
) -> dict[str, Any]:
    """``value`` a - b of two systems (r, n, k) on the same rows, with the 95 % interval of two that
    were named beforehand."""
    first, second = (measured(metric, one, codes, groups) for one in (a, b))
    value = first.value - second.value
    if first.pseudo is None or second.pseudo is None:
        values = drawn(metric, (a, b), codes, groups)
        wide = replace(metric, low=metric.low - metric.high, high=metric.high - metric.low)
        ends = drawn_ends(replace(wide, needs="ranks"), value, values[:, 0] - values[:, 1], groups)
    else:
        ends = _gain(first, second, codes, groups)
    names = ("value", "low", "high")
    return {k: float(x) if np.isfinite(x) else None for k, x in zip(names, (value, *ends))}


def _gain(
    first: Measured, second: Measured, codes: np.ndarray, groups: np.ndarray | None
) -> tuple[float, float]:
    assert first.pseudo is not None
    assert second.pseudo is not None
    gain = (first.pseudo - second.pseudo)[:, None]
    if first.metric.name in ("accuracy", "micro_f1") or first.metric.name.startswith("top"):
        ends = difference_interval(gain, groups)
    else:
        doubt = (first.flips + second.flips) / 2
        spread = with_doubt(concentrated(gain, groups), doubt)
        ends = spread.mean - spread.half, spread.mean + spread.half
    return float(ends[0][0]), float(ends[1][0])


def gained(metric: Metric, a: np.ndarray, b: np.ndarray, codes: np.ndarray) -> float:
    """The difference a - b of two systems (r, n, k), in units of its standard error; 0 where they
    are alike, or the metric has no pseudo-values."""
    first, second = (measured(metric, one, codes) for one in (a, b))
    if first.pseudo is None or second.pseudo is None:
        return 0.0
    spread = spread_of((first.pseudo - second.pseudo)[:, None])
    return float(np.nan_to_num(spread.mean[0] / max(float(spread.error[0]), 1e-12)))


def guess_p(
    metric: Metric, proba: np.ndarray, codes: np.ndarray, strata: np.ndarray | None,
    groups: np.ndarray | None, seed: int = 0,
) -> float:  # fmt: skip
    """One-sided p-value that (n, k) is as good by ``metric`` though it says nothing of the labels:
    they change places within strata (n,), the folds; more than three standard deviations from what
    that gives, the normal tail. With groups (n,), whose labels cannot change places one by one, no
    smaller than by Student's t of whole groups about the mean of these values."""
    rng = np.random.default_rng(seed)
    value = metric.sign * metric.score(proba, codes)
    parts = [np.flatnonzero(strata == s) for s in np.unique(strata)] if strata is not None else []
    values = np.empty(PERMUTED)
    for number in range(PERMUTED):
        labels = rng.permutation(codes) if not parts else codes.copy()
        for part in parts:
            labels[part] = rng.permutation(codes[part])
        values[number] = metric.sign * metric.score(proba, labels)
    if not np.isfinite(value) or not np.isfinite(values).all():
        return 1.0
    z = (value - values.mean()) / max(float(values.std(ddof=1)), 1e-12)
    p = (1 + (values >= value).sum()) / (1 + PERMUTED) if z < 3 else float(ndtr(-z))
    if groups is None:
        return float(p)
    found = measured(metric, proba[None], codes, groups)
    if found.pseudo is None:
        return float(p)
    spread = with_doubt(concentrated(found.pseudo[:, None], groups), found.doubt)
    if spread.units < 2:
        return 1.0
    score = (value - values.mean()) / max(float(spread.error[0]), 1e-12)
    return float(max(p, 1 - stdtr(spread.freedom, score)))
