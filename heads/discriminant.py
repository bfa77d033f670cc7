"""Linear discriminant analysis with a shrunk pooled covariance."""

from __future__ import annotations

import numpy as np

from headstock.heads.linear import Linear, Weights
from headstock.heads.solvers import solve_positive

__all__ = ["discriminant", "intensity", "lda", "shrinkage_of"]


def shrinkage_of(centred: np.ndarray, scatter: np.ndarray) -> float:
    """Ledoit and Wolf's (2004) intensity for rows ``centred`` (n, d) and their covariance
    ``scatter`` (d, d): how far to go towards a multiple of the identity, 0 to 1."""
    n, d = centred.shape
    squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
    return intensity(float((squares**2).sum()), scatter, n, d)


def intensity(fourth: float, scatter: np.ndarray, n: int, d: int) -> float:
    """The same from sum |z_i|^4, for callers that have it already."""
    mu = np.trace(scatter) / d
    square = float(np.einsum("ij,ij->", scatter, scatter))
    distance = square - d * mu**2
    error = (fourth / n - square) / n
    return float(min(max(error / distance, 0.0), 1.0)) if distance > 0 else 1.0


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
        share = shrinkage_of(centred, scatter) if shrinkage == "auto" else float(shrinkage)
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
