"""95 % intervals of means over rows, which may come in groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtrit

from headstock.heads.statistics.metrics import accuracy_interval

__all__ = [
    "LEVEL", "Spread", "difference_interval", "mean_interval", "resamples", "share_ends",
    "share_interval", "spread_of", "unit_codes",
]  # fmt: skip

LEVEL = 0.05
RESAMPLES = 2000
Ends = tuple[np.ndarray, np.ndarray]


class Spread(NamedTuple):
    """Means (c,) of the columns of a table, their standard errors (c,), the degrees of freedom of
    Student's t for them, and how many units (rows or groups) vary independently."""

    mean: np.ndarray
    error: np.ndarray
    freedom: float
    units: int

    @property
    def half(self) -> np.ndarray:
        """(c,) half of the width of the 95 % interval; infinite where one unit is all there is."""
        if self.units < 2:
            return np.full_like(self.mean, np.inf)
        return float(stdtrit(self.freedom, 1 - LEVEL / 2)) * self.error


def unit_codes(n: int, groups: np.ndarray | None) -> np.ndarray:
    """(n,) the number of what varies independently: the row itself, or its group."""
    if groups is None:
        return np.arange(n)
    return np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1].ravel()


def group_sums(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums (u, c) of values (n, c) by group, or the rows themselves, and how many rows each unit
    has (u,)."""
    if groups is None:
        return values, np.ones(len(values))
    keys = unit_codes(len(values), groups)
    sums = np.zeros((keys.max(initial=-1) + 1, values.shape[1]))
    np.add.at(sums, keys, values)
    return sums, np.bincount(keys).astype(float)


def spread_of(values: np.ndarray, groups: np.ndarray | None = None) -> Spread:
    """The means of values (n, c) and how far they would be off in other rows, or other groups.

    Groups (n,) may be of any sizes. The variance is cluster-robust and without bias for rows that
    do not depend on each other (CR2: Bell and McCaffrey 2002); the degrees of freedom are
    Satterthwaite's, for rows that do not depend on each other or for rows that are all alike in
    their group, whichever are fewer (Imbens and Kolesar 2016 for the first). For groups of one size
    both are their number less one.
    """
    sums, sizes = group_sums(np.asarray(values, dtype=float), groups)
    total, units = sizes.sum(), len(sizes)
    mean = sums.sum(axis=0) / total
    if units < 2:
        return Spread(mean, np.full_like(mean, np.inf), 0.0, units)
    share = sizes / total
    weight = 1 / (1 - share)
    error = np.sqrt((weight[:, None] * (sums - mean * sizes[:, None]) ** 2).sum(axis=0)) / total
    return Spread(mean, error, _freedom(share, weight), units)


def _freedom(p: np.ndarray, w: np.ndarray) -> float:
    """Of the variance of a mean over groups with shares p (u,) of the rows, weights w (u,)."""
    single = 1 / ((p**2).sum() + (w * p**2).sum() ** 2 - (w**2 * p**4).sum())
    # rows that are all alike in their group: the sums vary by size, as n_g n_h (d - p_g - p_h + q)
    q, x = (p**2).sum(), w * p**2
    trace = (x * (1 - 2 * p + q)).sum()
    whole, once, twice = x.sum(), (x * p).sum(), (x * p**2).sum()
    square = (whole * q) ** 2 + 2 * whole * twice - 4 * q * whole * once + 2 * once**2
    square += (x**2 * ((1 - 2 * p + q) ** 2 - (q - 2 * p) ** 2)).sum()
    return float(min(single, trace**2 / square))


def mean_interval(values: np.ndarray, groups: np.ndarray | None = None) -> Ends:
    """Ends (c,), (c,) for the means of values (n, c), such as losses: Student's t."""
    spread = spread_of(values, groups)
    return spread.mean - spread.half, spread.mean + spread.half


def share_interval(right: np.ndarray, groups: np.ndarray | None = None) -> Ends:
    """Ends (c,), (c,) for shares, the means of right (n, c) in 0 to 1.

    Without groups they are exact (Clopper and Pearson 1934). With groups they are Student's t of
    the log-odds with the spread of whole groups, and never inside the exact ones: groups do not
    make rows say more.
    """
    spread = None if groups is None else spread_of(right, groups)
    return share_ends(right.sum(axis=0), len(right), spread)


def share_ends(total: np.ndarray, n: float, spread: Spread | None) -> Ends:
    """``share_interval`` of totals (c,) among n rows with that spread."""
    exact = np.array([accuracy_interval(n - t, n) for t in total]).reshape(-1, 2).T
    if spread is None:
        return exact[0], exact[1]
    if spread.units < 2:
        return np.zeros_like(total), np.ones_like(total)
    share = (total + 1) / (n + 2)  # its log-odds are finite where nothing, or all, is right
    middle, half = logit(share), spread.half / (share * (1 - share))
    return np.minimum(exact[0], expit(middle - half)), np.maximum(exact[1], expit(middle + half))


def difference_interval(gain: np.ndarray, groups: np.ndarray | None = None) -> Ends:
    """Ends (c,), (c,) for differences of two shares on the same rows, the means of gain (n, c) in
    -1 to 1.

    Without groups the adjusted interval of Agresti and Min (2005): half a row more in each cell of
    the fourfold table. With groups Student's t with the spread of whole groups, never inside it.
    """
    n = len(gain)
    more, less = np.maximum(gain, 0).sum(axis=0), np.maximum(-gain, 0).sum(axis=0)
    middle = (more - less) / (n + 2)
    half = np.sqrt(np.maximum(more + less + 1 - (more - less) ** 2 / (n + 2), 0)) / (n + 2)
    half *= float(stdtrit(max(n - 1, 1), 1 - LEVEL / 2))
    low, high = middle - half, middle + half
    if groups is not None:
        grouped = mean_interval(gain, groups)
        low, high = np.minimum(low, grouped[0]), np.maximum(high, grouped[1])
    return np.maximum(low, -1), np.minimum(high, 1)


def resamples(units: int, seed: int, count: int = RESAMPLES) -> Iterator[np.ndarray]:
    """``count`` resamples with replacement, some at a time: (b, units) how often each was drawn."""
    rng = np.random.default_rng(seed)
    step = max(1, min(count, 4_000_000 // units))
    for start in range(0, count, step):
        drawn = rng.integers(0, units, (min(step, count - start), units))
        weight = np.zeros(drawn.shape, dtype=np.float32)
        for line, picks in zip(weight, drawn):
            line += np.bincount(picks, minlength=units)
        yield weight
