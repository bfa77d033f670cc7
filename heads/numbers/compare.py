"""Two systems on the same rows: is one better, and which errors do they share?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import bdtr

__all__ = ["against_best", "compare", "group_intervals", "mcnemar", "resamples", "units_of"]

RESAMPLES = 2000
LEVEL = 0.05


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value (McNemar 1947, binomial form) that the rows on which one system alone
    is right fall to either side by chance."""
    n, low = only_a + only_b, min(only_a, only_b)
    return float(min(1.0, 2 * bdtr(low, n, 0.5))) if n else 1.0


def compare(
    a: np.ndarray,
    b: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resampled: np.ndarray | None = None,
) -> dict[str, Any]:
    """Systems a and b, (n, k) probabilities of the same held-out rows, against codes (n,).

    The difference of accuracies (a - b) and of log-losses with 95 % paired bootstrap intervals;
    whole groups are resampled where ``groups`` (n,) is given, since their rows are not independent.
    ``shared_errors``: rows both get wrong, of which ``same_answer`` with the same wrong class.
    resampled (r, 2): the means of both differences over resamples, from a caller that has them.
    """
    said_a, said_b = a.argmax(axis=1), b.argmax(axis=1)
    right_a, right_b = said_a == codes, said_b == codes
    both_wrong = ~right_a & ~right_b
    gain, loss = differences = _differences(a, b, codes)
    spread = _bootstrap(differences.T, groups, seed) if resampled is None else resampled
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "n": len(codes),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "shared_errors": int(both_wrong.sum()),
        "same_answer": int((both_wrong & (said_a == said_b)).sum()),
        "mcnemar_p": mcnemar(only_a, only_b),
        "accuracy_difference": _interval(gain, spread[:, 0]),
        "log_loss_difference": _interval(loss, spread[:, 1]),
        "resampled": "rows" if groups is None else "groups",
    }


def _differences(a: np.ndarray, b: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(2, n): a's right answers less b's, and a's loss less b's, row by row."""
    rows = np.arange(len(codes))
    gain = (a.argmax(axis=1) == codes).astype(float) - (b.argmax(axis=1) == codes)
    own, other = (np.log(np.maximum(p[rows, codes], 1e-15)) for p in (a, b))
    return np.stack([gain, other - own])


def _interval(values: np.ndarray, resampled: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def units_of(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """What is resampled: sums (u, c) of values (n, c) by group, or the rows themselves, and how
    many rows each unit has (u,)."""
    if groups is None:
        return values, np.ones(len(values), dtype=values.dtype)
    keys = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    sums = np.zeros((keys.max() + 1, values.shape[1]))
    np.add.at(sums, keys, values)
    return sums, np.bincount(keys).astype(float)


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


def _bootstrap(values: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """(RESAMPLES, c) means of the columns of values (n, c) over resampled rows or groups."""
    sums, sizes = units_of(values, groups)
    means = [(w @ sums) / (w @ sizes)[:, None] for w in resamples(len(sums), seed)]
    return np.concatenate(means)


def group_intervals(right: np.ndarray, groups: np.ndarray, seed: int = 0) -> list[dict[str, float]]:
    """95 % bootstrap intervals of s accuracies when whole groups are resampled. right (n, s)."""
    spread = _bootstrap(right.astype(float), groups, seed)
    count = len(np.unique(groups.astype(str)))
    low, high = np.quantile(spread, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return [{"low": float(a), "high": float(b), "groups": count} for a, b in zip(low, high)]


def against_best(
    board: Sequence[Mapping[str, Any]],
    proba: Mapping[str, np.ndarray],
    codes: np.ndarray,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The leading system against every other one, in the board's order, on the rows both answer.

    McNemar's p-values are adjusted for the number of comparisons (Holm 1979). The verdict is
    ``better`` when the adjusted p is below 5 % (and, with groups, the bootstrap interval of the
    difference excludes 0), else ``not distinguishable``. It is ``worse`` for one that answers
    fewer rows, or leads by the mean of repeats (``proba`` is of the first), and beats it here. That
    the leader was chosen for leading makes ``better`` a little too easy, never ``not
    distinguishable``.
    """
    if len(board) < 2:
        return []
    leader = board[0]["name"]
    others = [row["name"] for row in board[1:]]
    a = proba[leader]
    answers = {b: ~np.isnan(a[:, 0] + proba[b][:, 0]) for b in others}
    spreads: dict[str, np.ndarray] = {}
    for there in {own.tobytes(): own for own in answers.values()}.values():
        if not there.any():
            continue
        # One set of resamples serves all that answer the same rows: drawing them is the work
        alike = [b for b in others if (answers[b] == there).all()]
        values = [_differences(a[there], proba[b][there], codes[there]) for b in alike]
        some = None if groups is None else groups[there]
        spread = _bootstrap(np.concatenate(values).T, some, seed)
        spreads |= {b: spread[:, 2 * i : 2 * i + 2] for i, b in enumerate(alike)}
    out = []
    for b, own in spreads.items():
        there = answers[b]
        some = None if groups is None else groups[there]
        result = compare(a[there], proba[b][there], codes[there], some, seed, own)
        out.append({"a": leader, "b": b, **result})
    out.sort(key=lambda line: others.index(line["b"]))
    order = np.argsort([c["mcnemar_p"] for c in out], kind="stable")
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, out[i]["mcnemar_p"] * (len(out) - rank)))
        out[i]["adjusted_p"] = highest
    for line in out:
        gap, ahead = line["accuracy_difference"], line["only_a_right"] > line["only_b_right"]
        clear = line["adjusted_p"] < LEVEL
        if groups is not None:
            clear = clear and (gap["low"] > 0 if ahead else gap["high"] < 0)
        told = "better" if ahead else "worse"
        line["verdict"] = told if clear else "not distinguishable"
    return out
