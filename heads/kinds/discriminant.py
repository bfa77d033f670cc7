"""Linear discriminant analysis with a shrunk pooled covariance."""

from __future__ import annotations

import numpy as np

from headstock.heads.engine.solvers import solve_positive
from headstock.heads.kinds.linear import Linear, Weights

__all__ = ["discriminant", "intensity", "lda", "shrinkage_of"]


def shrinkage_of(centred: np.ndarray, scatter: np.ndarray, counts: np.ndarray) -> float:
    """``intensity`` for rows ``centred`` (n, d) by their classes' means."""
    squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    return intensity(
        float((squares**2).sum()),
        float(np.trace(scatter)),
        float(np.einsum("ij,ij->", scatter, scatter)),
        len(scatter),
        counts,
    )


def intensity(fourth: float, trace: float, norm: float, d: int, counts: np.ndarray) -> float:
    """How far to go towards a multiple of the identity, 0 to 1: the mean over the classes of Ledoit
    and Wolf's (2004) intensity for the rows of one class.

    fourth: sum of |z|^4 over all n rows, centred by class; trace and squared Frobenius norm of
    their covariance (d, d); counts (k,): rows a class. That each class asks for its own rows is
    what scikit-learn does; for the pooled rows alone the formula shrinks too little, since it takes
    the classes' shapes for the same. The squared norm of one class's covariance is not computed but
    estimated: from the pooled one's, less what n rows of noise add, plus what the class's rows add.
    With one class it is Ledoit and Wolf's formula itself.
    """
    n = counts.sum()
    mu = trace / d
    mean = fourth / n
    noiseless = (norm - mean / n) / (1 - 1 / n)
    square = noiseless + (mean - noiseless) / counts
    distance = square - d * mu**2
    each = np.where(distance > 0, (mean - square) / counts / np.where(distance > 0, distance, 1), 1)
    return float((counts * np.clip(each, 0.0, 1.0)).sum() / n)


def lda(seed: int, shrinkage: float | str = "auto") -> Linear:
    """Gaussian classes with one covariance: the pooled within-class covariance of the standardised
    columns, shrunk towards a multiple of the identity by Ledoit and Wolf's intensity (``auto``) or
    a number from 0 to 1; class shares as priors. Its posterior is
    linear, and too sure of itself where columns are many: the temperature mends that."""
    if shrinkage != "auto" and not (isinstance(shrinkage, int | float) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage={shrinkage} is neither auto nor a number from 0 to 1")

    def solve(Z: np.ndarray, codes: np.ndarray, k: int) -> Weights:
        n = len(Z)
        counts = np.bincount(codes, minlength=k)
        means = np.stack([Z[codes == c].mean(axis=0, dtype=np.float64) for c in range(k)])
        centred = Z - means[codes].astype(np.float32)
        scatter = (centred.T @ centred).astype(np.float64) / n
        share = shrinkage_of(centred, scatter, counts) if shrinkage == "auto" else float(shrinkage)
        return discriminant(scatter, means, counts / n, share)

    head = Linear(solve, calibrate=True, seed=seed)
    head.fast = {"how": "gram", "kind": "lda", "setting": shrinkage}
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
