"""From decision values to probabilities, fitted on held-out decision values only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, softmax

__all__ = [
    "couple",
    "enough_folds",
    "held_out_folds",
    "held_out_scores",
    "platt",
    "softmax",
    "temperature",
]


ENOUGH = 4000
"""Held-out rows with which a temperature, and a sigmoid for each pair of classes, is as good as
with more."""
LEAST = 100
"""Held-out rows of each class, likewise."""


def held_out_folds(inner: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The folds of ``inner`` (n,) that a head holds out to calibrate itself on rows of the classes
    ``codes`` (n,), as ``enough_folds`` chooses them."""
    folds, number = np.unique(inner, return_inverse=True)
    counts = np.zeros((len(folds), int(codes.max()) + 1), dtype=np.int64)
    np.add.at(counts, (number, codes), 1)
    return enough_folds(folds, counts)


def enough_folds(folds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of ``folds`` (m,), rising, with ``counts`` (m, k) rows of each class: as few as hold
    ``ENOUGH`` rows and ``LEAST`` of each class that is there, else all.

    Numbered on a ring, those next to the fold that is missing, the one the head will answer, are
    taken first: what holds out f for the answers on g then holds out g for those on f.
    """
    m = len(folds)
    there = counts.sum(axis=0) > 0
    away = np.flatnonzero(folds != np.arange(m))
    missing = away[0] if len(away) else m
    for reach in range(1, (m + 1) // 2):
        near = np.unique(np.arange(missing - reach, missing + reach) % m)
        held = counts[near].sum(axis=0)
        if held.sum() >= ENOUGH and held[there].min() >= LEAST:
            return folds[near]
    return folds


def held_out_scores(
    fit_scores: Callable[[np.ndarray, np.ndarray], np.ndarray],
    inner: np.ndarray,
    width: int,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """(n, width) scores of each row by a model that did not see its inner fold; NaN in folds other
    than ``folds``.

    ``fit_scores(train, test)`` takes row numbers and gives the (len(test), width) scores.
    """
    scores = np.full((len(inner), width), np.nan)
    for fold in np.unique(inner) if folds is None else folds:
        test = np.flatnonzero(inner == fold)
        train = np.flatnonzero(inner != fold)
        if len(train):
            scores[test] = fit_scores(train, test)
    return scores


def temperature(scores: np.ndarray, codes: np.ndarray) -> float:
    """The multiplier a > 0 for which softmax(a * scores) fits best; argmax stays as it is.

    Temperature scaling (Guo et al. 2017) with targets smoothed as Platt smooths his, so that the
    multiplier stays finite on rows without an error. Rows with a score that is not finite (not held
    out, or a class absent from their training part) count towards the smoothing only; with no other
    the multiplier is 1.
    """
    from scipy.optimize import minimize_scalar

    n, k = scores.shape
    good = np.isfinite(scores).all(axis=1)
    scores, codes = scores[good], codes[good]
    if not len(scores):
        return 1.0
    unit = float(np.abs(scores).mean()) or 1.0
    scores = (scores - scores.max(axis=1, keepdims=True)) / unit
    target = np.full(scores.shape, 1.0 / (n + k) / (k - 1))
    target[np.arange(len(scores)), codes] = 1.0 - 1.0 / (n + k)
    toward, z = float((target * scores).sum()), np.empty_like(scores)

    def loss(log_a: float) -> float:  # a row's targets sum to 1, and no exponential overflows
        a = float(np.exp(log_a))
        np.exp(np.multiply(scores, a, out=z), out=z)
        return float(np.log(z.sum(axis=1)).sum()) - a * toward

    best = minimize_scalar(loss, bounds=(-4.0, 6.0), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x) / unit)


def platt(decision: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """(a, b) for which expit(a * decision + b) fits ``positive`` (n,) best.

    Platt's sigmoid with his smoothed targets, by Newton steps with backtracking (Lin, Lin, Weng
    2007).

    Rows whose decision is not finite, because they were not held out, count towards the smoothing
    only: without them, a sigmoid from half of the rows would be less sure of itself than one from
    all, with nothing having been seen against it (bench/README.md). One class alone, or no
    row, gives (1, 0): the plain logistic of the margin.
    """
    good = np.isfinite(decision)
    f, t = decision[good].astype(np.float64), positive[good]
    if t.all() or not t.any():
        return 1.0, 0.0
    up, down = int(positive.sum()), int((~positive).sum())
    target = np.where(t, (up + 1.0) / (up + 2.0), 1.0 / (down + 2.0))
    theta = np.array([0.0, np.log((up + 1.0) / (down + 1.0))])

    def loss(theta: np.ndarray) -> float:
        z = theta[0] * f + theta[1]  # log(1 + e^z), a third of np.logaddexp's time
        return float((np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))) - target * z).sum())

    now = loss(theta)
    for _ in range(100):
        p = expit(theta[0] * f + theta[1])
        slope = np.array([((p - target) * f).sum(), (p - target).sum()])
        if np.abs(slope).max() < 1e-5:
            break
        w = p * (1.0 - p)
        cross = (w * f).sum()
        curve = np.array([[(w * f * f).sum() + 1e-12, cross], [cross, w.sum() + 1e-12]])
        step = np.linalg.solve(curve, slope)
        size = 1.0
        while size > 1e-10 and loss(theta - size * step) > now - 1e-4 * size * (slope @ step):
            size /= 2.0
        if size <= 1e-10:
            break
        theta = theta - size * step
        now = loss(theta)
    return float(theta[0]), float(theta[1])


def couple(pairwise: np.ndarray, k: int) -> np.ndarray:
    """(m, k) probabilities from (m, k(k-1)/2) probabilities of class i against j, i < j.

    The second method of Wu, Lin and Weng (2004), which libsvm uses, as one linear system a row:
    minimise sum over pairs of (r_ji p_i - r_ij p_j)^2 under sum p = 1.
    """
    m = len(pairwise)
    r = np.zeros((m, k, k))
    i, j = np.triu_indices(k, 1)
    clipped = np.clip(pairwise, 1e-7, 1 - 1e-7)
    r[:, i, j], r[:, j, i] = clipped, 1.0 - clipped
    system = np.zeros((m, k + 1, k + 1))
    system[:, :k, :k] = -np.swapaxes(r, 1, 2) * r
    diagonal = np.arange(k)
    system[:, diagonal, diagonal] = (r**2).sum(axis=1)
    system[:, :k, k] = system[:, k, :k] = 1.0
    right = np.zeros((m, k + 1, 1))
    right[:, k] = 1.0
    p = np.maximum(np.linalg.solve(system, right)[:, :k, 0], 1e-12)
    return p / p.sum(axis=1, keepdims=True)
