"""Which of many systems differ, when all of them are looked at: 5 % for all statements together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from headstock.heads.statistics.intervals import group_sums

__all__ = ["adjusted", "all_pairs", "between_all", "between_drawn"]

FLIPS = 2000
ENUMERATED = 11
"""Units up to which every pattern of signs is looked at."""
MOST_SYSTEMS = 300
"""Systems above which their range is used, and not the largest statistic of all pairs."""
BLOCK = 4_000_000
"""Numbers that are held at a time."""
CLOSE = 1e-4

On = Callable[[np.ndarray], np.ndarray]
"""From some of the rows (n,) bool to (n, s) pseudo-values on these alone."""


def all_pairs(systems: int) -> np.ndarray:
    """(p, 2) each two of so many systems, once."""
    return np.stack(np.triu_indices(systems, 1), axis=1)


def adjusted(
    right: np.ndarray, pairs: np.ndarray, groups: np.ndarray | None = None, seed: int = 0,
    on: On | None = None,
) -> np.ndarray:  # fmt: skip
    """(p,) p-values that the two systems of each of pairs (p, 2) are right equally often, adjusted
    for looking at all of the pairs.

    right (n, s): how often each system has each row right, NaN where it does not answer; a pair is
    compared on the rows that both answer. Of another metric than the accuracy they are its
    pseudo-values, the means of which are compared, and ``on`` gives those on some of the rows.

    If two systems are alike, a row, or a whole group (n,), speaks for either as easily: the signs
    of all units are flipped at random, the same for all pairs, and each pair's difference in units
    of its own spread is held against the largest of them all, then of those not yet told apart
    (Westfall and Young 1993, Romano and Wolf 2005). For one pair without groups it is McNemar's
    exact test, but for chance in the draws. Since every pair is among those looked at, it also
    holds for one that was chosen for being first.
    """
    if not len(pairs):
        return np.empty(0)
    parts = _parts(right, pairs, groups, on)
    units = len(parts[0][0])
    observed = np.empty(len(pairs))
    for sums, which, a, b, norm in parts:
        total = sums.sum(axis=0)
        observed[which] = np.abs(total[a] - total[b]) / norm
    order = np.argsort(-observed, kind="stable")
    reached, drawn = np.zeros(len(pairs), dtype=np.int64), 0
    for signs in _signs(units, seed, max(1, BLOCK // max(len(pairs), units))):
        largest = np.empty((len(signs), len(pairs)), dtype=np.float32)
        for sums, which, a, b, norm in parts:
            flipped = signs @ sums
            largest[:, which] = np.abs(flipped[:, a] - flipped[:, b]) / norm
        backwards = largest[:, order[::-1]]
        np.maximum.accumulate(backwards, axis=1, out=backwards)
        reached += (backwards[:, ::-1] >= observed[order] - CLOSE).sum(axis=0)
        drawn += len(signs)
    return _p_values(reached, drawn, units, order)


def _p_values(reached: np.ndarray, drawn: int, units: int, order: np.ndarray) -> np.ndarray:
    """reached (p,): in how many of ``drawn`` flips the largest reached each pair, in ``order``."""
    seen = 0 if units <= ENUMERATED else 1  # what was observed is one of the patterns
    out = np.empty(len(reached))
    out[order] = np.maximum.accumulate((reached + seen) / (drawn + seen))
    return np.minimum(out, 1.0)


Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _parts(
    right: np.ndarray, pairs: np.ndarray, groups: np.ndarray | None, on: On | None
) -> list[Part]:
    """Pairs that are compared on the same rows: sums by unit (u, s), the pairs' numbers, their two
    systems, and what the difference of their sums is divided by. Units are the same for all;
    those that speak for neither of any two are left out."""
    answered = ~np.isnan(right)
    kinds, kind = np.unique(answered, axis=1, return_inverse=True)
    kind = kind.ravel()
    keys = np.sort(kind[pairs], axis=1)
    parts = []
    for x, y in np.unique(keys, axis=0):
        which = np.flatnonzero((keys == (x, y)).all(axis=1))
        both = kinds[:, x] & kinds[:, y]
        used, place = np.unique(pairs[which], return_inverse=True)
        table = right if on is None or len(kinds[0]) == 1 else on(both)
        sums = group_sums(np.where(both[:, None], table[:, used], 0.0), groups)[0]
        a, b = place.reshape(-1, 2).T
        gram = sums.T @ sums
        norm = np.sqrt(np.maximum(gram[a, a] + gram[b, b] - 2 * gram[a, b], 0))
        parts.append((sums, which, a, b, np.maximum(norm, 1e-9)))
    speaks = np.logical_or.reduce([(s != s[:, :1]).any(axis=1) for s, *_ in parts])
    return [(s[speaks].astype(np.float32), *rest) for s, *rest in parts]


def _signs(units: int, seed: int, step: int) -> Iterator[np.ndarray]:
    """Patterns (b, u) of signs, some at a time: all that differ, or FLIPS random ones."""
    if units <= ENUMERATED:
        number = np.arange(1 << max(units - 1, 0))
        yield (1 - 2 * ((number[:, None] >> np.arange(units)) & 1)).astype(np.float32)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, FLIPS, step):
        count = min(step, FLIPS - start)
        bits = np.frombuffer(rng.bytes(count * ((units + 7) // 8)), dtype=np.uint8)
        bits = np.unpackbits(bits.reshape(count, -1), axis=1)[:, :units]
        yield bits.astype(np.float32) * 2 - 1


def between_all(
    right: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, on: On | None = None
) -> np.ndarray:
    """(s, s) ``adjusted`` p-values between any two systems, 1 on the diagonal.

    Systems that say the same are one. Above MOST_SYSTEMS each difference is held against the range
    of all systems' sums, which is quicker and finds less.
    """
    known = np.where(np.isnan(right), np.inf, right)  # NaN would equal nothing
    distinct, place = np.unique(known, axis=1, return_inverse=True)
    distinct, s = np.where(np.isinf(distinct), np.nan, distinct), distinct.shape[1]
    pairs = all_pairs(s)
    table = np.ones((s, s))
    if s <= MOST_SYSTEMS:
        place = place.ravel()
        first = np.unique(place, return_index=True)[1]
        some = None if on is None else (lambda rows: on(rows)[:, first])
        p = adjusted(distinct, pairs, groups, seed, some)
    else:
        p = _by_range(np.nan_to_num(distinct), pairs, groups, seed)
    table[pairs[:, 0], pairs[:, 1]] = table[pairs[:, 1], pairs[:, 0]] = p
    return table[np.ix_(place.ravel(), place.ravel())]


def _by_range(
    right: np.ndarray, pairs: np.ndarray, groups: np.ndarray | None, seed: int
) -> np.ndarray:
    sums = group_sums(right, groups)[0]
    sums = sums[(sums != sums[:, :1]).any(axis=1)].astype(np.float32)
    total = sums.sum(axis=0)
    ranges = [
        np.ptp(signs @ sums, axis=1)
        for signs in _signs(len(sums), seed, max(1, BLOCK // max(sums.shape)))
    ]
    ranged = np.sort(np.concatenate(ranges))
    gap = np.abs(total[pairs[:, 0]] - total[pairs[:, 1]])
    reached = len(ranged) - np.searchsorted(ranged, gap - CLOSE)
    seen = 0 if len(sums) <= ENUMERATED else 1
    return np.minimum((reached + seen) / (len(ranged) + seen), 1.0)


def between_drawn(value: np.ndarray, drawn: np.ndarray, units: int) -> np.ndarray:
    """(s, s) p-values that two systems differ in a metric, adjusted for all pairs: each difference
    of value (s,) in units of its spread over resamples drawn (b, s), against how far the largest of
    all moves there from what was seen (Westfall and Young 1993, single step). Below six units
    nothing is said."""
    s = len(value)
    table, pairs = np.ones((s, s)), all_pairs(s)
    if units < 6 or s < 2:
        return table
    a, b = pairs.T
    seen = value[a] - value[b]
    moved = drawn[:, a] - drawn[:, b] - seen
    moved = moved[np.isfinite(moved).all(axis=1)]
    spread = np.maximum(moved.std(axis=0), 1e-12)
    largest = np.abs(moved / spread).max(axis=1, initial=0)
    reached = (largest[:, None] >= np.abs(seen) / spread - CLOSE).sum(axis=0)
    table[a, b] = table[b, a] = (1 + reached) / (1 + len(moved))
    return table
