"""Training parts, named by the folds that they leave out, and what is said of each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

__all__ = ["Part", "Scores", "Weigh", "kept", "parts_left_out", "places", "spread"]

Part = tuple[int, ...]

Scores = Mapping[Part, tuple[np.ndarray, np.ndarray | None]]
"""For each training part, scores of all rows (n, k) and of the test rows (m, k)."""

Weigh = dict[Part, np.ndarray]
"""For each training part that leaves out one fold, (d,) what the columns weigh."""


def parts_left_out(folds: int, calibrate: bool, full: bool, nested: bool = False) -> list[Part]:
    """The training parts that answering all folds takes: one a fold, or ``nested`` one a pair of
    folds, which serves either without the other; with ``calibrate`` those that leave out one fold
    more besides (where that leaves anything); with ``full`` the refit on all rows."""
    size = 1 + nested
    out: list[Part] = list(combinations(range(folds), size))
    if calibrate and folds > size + 1:
        out += combinations(range(folds), size + 1)
    return [*out, ()] if full else out


def places(part: Part) -> list[tuple[int, int]]:
    """What a part that leaves out one fold or two answers: (the fold without which it is nested, or
    0; the fold whose rows are answered)."""
    return [(0, f) for f in part] if len(part) < 2 else [(part[0], part[1]), (part[1], part[0])]


def kept(fold: np.ndarray, part: Part) -> np.ndarray:
    """(n,) bool: the rows of a training part, among rows in the folds (n,)."""
    return ~np.isin(fold, part)


def spread(proba: np.ndarray, answer: np.ndarray, fold: np.ndarray, first: int, part: Part) -> None:
    """Write a part's answer (m, k) on the rows of the folds (n,) that it leaves out into proba
    (e, n, k), whose entries of this repeat begin at ``first``."""
    rows = np.flatnonzero(np.isin(fold, part))
    for entry, f in places(part):
        of = fold[rows] == f
        proba[first + entry, rows[of]] = answer[of]
