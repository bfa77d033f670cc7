"""Linear heads learned by passes over blocks of rows.

``lda`` and ``ridge`` need the moments of the rows, ``logistic`` their gradient: sums over rows,
which blocks add up one after another. Memory is a block, d x d for each fold (lda, ridge) and the
weights; never the rows. The numbers are those of the same heads in memory, up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.heads.blockwise.blocks import Streamed
from headstock.heads.engine.held import FURTHEST
from headstock.heads.engine.parts import Part, parts_left_out
from headstock.heads.kinds.discriminant import discriminant, intensity, pairs_squared, sampled
from headstock.heads.solvers.calibration import softmax, temperature
from headstock.heads.solvers.descent import solve_positive
from headstock.heads.solvers.scaling import Standard, inverse, standardise
from headstock.store.errors import HeadError

__all__ = ["Moments", "Weights", "learn"]

SAMPLE = 20_000_000
"""Scores (rows times classes) that a temperature is fitted on at most: beyond, on a sample of the
rows, the same in every pass."""
PASSES = 300
"""Passes over the rows that L-BFGS may take."""


@dataclass
class Moments:
    """By fold: rows of each class (f, k), their sums (f, k, d), sums of squares and products of
    columns (f, d) and (f, d, d), all of (X - shift) / unit, which keeps float32 products exact
    enough; the smallest and largest values, low and high (f, d), of X as it is."""

    shift: np.ndarray
    unit: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gram: np.ndarray | None

    def left(self, part: Part) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.counts)), part)

    def scaling(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(d,) mean and standard deviation of a training part; a constant column has 0."""
        left = self.left(part)
        n = self.counts[left].sum()
        mean = self.sums[left].sum(axis=(0, 1)) / n
        variance = self.squares[left].sum(axis=0) / n - mean**2
        constant = self.low[left].min(axis=0) == self.high[left].max(axis=0)
        return mean, np.where(constant, 0.0, np.sqrt(np.maximum(variance, 0.0)))

    def means(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(k,) rows and (k, d) means of each class in a training part."""
        left = self.left(part)
        counts = self.counts[left].sum(axis=0)
        return counts, self.sums[left].sum(axis=0) / np.maximum(counts, 1)[:, None]

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return standardise(X, self.shift, self.unit)


@dataclass
class Weights:
    """A training part's answer: (d, k) and (k,) on what ``Moments`` makes of X, minus infinity for
    classes that the part has not, and the multiplier of its scores."""

    W: np.ndarray
    b: np.ndarray
    multiplier: float = 1.0

    def scores(self, Z: np.ndarray) -> np.ndarray:
        return Z @ self.W.astype(np.float32) + self.b

    def proba(self, Z: np.ndarray) -> np.ndarray:
        return softmax(self.multiplier * self.scores(Z), axis=1)


def _moments(rows: Streamed, gram: bool) -> Moments:
    """Of units by the first block; where they put a part's mean far off, of its own units."""
    first = Standard.of(next(iter(rows.blocks())).X)
    shift, unit = first.mean, np.where(first.scale > 0, first.scale, 1.0)
    for _ in range(3):
        made = _pass(rows, shift, unit, gram)
        better = _units(made)
        if better is None:
            break
        shift, unit = better
    return made


def _pass(rows: Streamed, shift: np.ndarray, unit: np.ndarray, gram: bool) -> Moments:
    f, k, d = rows.folds, len(rows.classes), rows.dim
    made = Moments(
        shift, unit, np.zeros((f, k), np.int64), np.zeros((f, k, d)), np.zeros((f, d)),
        np.full((f, d), np.inf), np.full((f, d), -np.inf), np.zeros((f, d, d)) if gram else None,
    )  # fmt: skip
    for block in rows.blocks():
        Z = made(block.X)
        np.add.at(made.counts, (block.fold, block.codes), 1)
        for fold in np.unique(block.fold).tolist():
            own = block.fold == fold
            part, codes = Z[own], block.codes[own]
            if made.gram is not None:
                made.gram[fold] += part.T @ part
            made.squares[fold] += np.einsum("ij,ij->j", part, part, dtype=np.float64)
            for of, least in ((made.low, np.minimum), (made.high, np.maximum)):
                least(of[fold], least.reduce(block.X[own], axis=0), out=of[fold])
            order = np.argsort(codes, kind="stable")
            starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
            sums = np.add.reduceat(part[order].astype(np.float64), starts, axis=0)
            made.sums[fold][codes[order][starts]] += sums
    if (made.counts.sum(axis=1) == 0).any():
        raise HeadError("folds", f"{f} folds, and one has no row", "use fewer")
    return made


def _units(moments: Moments) -> tuple[np.ndarray, np.ndarray] | None:
    """Shift and unit with those columns by the part in which they vary least whose mean lies far
    off in it; None where there is none."""
    least, middle = np.full(len(moments.shift), np.inf), np.zeros(len(moments.shift))
    off = np.zeros(len(moments.shift), dtype=bool)
    for part in parts_left_out(len(moments.counts), True, True):
        mean, scale = moments.scaling(part)
        off |= (scale > 0) & (np.abs(mean) > FURTHEST * scale)
        middle = np.where((scale > 0) & (scale < least), mean, middle)
        least = np.where(scale > 0, np.minimum(scale, least), least)
    if not off.any():
        return None
    shift = np.where(off, moments.shift + moments.unit * middle, moments.shift)
    return shift, np.where(off, moments.unit * np.maximum(least, 1e-7), moments.unit)


def _closed_form(
    rows: Streamed, moments: Moments, parts: Sequence[Part], head: str, setting: Any
) -> dict[Part, Weights]:
    """``lda`` or ``ridge`` of each training part."""
    assert moments.gram is not None
    auto = head == "lda" and setting == "auto"
    shares = _intensities(rows, moments, parts) if auto else {}
    out = {}
    for part in parts:
        every, class_means = moments.means(part)
        there = np.flatnonzero(every)
        counts, means = every[there], class_means[there]
        mean, scale = moments.scaling(part)
        n, factor = counts.sum(), inverse(scale)
        first, *others = moments.left(part)
        gram = moments.gram[first].copy()
        for f in others:
            gram += moments.gram[f]
        if head == "lda":
            gram -= (means.T * counts) @ means
            gram *= np.outer(factor, factor) / n
            means = (means - mean) * factor
            share = shares[part] if auto else float(setting)
            W, b = discriminant(gram, means, counts / n, share)
        else:
            gram -= n * np.outer(mean, mean)
            gram *= np.outer(factor, factor)
            gram[np.diag_indices(len(gram))] += float(setting) * n / 10.0
            target = counts[:, None] * (means - mean) * factor
            W, b = solve_positive(gram, target.T), counts / n
        out[part] = _placed(W * factor[:, None], b, mean, there, len(rows.classes))
    return out


def _placed(W: np.ndarray, b: np.ndarray, mean: np.ndarray, there: np.ndarray, k: int) -> Weights:
    """Weights of the classes ``there`` among all k; the mean moves into the intercepts."""
    wide, low = np.zeros((len(W), k)), np.full(k, -np.inf)
    wide[:, there], low[there] = W, b - mean @ W
    return Weights(wide, low)


def _intensities(rows: Streamed, moments: Moments, parts: Sequence[Part]) -> dict[Part, float]:
    """``intensity`` of each part, in one pass: sums over its rows z, centred by their class and
    scaled, and those rows of each class that stand for its pairs."""
    k = len(rows.classes)
    codes, fold = rows.codes[rows.fold >= 0], rows.fold[rows.fold >= 0]
    means = {part: moments.means(part)[1].astype(np.float32) for part in parts}
    factor = {part: inverse(moments.scaling(part)[1]).astype(np.float32) for part in parts}
    power = {part: np.zeros((2, k)) for part in parts}  # sums of |z|^2 and of |z|^4
    chosen: dict[Part, np.ndarray] = {}
    for part in parts:
        mine = ~np.isin(fold, part)
        of = [np.flatnonzero(mine & (codes == c)) for c in range(k)]
        of = [own for own in of if len(own)]
        chosen[part] = np.sort(np.concatenate([own[sampled(len(own), len(of))] for own in of]))
    kept = {part: np.empty((len(own), rows.dim), np.float32) for part, own in chosen.items()}
    start = 0
    for block in rows.blocks():
        Z = moments(block.X)
        for part in parts:
            own = np.flatnonzero(~np.isin(block.fold, part))
            centred = (Z[own] - means[part][block.codes[own]]) * factor[part]
            norm = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
            for row, each in zip(power[part], (norm, norm**2)):
                row += np.bincount(block.codes[own], each, k)
            to = slice(*np.searchsorted(chosen[part], [start, start + len(Z)]))
            kept[part][to] = centred[np.searchsorted(own, chosen[part][to] - start)]
        start += len(Z)
    out = {}
    for part in parts:
        counts = moments.means(part)[0]
        there, own = np.flatnonzero(counts), codes[chosen[part]]
        pairs = [pairs_squared(kept[part][own == c]) for c in there]
        second, fourth = power[part][:, there]
        out[part] = intensity(fourth, second, np.array(pairs), counts[there], rows.dim)
    return out


def _descent(
    rows: Streamed, moments: Moments, parts: Sequence[Part], C: float, tol: float
) -> dict[Part, Weights]:
    """Multinomial logistic regression of each training part, all parts in the same passes."""
    from scipy.optimize import minimize

    d, k, p = rows.dim, len(rows.classes), len(parts)
    scaling = [(mean, inverse(scale)) for mean, scale in map(moments.scaling, parts)]
    every = [moments.means(part)[0] for part in parts]
    n = np.array([c.sum() for c in every], dtype=np.float64)
    twice = np.array([2.0 if (c > 0).sum() == 2 else 1.0 for c in every])
    penalty = twice / (C * n)  # as solvers: scikit-learn's penalty for two classes
    low = [np.where(c > 0, 0.0, -np.inf) for c in every]

    def placed(theta: np.ndarray, i: int) -> Weights:
        mean, factor = scaling[i]
        W = theta[:-1] * factor[:, None]
        return Weights(W, theta[-1] - mean @ W + low[i])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(p, d + 1, k)
        value, slope = 0.0, np.zeros_like(theta)
        weights = [placed(theta[i], i) for i in range(p)]
        raw = np.zeros((p, d, k))
        for block in rows.blocks():
            Z = moments(block.X)
            for i, part in enumerate(parts):
                own = ~np.isin(block.fold, part)
                z, codes = weights[i].scores(Z[own]), block.codes[own]
                z -= z.max(axis=1, keepdims=True)
                each = np.arange(len(z))
                picked = z[each, codes]
                np.exp(z, out=z)
                total = z.sum(axis=1)
                value += float((np.log(total) - picked).sum()) / n[i]
                z /= total[:, None] * n[i]
                z[each, codes] -= 1.0 / n[i]
                raw[i] += Z[own].T @ z.astype(np.float32)
                slope[i, -1] += z.sum(axis=0)
        for i, (mean, factor) in enumerate(scaling):
            slope[i, :-1] = (raw[i] - mean[:, None] * slope[i, -1]) * factor[:, None]
            slope[i, :-1] += penalty[i] * theta[i, :-1]
            value += 0.5 * penalty[i] * float((theta[i, :-1] ** 2).sum())
        return value, slope.ravel()

    found = minimize(
        loss, np.zeros(p * (d + 1) * k), jac=True, method="L-BFGS-B",
        options={"gtol": tol, "ftol": 1e-12, "maxcor": 10, "maxiter": PASSES, "maxfun": PASSES},
    )  # fmt: skip
    theta = found.x.reshape(p, d + 1, k)
    return {part: placed(theta[i], i) for i, part in enumerate(parts)}


def _temperatures(
    rows: Streamed, moments: Moments, weights: Mapping[Part, Weights], asked: Sequence[Part]
) -> None:
    """Fit the multiplier of each part of ``asked`` on what the parts that leave out one fold more
    say of that fold."""
    k = len(rows.classes)
    n = int((rows.fold >= 0).sum())
    share = SAMPLE / max(1, n * k)
    held: dict[Part, list[np.ndarray]] = {part: [] for part in asked}
    codes: dict[Part, list[np.ndarray]] = {part: [] for part in asked}
    # the low bits chose the fold: turned about, the high ones choose the sample
    for block in rows.blocks():
        Z = moments(block.X)
        sampled = (block.mark.byteswap() >> np.uint64(11)) * 2.0**-53 < share
        for part in asked:
            for fold in moments.left(part).tolist():
                inner = tuple(sorted((*part, fold)))
                own = np.flatnonzero(sampled & (block.fold == fold))
                if inner in weights and len(own):
                    held[part].append(weights[inner].scores(Z[own]))
                    codes[part].append(block.codes[own])
    for part in asked:
        if not held[part]:
            continue
        there = np.flatnonzero(moments.means(part)[0])
        true = np.concatenate(codes[part])
        scores = np.concatenate(held[part])[:, there]
        known = np.isin(true, there)
        weights[part].multiplier = temperature(scores[known], np.searchsorted(there, true[known]))


def learn(
    rows: Streamed, head: str, options: Mapping[str, Any], full: bool, folds: bool
) -> tuple[Moments, dict[Part, Weights]]:
    """The weights of all rows (``full``) and of each fold's training rows (``folds``)."""
    calibrate = head != "logistic"
    parts = parts_left_out(rows.folds, calibrate and folds, full)
    if not folds and not calibrate:
        parts = [()]
    moments = _moments(rows, gram=calibrate)
    if calibrate:
        setting = options["shrinkage" if head == "lda" else "alpha"]
        weights = _closed_form(rows, moments, parts, head, setting)
        asked = [p for p in parts if (p == () and full) or (len(p) == 1 and folds)]
        _temperatures(rows, moments, weights, asked)
    else:
        weights = _descent(rows, moments, parts, float(options["C"]), float(options["tol"]))
    return moments, weights
