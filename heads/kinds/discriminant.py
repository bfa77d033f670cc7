"""Linear discriminant analysis with a shrunk pooled covariance."""

from __future__ import annotations

import numpy as np

from headstock.heads.kinds.linear import Linear, Weights
from headstock.heads.kinds.strategies import Gram
from headstock.heads.solvers.descent import solve_positive

__all__ = ["discriminant", "intensity", "lda", "pairs_squared", "sampled", "shrinkage_of"]

SAMPLE = 128
"""Rows of a class up to which Ledoit and Wolf's formula is exact; of more, one of its terms is that
of so many. On the digits (144 rows a class) 48 changed the intensity by .02, 128 by .005."""


def shrinkage_of(centred: np.ndarray, codes: np.ndarray, k: int) -> float:
    """``intensity`` for rows ``centred`` (n, d) by the means of their classes, codes (n,) of k."""
    squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    of = [np.flatnonzero(codes == c) for c in range(k)]
    return intensity(
        np.bincount(codes, squares**2, k),
        np.bincount(codes, squares, k),
        np.array([pairs_squared(centred[own[sampled(len(own), k)]]) for own in of]),
        np.bincount(codes, minlength=k),
        centred.shape[1],
    )


def sampled(n: int, k: int) -> np.ndarray:
    """Which of the n rows of one of k classes stand for all in ``pairs_squared``, which takes their
    square in time: evenly spaced, and all of them up to ``SAMPLE`` (fewer with many classes)."""
    most = max(16, min(SAMPLE, 2048 // k))
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def pairs_squared(Z: np.ndarray) -> float:
    """The mean of (z.y)^2 over all pairs of different rows of Z (q, d); 0 for one row."""
    products = Z @ Z.T
    np.fill_diagonal(products, 0.0)
    return float(np.einsum("ij,ij->", products, products, dtype=np.float64)) / max(
        len(Z) * (len(Z) - 1), 1
    )


def intensity(
    fourth: np.ndarray, second: np.ndarray, pairs: np.ndarray, counts: np.ndarray, d: int
) -> float:
    """How far to go towards a multiple of the identity, 0 to 1: the mean over the classes, by their
    rows, of Ledoit and Wolf's (2004) intensity for the rows of one class, as scikit-learn's
    discriminant analysis shrinks each class.

    By class (k,): sums of |z|^4 and of |z|^2 over its rows z, centred by their mean; the mean of
    (z.y)^2 over pairs of different rows, from which comes the squared Frobenius norm of the class's
    covariance; rows. With the pooled covariance in place of the classes' own, which differ in
    shape, the formula is wrong in either direction.
    """
    square = (fourth + counts * (counts - 1) * pairs) / counts**2
    distance = square - second**2 / (counts**2 * d)
    error = (fourth / counts - square) / counts
    # One row, or rows that are one up to float32's rounding, tell no shape
    told = (counts > 1) & (second / counts > 1e-5 * second.sum() / counts.sum()) & (distance > 0)
    each = np.where(told, error / np.where(told, distance, 1.0), 1.0)
    return float((counts * np.clip(each, 0.0, 1.0)).sum() / counts.sum())


def lda(seed: int, shrinkage: float | str = "auto") -> Linear:
    """Gaussian classes with one covariance: the pooled within-class covariance of the standardised
    columns, shrunk towards a multiple of the identity by Ledoit and Wolf's intensity for a class
    (``auto``) or a number from 0 to 1; class shares as priors. Its posterior is linear, and too
    sure of itself where columns are many: the temperature mends that."""
    if shrinkage != "auto" and not (isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage={shrinkage} is neither auto nor a number from 0 to 1")

    def solve(Z: np.ndarray, codes: np.ndarray, k: int) -> Weights:
        n = len(Z)
        counts = np.bincount(codes, minlength=k)
        means = np.stack([Z[codes == c].mean(axis=0, dtype=np.float64) for c in range(k)])
        centred = Z - means[codes].astype(np.float32)
        scatter = (centred.T @ centred).astype(np.float64) / n
        share = shrinkage_of(centred, codes, k) if shrinkage == "auto" else float(shrinkage)
        return discriminant(scatter, means, counts / n, share)

    head = Linear(solve, calibrate=True, seed=seed)
    head.strategy = Gram("lda", shrinkage)
    return head


def discriminant(
    scatter: np.ndarray, means: np.ndarray, priors: np.ndarray, share: float
) -> Weights:
    """W (d, k), b (k,) from the pooled covariance (d, d), class means (k, d) and priors (k,)."""
    d = len(scatter)
    shrunk = (1.0 - share) * scatter
    shrunk[np.diag_indices(d)] += max(share * np.trace(scatter) / d, 1e-6)
    W = solve_positive(shrunk, means.T)
    b = np.log(priors) - 0.5 * np.einsum("kd,dk->k", means, W)
    return W, b
