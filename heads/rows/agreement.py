"""Copies that nobody named: where they are, a row's nearest neighbour in the other folds agrees
with its label far more often than the second nearest, whatever the features are worth.

Where labels follow the features, both neighbours agree about as often, for both are near. A copy is
one row and no more: of rows with copies in other folds the first neighbour agrees and the second
does as chance has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np

from headstock.heads.rows.labelled import Rows

__all__ = ["EXCESS", "LEVEL", "Agreement", "agreement_of", "neighbour_agreement"]

ROWS = 20_000
"""Of more rows so many are looked at: a share of the copies, and no more time."""
SAMPLE = 2048
"""Rows that are asked for their neighbours, at most."""
WIDTH = 256
"""Wider vectors are projected at random to so many values: distances stay within some percent."""
BLOCK = 512
EXCESS = 0.05
"""From here on it is said. Without copies .033 was the most on digits, wine, breast cancer, iris
and twelve mixtures of 2 to 100 columns; with a fifth of random-labelled rows copied, .08 to .25. It
is no proof where classes are many: of 20 to 300 Gaussian ones .23 was the most."""
LEVEL = 1e-3
"""The largest p of the sign test at which it is said."""


class Agreement(TypedDict):
    """Of ``rows`` that were asked: the shares whose nearest and whose second nearest row of another
    fold has their label, and the one-sided p of the sign test between the two."""

    rows: int
    nearest: float
    second: float
    p: float


def agreement_of(
    rows: Rows, folds: np.ndarray, sets: Iterable[str], seed: int = 0
) -> dict[str, Agreement]:
    """``neighbour_agreement`` in each set, of the rows that have one; folds (n,); of classes."""
    out: dict[str, Agreement] = {}
    if rows.numbers is not None:
        return out
    for name in sets:
        have = np.flatnonzero(rows.having([name]))
        if len(have) > ROWS:
            have = np.sort(np.random.default_rng(seed).choice(have, ROWS, replace=False))
        found = neighbour_agreement(rows.X[name][have], rows.codes[have], folds[have], seed)
        if found is not None:
            out[name] = found
    return out


def neighbour_agreement(
    X: np.ndarray, codes: np.ndarray, folds: np.ndarray, seed: int = 0
) -> Agreement | None:
    """Ask rows X (n, d) with labels codes (n,) in folds (n,) for their two nearest rows of other
    folds, columns standardised. Not asked is a row whose label no two rows of other folds have: its
    second cannot agree. None where no row is left to ask."""
    from scipy.stats import binom

    pairs = codes * (folds.max() + 1) + folds
    _, pair, count = np.unique(pairs, return_inverse=True, return_counts=True)
    asked = np.flatnonzero(np.bincount(codes)[codes] - count[pair] >= 2)
    if not len(asked):
        return None
    rng = np.random.default_rng(seed)
    spread = X.std(axis=0, dtype=np.float64)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0).astype(np.float32)
    Z = (X - X.mean(axis=0, dtype=np.float64).astype(np.float32)) * scale
    if Z.shape[1] > WIDTH:
        Z = Z @ (rng.standard_normal((Z.shape[1], WIDTH), dtype=np.float32) / np.sqrt(WIDTH))
    if len(asked) > SAMPLE:
        asked = rng.choice(asked, SAMPLE, replace=False)
    lengths = np.einsum("nd,nd->n", Z, Z)
    agree = np.empty((len(asked), 2), dtype=bool)
    for start in range(0, len(asked), BLOCK):
        some = asked[start : start + BLOCK]
        far = lengths - 2 * (Z[some] @ Z.T)
        far[folds[some][:, None] == folds] = np.inf
        two = np.argpartition(far, 1, axis=1)[:, :2]
        near = np.take_along_axis(two, np.take_along_axis(far, two, axis=1).argsort(axis=1), axis=1)
        agree[start : start + BLOCK] = codes[near] == codes[some][:, None]
    first, second = agree.T
    gained, lost = int((first & ~second).sum()), int((~first & second).sum())
    p = float(binom.sf(gained - 1, gained + lost, 0.5)) if gained + lost else 1.0
    return {
        "rows": len(asked), "nearest": float(first.mean()), "second": float(second.mean()), "p": p,
    }  # fmt: skip
