"""Kernel machines on landmarks, where a whole kernel would not fit in memory.

Nystroem's approximation (Williams and Seeger 2001): the kernel is replaced by products of L
features a row, those of its similarity to L random training rows, whitened; in them the machine is
linear, and is found by dual coordinate descent (Hsieh et al. 2008). Memory is 4 n L bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from headstock.heads.threads import beside, threads

__all__ = ["Landmarks", "least_squares", "linear_machines"]

TOLERANCE = 0.05
"""Largest difference of projected gradients at the end; liblinear's default is twice that."""
EPOCHS = 60
"""At most so many passes over a pair's rows."""


@cache
def _descent() -> Any:
    import numba

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def descend(
        phi: np.ndarray, first: int, C: Any, tolerance: Any, epochs: int, orders: np.ndarray,
        w: np.ndarray,
    ) -> None:  # fmt: skip
        """One machine: rows before ``first`` against the others, hinge loss, the constant 1 as a
        further feature. w (L + 1,) is filled; orders (epochs, m) say in which order rows come."""
        m, width = phi.shape
        alpha, square = np.zeros(m, np.float32), np.empty(m, np.float32)
        idle = np.zeros(m, np.bool_)
        for t in range(m):
            total = np.float32(1)
            for c in range(width):
                total += phi[t, c] * phi[t, c]
            square[t] = total
        for epoch in range(epochs):
            largest, smallest = np.float32(-1e30), np.float32(1e30)
            whole = epoch % 5 == 0  # now and then the rows that lay idle are looked at again
            for t in orders[epoch]:
                if idle[t] and not whole:
                    continue
                sign = np.float32(1) if t < first else np.float32(-1)
                row, score = phi[t], w[width]
                for c in range(width):
                    score += row[c] * w[c]
                slope = sign * score - 1
                held: Any = slope
                if alpha[t] == 0:
                    held = min(slope, 0)
                elif alpha[t] == C:
                    held = max(slope, 0)
                idle[t] = held == 0
                largest, smallest = max(largest, held), min(smallest, held)
                if abs(held) > 1e-6:
                    new = min(max(alpha[t] - slope / square[t], 0), C)
                    change = np.float32((new - alpha[t]) * sign)
                    alpha[t] = new
                    w[width] += change
                    for c in range(width):
                        w[c] += change * row[c]
            if whole and largest - smallest < tolerance:
                break

    return descend


class Landmarks:
    """L random rows of X (n, d) after ``scale``, and the features (n, L) of all by them.

    kernel(Z, rows) gives the (m, r) kernel of scaled rows. Labels play no part here. X is scaled
    block by block: beside the features, all rows are in memory once.
    """

    def __init__(
        self,
        X: np.ndarray,
        scale: Callable[[np.ndarray], np.ndarray],
        kernel: Callable[[np.ndarray, np.ndarray], np.ndarray],
        count: int,
        seed: int,
    ) -> None:
        from scipy.linalg import cholesky, solve_triangular

        chosen = np.random.default_rng(seed).choice(len(X), count, replace=False)
        self.rows = scale(X[np.sort(chosen)])
        square = kernel(self.rows, self.rows).astype(np.float64)
        square[np.diag_indices(count)] += 1e-4 * float(np.diag(square).mean())
        self._root = cholesky(square, lower=True).astype(np.float32)
        self.features = np.empty((len(X), count), dtype=np.float32)

        def fill(s: int) -> None:
            block = kernel(scale(X[s : s + 512]), self.rows).T
            self.features[s : s + 512] = solve_triangular(
                self._root, block, lower=True, check_finite=False
            ).T

        beside(fill, range(0, len(X), 512))

    def coefficients(self, weights: np.ndarray) -> np.ndarray:
        """(L, p) for the kernel with the landmarks from (L, p) for the features."""
        from scipy.linalg import solve_triangular

        return solve_triangular(self._root, weights, lower=True, trans="T").astype(np.float32)


def linear_machines(
    features: np.ndarray, rows: np.ndarray, codes: np.ndarray, k: int, C: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """All class pairs on ``rows`` (by number) of features (n, L), of classes codes (n,): weights
    (L, p) and intercepts (p,), a pair with an absent class having NaN there."""
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    weights = np.zeros((len(pairs), features.shape[1] + 1), dtype=np.float32)
    members = [rows[codes[rows] == c] for c in range(k)]

    def machine(p: int) -> None:
        first, second = (members[c] for c in pairs[p])
        if not len(first) or not len(second):
            weights[p, -1] = np.nan
            return
        own = np.random.default_rng([seed, p])
        orders = np.stack([own.permutation(len(first) + len(second)) for _ in range(EPOCHS)])
        phi = features[np.concatenate([first, second])]
        _descent()(phi, len(first), np.float32(C), TOLERANCE, EPOCHS, orders, weights[p])

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(machine, range(len(pairs))))
    return np.ascontiguousarray(weights[:, :-1].T), weights[:, -1].astype(np.float64)


def least_squares(
    features: np.ndarray, codes: np.ndarray, k: int, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """W (L, k) and b (k,) of the machines of each class against all others, from ``features``
    (n, L): |w|^2 / 2 + C / 2 times the sum of squared errors on targets 1 and 0, the least-squares
    machine of Suykens and Vandewalle (1999) in its primal form; b is not penalised."""
    from scipy.linalg import cho_factor, cho_solve

    mean = features.mean(axis=0, dtype=np.float64)
    share = np.bincount(codes, minlength=k) / len(codes)
    products = np.asarray(features.T @ features, dtype=np.float64)
    products -= len(codes) * np.outer(mean, mean)
    products[np.diag_indices_from(products)] += 1 / C
    towards = np.zeros((k, features.shape[1]))
    order = np.argsort(codes, kind="stable")
    present, first = np.unique(codes[order], return_index=True)
    towards[present] = np.add.reduceat(features[order], first, axis=0, dtype=np.float64)
    towards -= np.outer(share * len(codes), mean)
    W = cho_solve(cho_factor(products, overwrite_a=True), towards.T)
    return W, share - mean @ W
