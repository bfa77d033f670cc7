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
from headstock.heads.engine.shared import Part, parts_left_out
from headstock.heads.engine.solvers import solve_positive
from headstock.heads.kinds.calibration import softmax, temperature
from headstock.heads.kinds.discriminant import discriminant, intensity
from headstock.store.errors import HeadError

__all__ = ["Moments", "Weights", "learn"]

SAMPLE = 20_000_000
"""Scores (rows times classes) that a temperature is fitted on at most: beyond, on a sample of the
rows, the same in every pass."""
PASSES = 300
"""Passes over the rows that L-BFGS may take."""


@dataclass
class Moments:
    """By fold: rows of each class (f, k), their sums (f, k, d), products of columns (f, d, d) or
    sums of squares (f, d), all of (X - shift) / unit, which keeps float32 products exact enough."""

    shift: np.ndarray
    unit: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    gram: np.ndarray | None

    def left(self, part: Part) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.counts)), part)

    def scaling(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(d,) mean and standard deviation of a training part; a constant column has 1."""
        left = self.left(part)
        n = self.counts[left].sum()
        mean = self.sums[left].sum(axis=(0, 1)) / n
        variance = self.squares[left].sum(axis=0) / n - mean**2
        return mean, np.sqrt(np.where(variance < 1e-9, 1.0, variance))

    def means(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """(k,) rows and (k, d) means of each class in a training part."""
        left = self.left(part)
        counts = self.counts[left].sum(axis=0)
        return counts, self.sums[left].sum(axis=0) / np.maximum(counts, 1)[:, None]

    def __call__(self, X: np.ndarray) -> np.ndarray:
        return ((X - self.shift) * (1.0 / self.unit)).astype(np.float32)


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
    f, k, d = rows.folds, len(rows.classes), rows.dim
    made = None
    for block in rows.blocks():
        if made is None:
            unit = block.X.std(axis=0, dtype=np.float64)
            made = Moments(
                shift=block.X.mean(axis=0, dtype=np.float64),
                unit=np.where(unit < 1e-12, 1.0, unit),
                counts=np.zeros((f, k), np.int64),
                sums=np.zeros((f, k, d)),
                squares=np.zeros((f, d)),
                gram=np.zeros((f, d, d)) if gram else None,
            )
        Z = made(block.X)
        np.add.at(made.counts, (block.fold, block.codes), 1)
        for fold in np.unique(block.fold).tolist():
            own = block.fold == fold
            part, codes = Z[own], block.codes[own]
            if made.gram is not None:
                made.gram[fold] += part.T @ part
            made.squares[fold] += np.einsum("ij,ij->j", part, part, dtype=np.float64)
            order = np.argsort(codes, kind="stable")
            starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
            sums = np.add.reduceat(part[order].astype(np.float64), starts, axis=0)
            made.sums[fold][codes[order][starts]] += sums
    assert made is not None
    if (made.counts.sum(axis=1) == 0).any():
        raise HeadError("folds", f"{f} folds, and one has no row", "use fewer")
    return made


def _closed_form(
    rows: Streamed, moments: Moments, parts: Sequence[Part], head: str, setting: Any
) -> dict[Part, Weights]:
    """``lda`` or ``ridge`` of each training part."""
    assert moments.gram is not None
    auto = head == "lda" and setting == "auto"
    fourth = _fourth_moments(rows, moments, parts) if auto else {}
    total, out = moments.gram.sum(axis=0), {}
    for part in parts:
        every, class_means = moments.means(part)
        there = np.flatnonzero(every)
        counts, means = every[there], class_means[there]
        mean, scale = moments.scaling(part)
        n, inverse = counts.sum(), 1.0 / scale
        gram = total - sum(moments.gram[f] for f in part)
        if head == "lda":
            gram -= (means.T * counts) @ means
            gram *= np.outer(inverse, inverse) / n
            means = (means - mean) * inverse
            share = 0.0 if auto else float(setting)
            if auto:
                trace, norm = float(np.trace(gram)), float(np.einsum("ij,ij->", gram, gram))
                share = intensity(fourth[part], trace, norm, len(gram), counts)
            W, b = discriminant(gram, means, counts / n, share)
        else:
            gram -= n * np.outer(mean, mean)
            gram *= np.outer(inverse, inverse)
            gram[np.diag_indices(len(gram))] += float(setting) * n / 10.0
            target = counts[:, None] * (means - mean) * inverse
            W, b = solve_positive(gram, target.T), counts / n
        out[part] = _placed(W * inverse[:, None], b, mean, there, len(rows.classes))
    return out


def _placed(W: np.ndarray, b: np.ndarray, mean: np.ndarray, there: np.ndarray, k: int) -> Weights:
    """Weights of the classes ``there`` among all k; the mean moves into the intercepts."""
    wide, low = np.zeros((len(W), k)), np.full(k, -np.inf)
    wide[:, there], low[there] = W, b - mean @ W
    return Weights(wide, low)


def _fourth_moments(rows: Streamed, moments: Moments, parts: Sequence[Part]) -> dict[Part, float]:
    """Sum over a part's rows of |(z - its class's mean) / scale|^4."""
    means = {part: moments.means(part)[1].astype(np.float32) for part in parts}
    inverse = {part: (1.0 / moments.scaling(part)[1]).astype(np.float32) for part in parts}
    out = dict.fromkeys(parts, 0.0)
    for block in rows.blocks():
        Z = moments(block.X)
        for part in parts:
            own = ~np.isin(block.fold, part)
            centred = (Z[own] - means[part][block.codes[own]]) * inverse[part]
            norm = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
            out[part] += float((norm**2).sum())
    return out


def _descent(
    rows: Streamed, moments: Moments, parts: Sequence[Part], C: float, tol: float
) -> dict[Part, Weights]:
    """Multinomial logistic regression of each training part, all parts in the same passes."""
    from scipy.optimize import minimize

    d, k, p = rows.dim, len(rows.classes), len(parts)
    scaling = [moments.scaling(part) for part in parts]
    every = [moments.means(part)[0] for part in parts]
    n = np.array([c.sum() for c in every], dtype=np.float64)
    twice = np.array([2.0 if (c > 0).sum() == 2 else 1.0 for c in every])
    penalty = twice / (C * n)  # as solvers: scikit-learn's penalty for two classes
    low = [np.where(c > 0, 0.0, -np.inf) for c in every]

    def placed(theta: np.ndarray, i: int) -> Weights:
        mean, scale = scaling[i]
        W = theta[:-1] / scale[:, None]
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
        for i, (mean, scale) in enumerate(scaling):
            slope[i, :-1] = (raw[i] - mean[:, None] * slope[i, -1]) / scale[:, None]
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
