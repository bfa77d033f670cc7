"""What choosing the best of many systems by the rows that score them is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.numbers.compare import rights
from headstock.heads.numbers.intervals import Spread, group_sums, share_ends, spread_of

__all__ = ["resamples", "selection"]

RESAMPLES = 2000
SHOWN = 5


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


def selection(
    board: Sequence[Mapping[str, Any]],
    proba: Mapping[str, np.ndarray],
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How accurate "the best of these systems" is when other rows choose it; None of one system.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis 2018): the
    held-out rows (whole ``groups``, where given) are resampled, each resample chooses the systems
    with the fewest errors in it, and the rows it left out score them; systems that tie count alike,
    for any order among them would come from the rows that were left out. proba: (n, k) or, of r
    repeats, (r, n, k). ``nested`` is the mean of these scores, with a 95 % interval by what each
    row was given by the resamples that left it out; ``apparent`` the leader's accuracy on the rows
    that made it leader, ``optimism`` the difference; ``wins`` says how often each system was
    chosen. Only systems that answer every row take part.
    """
    whole = {name: p[None] if p.ndim == 2 else p for name, p in proba.items()}
    names = [str(r["name"]) for r in board if np.isfinite(whole[str(r["name"])]).all()]
    if len(names) < 2:
        return None
    repeats = len(whole[names[0]])
    right = np.stack([rights(whole[name], codes) for name in names], axis=1)
    sums, sizes = (part.astype(np.float32) for part in group_sums(right, groups))
    given, seen = np.zeros(len(sums)), np.zeros(len(sums))
    wins = np.zeros(len(names))
    for weight in resamples(len(sums), seed):
        score = weight @ sums  # whole numbers: that two are equal is exact
        best = score == score.max(axis=1, keepdims=True)
        chosen = best / best.sum(axis=1, keepdims=True, dtype=np.float32)
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
    ends = share_ends(np.array([value * len(codes)]), len(codes), spread)
    low, high = (float(end[0]) for end in ends)
    apparent = float(right[:, 0].mean()) / repeats
    order = np.argsort(-wins, kind="stable")[:SHOWN]
    return {
        "leader": names[0],
        "systems": len(names),
        "apparent": apparent,
        "nested": {"value": value, "low": low, "high": high},
        "optimism": apparent - value,
        "wins": [[names[i], float(wins[i])] for i in order if wins[i]],
        "by": "rows" if groups is None else "groups",
    }


def _spread(right: np.ndarray, groups: np.ndarray | None, wins: np.ndarray) -> Spread:
    """Of one system drawn as often as wins (s,) say."""
    each = spread_of(right, groups)
    middle = (wins * each.mean).sum()
    error = np.sqrt((wins * (each.error**2 + (each.mean - middle) ** 2)).sum())
    return each._replace(mean=np.array([middle]), error=np.array([error]))
