"""The units in which a set's rows are held, and the sums of their columns by fold.

Every training part is scaled anew on its own rows, by algebra on what is held (``Shared``). That
is exact as long as no part's mean lies many of its standard deviations from 0: differences of
float32 numbers keep what is left of their digits. Units by all rows give that, but for odd columns
(a sentinel of 1e7 in one fold and ones in the others, a flag that one fold alone has): these are
held in units of the part in which they vary least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headstock.heads.engine.parts import Part, parts_left_out
from headstock.heads.solvers.scaling import FAR, moments, standardise
from headstock.heads.threads import by_rows

__all__ = ["FURTHEST", "SCALES_APART", "Held", "hold"]

SCALES_APART = "column {} of {} is on scales too far apart to share sums"
"""Why a set's answers are computed fold by fold."""

FAR_OFF = 8.0
"""Of its standard deviations, a part's mean from 0: from there a column is odd."""
FURTHEST = 30.0
"""Beyond, float32 products keep less than four digits, and no part's answer is shared."""
NARROW = 1e-3
"""The standard deviation of a part, in units of all rows, below which a column is odd."""


@dataclass
class Held:
    """A set's rows are held as (x - centre) / scale, (d,) each; a scale is 0 where all training
    rows have one value, and the column is left out.

    one, two (f, d): by fold, sums of the columns and of their squares; of_class (f, k, d): sums of
    each class's rows; float64. odd (s,): columns whose smallest and largest values in each fold,
    low and high (f, s), say exactly in which parts they are constant; no other is, in any.
    strained: a column that no units serve, or None.
    """

    centre: np.ndarray
    scale: np.ndarray
    one: np.ndarray
    two: np.ndarray
    of_class: np.ndarray
    odd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    strained: int | None = None

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(m, d) float32 of rows X (m, d)."""

        def some(rows: slice, out: np.ndarray, of: np.ndarray) -> None:
            out[rows] = standardise(of[rows], self.centre, self.scale)

        return by_rows(some, X)

    def constant(self, left: np.ndarray) -> np.ndarray:
        """(d,) bool: the columns with one value alone in the folds ``left``."""
        out = self.scale == 0
        out[self.odd] = self.low[left].min(axis=0) == self.high[left].max(axis=0)
        return out


def hold(
    X: np.ndarray, fold: np.ndarray, folds: int, codes: np.ndarray, k: int, nested: bool = False
) -> tuple[Held, np.ndarray]:
    """Units for X (n, d) of rows with fold (n,) and class codes (n,), and the rows in them."""
    parts = [*parts_left_out(folds, True, True), *parts_left_out(folds, True, False, nested)]
    parts = list(dict.fromkeys(part for part in parts if len(part) < folds))
    counts = np.bincount(fold, minlength=folds)
    none = np.empty((folds, 0), dtype=X.dtype)
    centre, scale = moments(X)
    held = Held(centre, scale, none, none, none, np.empty(0, np.int64), none, none)
    Z = held(X)
    held.one, held.two, held.of_class = _sums(Z, fold, folds, codes, k)
    odd = np.flatnonzero(_is_odd(held.one, held.two, counts, parts) & (held.scale > 0))
    if len(odd):
        _hold_odd(held, odd, X[:, odd], fold, parts)
        Z[:, odd] = some = standardise(X[:, odd], held.centre[odd], held.scale[odd])
        found = _sums(some, fold, folds, codes, k)
        held.one[:, odd], held.two[:, odd], held.of_class[:, :, odd] = found
        held.strained = _strained(held, some, counts, parts)
    return held, Z


def _sums(
    Z: np.ndarray, fold: np.ndarray, folds: int, codes: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d = Z.shape[1]
    one, two, of_class = np.empty((folds, d)), np.empty((folds, d)), np.zeros((folds, k, d))
    for f in range(folds):
        part, own = Z[fold == f], codes[fold == f]
        one[f] = part.sum(axis=0, dtype=np.float64)
        two[f] = np.einsum("ij,ij->j", part, part, dtype=np.float64)
        for c in np.unique(own):
            of_class[f, c] = part[own == c].sum(axis=0, dtype=np.float64)
    return one, two, of_class


def _is_odd(one: np.ndarray, two: np.ndarray, counts: np.ndarray, parts: list[Part]) -> np.ndarray:
    """(d,) bool: the columns that some part has far off, narrow or constant, in units of all
    rows."""
    out = np.zeros(one.shape[1], dtype=bool)
    first, second = one.sum(axis=0), two.sum(axis=0)
    for part in map(list, parts):
        n = counts.sum() - counts[part].sum()
        if n > 0:
            mean = (first - one[part].sum(axis=0)) / n
            variance = (second - two[part].sum(axis=0)) / n - mean**2
            out |= (variance < NARROW**2) | (mean**2 > FAR_OFF**2 * variance)
    return out


def _hold_odd(
    held: Held, odd: np.ndarray, X: np.ndarray, fold: np.ndarray, parts: list[Part]
) -> None:
    """Units of the columns X (n, s): the median, and the smallest standard deviation of a part."""
    by_fold = [X[fold == f] for f in range(len(held.one))]
    held.odd = odd
    held.low = np.stack([some.min(axis=0, initial=np.inf) for some in by_fold])
    held.high = np.stack([some.max(axis=0, initial=-np.inf) for some in by_fold])
    held.centre[odd] = centre = np.median(X.astype(np.float64), axis=0)
    counts = np.array([len(some) for some in by_fold])
    one = np.stack([(some - centre).sum(axis=0) for some in by_fold])
    two = np.stack([((some - centre) ** 2).sum(axis=0) for some in by_fold])
    least = np.full(len(odd), np.inf)
    for mean, variance, varies in _every_part(held, one, two, counts, parts):
        lost = (mean * 1e-8) ** 2  # what float64 cannot tell from 0 here
        np.minimum(least, np.sqrt(np.maximum(variance, lost)), out=least, where=varies)
    held.scale[odd] = np.where(np.isfinite(least) & (least > 0), least, 1.0)


def _strained(held: Held, Z: np.ndarray, counts: np.ndarray, parts: list[Part]) -> int | None:
    """The first of the odd columns, held as Z (n, s), that some part still has too far off."""
    bad = np.abs(Z).max(axis=0) >= FAR
    one, two = held.one[:, held.odd], held.two[:, held.odd]
    for mean, variance, varies in _every_part(held, one, two, counts, parts):
        bad |= varies & (mean**2 > FURTHEST**2 * variance)
    return int(held.odd[np.argmax(bad)]) if bad.any() else None


def _every_part(
    held: Held, one: np.ndarray, two: np.ndarray, counts: np.ndarray, parts: list[Part]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of the odd columns in each training part: mean, variance and whether they vary, (s,) each,
    from sums by fold (f, s): sums of what is left, for a sentinel leaves nothing of a difference.
    """
    every = np.arange(len(counts))
    for part in parts:
        left = np.setdiff1d(every, part)
        n = max(int(counts[left].sum()), 1)
        mean = one[left].sum(axis=0) / n
        varies = held.low[left].min(axis=0) < held.high[left].max(axis=0)
        yield mean, two[left].sum(axis=0) / n - mean**2, varies
