"""Compiled support vector machines on a kernel matrix that is there already.

Sequential minimal optimisation with second-order working set selection (Fan, Chen, Lin 2005), the
algorithm of libsvm, without its cache: every row of a machine's kernel is in memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from headstock.heads.solvers.loops import loops
from headstock.heads.threads import threads

__all__ = ["machine", "one_against_one", "rbf_from_products"]

TOLERANCE = 1e-3
"""libsvm's: how far the optimality conditions may be violated."""


def rbf_from_products(
    products: np.ndarray, own: np.ndarray, theirs: np.ndarray, gamma: float, out: np.ndarray
) -> None:
    """Fill ``out`` (n, m) float32 with the RBF kernel, given x.z (n, m), |x|^2 (n,) and |z|^2
    (m,); ``out`` may be the products."""
    affine, exponential = loops().affine, loops().exponential
    left, right = (np.asarray(-gamma * a, dtype=np.float32) for a in (own, theirs))
    every, begins, ends = np.arange(len(out)), np.array([0]), np.array([out.shape[1]])
    cuts = np.linspace(0, len(out), len(out) // 64 + 2).astype(int)  # blocks that stay in cache

    def part(i: int) -> None:
        s = slice(cuts[i], cuts[i + 1])
        affine(products, every[s], begins, ends, np.float32(2 * gamma), left[s], right, out[s])
        exponential(out[s], 1.0, out[s])

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(part, range(len(cuts) - 1)))


def machine(
    first: np.ndarray,
    cross: np.ndarray,
    second: np.ndarray,
    turned: np.ndarray,
    C: float,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, float]:
    """One pair of classes from its blocks of the kernel, float32 without gaps: first (m, m), cross
    (m, q), second (q, q). turned: room for ``cross`` turned (q, m).

    start: coefficients (m,) and (q,), feasible up to the balance of their sum, which is restored.
    Gives the coefficients (m + q,) float32 and the intercept.
    """
    m = len(first)
    beta = np.zeros(m + len(second), dtype=np.float32)
    if start is not None:
        beta[:m], beta[m:] = start
        up, down = float(beta[:m].sum()), -float(beta[m:].sum())
        if up > down:  # the larger side gives way, so that both stay within their bounds
            beta[:m] *= down / up
        elif down > up:
            beta[m:] *= up / down
    from headstock.heads.solvers.compiled_smo import smo

    bias = smo(first, cross, second, turned, np.float32(C), np.float32(TOLERANCE), beta)
    return beta, float(bias)


def one_against_one(
    K: np.ndarray, starts: np.ndarray, C: float, warm: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All class pairs on the kernel K (n, n) float32 of rows sorted by class.

    starts (k + 1,): where each class begins. warm (n, p): coefficients to start from (``machine``).
    Gives coefficients (n, p) float32 and intercepts (p,), decisions being K @ coefficients +
    intercepts, positive for a pair's first class; a pair with an absent class has NaN as intercept.
    """
    k = len(starts) - 1
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    rows = [slice(a, b) for a, b in pairwise(starts)]
    own = [np.ascontiguousarray(K[r, r]) for r in rows]
    coefficients = np.zeros((len(K), len(pairs)), dtype=np.float32)
    bias = np.full(len(pairs), np.nan)

    def pair(p: int) -> None:
        i, j = pairs[p]
        if not len(own[i]) or not len(own[j]):
            return
        cross = np.ascontiguousarray(K[rows[i], rows[j]])
        start = None if warm is None else (warm[rows[i], p], warm[rows[j], p])
        beta, bias[p] = machine(own[i], cross, own[j], np.empty_like(cross.T, order="C"), C, start)
        coefficients[rows[i], p], coefficients[rows[j], p] = np.split(beta, [len(own[i])])

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(pair, range(len(pairs))))
    return coefficients, bias
