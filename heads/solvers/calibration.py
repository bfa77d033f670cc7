"""From decision values to probabilities, fitted on held-out decision values only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import softmax

__all__ = [
    "UNCALIBRATED",
    "couple",
    "enough_folds",
    "held_out_folds",
    "held_out_scores",
    "none_left",
    "platt",
    "softmax",
    "temperature",
]


UNCALIBRATED = "its probabilities are not calibrated"
"""What a head without held-out rows has to say (``none_left``)."""
ENOUGH = 4000
"""Held-out rows with which a temperature, and a sigmoid for each pair of classes, is as good as
with more."""
LEAST = 100
"""Held-out rows of each class, likewise."""
TOGETHER = 1 << 17
"""Entries of the systems of ``couple`` at once: they stay in cache, however many classes."""


def none_left(unheld: str) -> str:
    """A note that of two folds none is left inside, and what became of the head: ``unheld``."""
    return f"two folds leave none to hold out inside: {unheld}; use 3 or more"


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


def platt(decision: np.ndarray, positive: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(p, 2): a and b for which expit(a * decision + b) fits ``positive`` (n,) best, for each of
    p problems that stand one after the other in the rows, from ``starts`` (p,) on.

    Platt's sigmoid with his smoothed targets, by Newton steps with backtracking (Lin, Lin, Weng
    2007), all problems in the same operations on arrays: two threads that each took them one by one
    would wait for the interpreter most of the time.

    Rows whose decision is not finite, because they were not held out, count towards the smoothing
    only: without them, a sigmoid from half of the rows would be less sure of itself than one from
    all, with nothing having been seen against it (bench/README.md). One class alone, or no
    row, gives (1, 0): the plain logistic of the margin.
    """
    count = len(starts)
    of = np.repeat(np.arange(count), np.diff(starts, append=len(decision)))
    up, down = (np.bincount(of[x], minlength=count) for x in (positive, ~positive))
    good = np.isfinite(decision)
    f, t, of = decision[good].astype(np.float64), positive[good], of[good]
    both = np.all([np.bincount(of[x], minlength=count) > 0 for x in (t, ~t)], axis=0)
    target = np.where(t, ((up + 1.0) / (up + 2.0))[of], (1.0 / (down + 2.0))[of])
    out = np.tile([1.0, 0.0], (count, 1))
    out[both] = np.stack([np.zeros(count), np.log((up + 1.0) / (down + 1.0))], axis=1)[both]

    live = np.flatnonzero(both)
    for _ in range(100):
        there = np.isin(of, live)
        f, target, of = f[there], target[there], of[there]
        if not len(f):
            break
        live = _newton(f, target, np.searchsorted(of, live), out, live)
    return out


def _newton(
    f: np.ndarray, target: np.ndarray, starts: np.ndarray, theta: np.ndarray, live: np.ndarray
) -> np.ndarray:
    """One step of each problem of ``live`` in theta (p, 2), whose rows begin at ``starts``; those
    that are to take another."""
    lengths = np.diff(starts, append=len(f))

    def losses(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = np.repeat(theta, lengths, axis=0).T
        z = a * f + b
        small = np.exp(-np.abs(z))  # log(1 + e^z), a third of np.logaddexp's time
        each = np.maximum(z, 0.0) + np.log1p(small) - target * z
        return np.add.reduceat(each, starts), np.where(z < 0, small, 1.0) / (1.0 + small)

    before = theta[live]
    now, p = losses(before)
    w = p * (1.0 - p)
    wf, r = w * f, p - target
    terms = np.add.reduceat(np.stack([r * f, r, wf * f, wf, w]), starts, axis=1)
    slope, (ff, cross, flat) = terms[:2].T, terms[2:]
    curve = np.stack([ff + 1e-12, cross, cross, flat + 1e-12], axis=1).reshape(-1, 2, 2)
    step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
    down = (slope * step).sum(axis=1)
    going = np.abs(slope).max(axis=1) >= 1e-5
    size = np.where(going, 1.0, 0.0)
    while True:
        ahead, _ = losses(before - size[:, None] * step)
        bad = (size > 1e-10) & (ahead > now - 1e-4 * size * down)
        if not bad.any():
            break
        size[bad] /= 2.0
    going &= size > 1e-10
    theta[live[going]] -= (size[:, None] * step)[going]
    return live[going]


def couple(pairwise: np.ndarray, k: int) -> np.ndarray:
    """(m, k) probabilities from (m, k(k-1)/2) probabilities of class i against j, i < j.

    The second method of Wu, Lin and Weng (2004), which libsvm uses: minimise p.Q p, the sum over
    pairs of (r_ji p_i - r_ij p_j)^2, under sum p = 1. There Q p is the same for all classes, so p
    is (Q + 1)^-1 1 but for its length: one linear system a row, regular where Q is not.
    """
    out, diagonal = np.empty((len(pairwise), k)), np.arange(k)
    i, j = np.triu_indices(k, 1)
    step = max(1, TOGETHER // k**2)
    for s in range(0, len(pairwise), step):
        clipped = np.clip(pairwise[s : s + step], 1e-7, 1 - 1e-7)
        r = np.zeros((len(clipped), k, k))
        r[:, i, j], r[:, j, i] = clipped, 1.0 - clipped
        system = 1.0 - np.swapaxes(r, 1, 2) * r
        system[:, diagonal, diagonal] += (r**2).sum(axis=1)
        out[s : s + step] = np.linalg.solve(system, np.ones((k, 1)))[:, :, 0]
    out = np.maximum(out / out.sum(axis=1, keepdims=True), 1e-12)
    return out / out.sum(axis=1, keepdims=True)
