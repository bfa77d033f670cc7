"""What choosing the best of many systems by the rows that score them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headstock.heads.numbers.compare import LEVEL, resamples, units_of

__all__ = ["selection"]

SHOWN = 5


def selection(
    board: Sequence[Mapping[str, Any]],
    proba: Mapping[str, np.ndarray],
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How accurate "the best of these systems" is when other rows choose it; None of one system.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis 2018): the
    held-out rows (whole ``groups``, where given) are resampled, each resample chooses the system
    with the fewest errors in it, and the rows it left out score that one. ``nested`` is the mean of
    these scores with the range of 95 % of them, ``apparent`` the leader's accuracy on the rows that
    made it leader, ``optimism`` the difference; ``wins`` says how often each system was chosen.
    Only systems that answer every row take part.
    """
    names = [str(r["name"]) for r in board if np.isfinite(proba[str(r["name"])]).all()]
    if len(names) < 2:
        return None
    right = np.stack([proba[name].argmax(axis=1) == codes for name in names], axis=1)
    sums, sizes = units_of(right.astype(np.float32), groups)
    scores: list[np.ndarray] = []
    wins = np.zeros(len(names), dtype=np.int64)
    for weight in resamples(len(sums), seed):
        chosen = ((weight @ sums) / (weight @ sizes)[:, None]).argmax(axis=1)
        out = (weight == 0).astype(np.float32)
        left = out @ sizes
        good = left > 0
        score = (out @ sums)[np.arange(len(out)), chosen]
        scores.append(score[good] / left[good])
        wins += np.bincount(chosen, minlength=len(names))
    told = np.concatenate(scores)
    if not len(told):
        return None
    low, high = np.quantile(told, [LEVEL / 2, 1 - LEVEL / 2])
    apparent = float(right[:, 0].mean())
    order = np.argsort(-wins, kind="stable")[:SHOWN]
    return {
        "leader": names[0],
        "systems": len(names),
        "apparent": apparent,
        "nested": {"value": float(told.mean()), "low": float(low), "high": float(high)},
        "optimism": apparent - float(told.mean()),
        "wins": [[names[i], float(wins[i] / wins.sum())] for i in order if wins[i]],
        "resampled": "rows" if groups is None else "groups",
    }
