"""Compiled support vector machines on a kernel matrix that is there already.

Sequential minimal optimisation with second-order working set selection (Fan, Chen, Lin 2005), the
algorithm of libsvm, without its cache: every row of the kernel is in memory. Needs numba; where it
is missing the heads use scikit-learn's SVC.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from headstock.heads.threads import threads

__all__ = ["compiled", "one_against_one", "rbf_from_products"]

TOLERANCE = 1e-3
"""libsvm's: how far the optimality conditions may be violated."""


def compiled() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@cache
def _functions() -> tuple[Any, Any]:
    """The two compiled functions; compiled once a machine where numba can keep its cache."""
    import numba

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def distances(products, rows, begins, ends, own, theirs, gamma, out):
        """out[i] = -gamma max(own[i] + theirs - 2 products[rows[i], columns], 0), the columns being
        the runs from begins to ends, one after the other."""
        two, zero = np.float32(2), np.float32(0)
        for i in range(len(out)):
            source, target, mine = products[rows[i]], out[i], own[i]
            shift = 0
            for r in range(len(begins)):
                part = source[begins[r] : ends[r]]
                into = target[shift : shift + len(part)]
                other = theirs[shift : shift + len(part)]
                for j in range(len(part)):
                    into[j] = -gamma * max(mine + other[j] - two * part[j], zero)
                shift += len(part)

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def smo(K, diagonal, a, b, c, d, C, tolerance, beta):
        """One machine: rows a to b of K against rows c to d.

        beta (m,): y times alpha, the first class positive; changed in place from any feasible
        start. v = y - K beta; a row may rise while beta is below its upper bound and fall while it
        is above its lower one; at the optimum no row that may rise has a larger v than one that may
        fall. Gives the intercept.
        """
        first, m = b - a, (b - a) + (d - c)
        high, low = np.empty(m, np.float32), np.empty(m, np.float32)
        v, own = np.empty(m, np.float32), np.empty(m, np.float32)
        for t in range(m):
            up = t < first
            high[t], low[t] = (C, 0.0) if up else (0.0, -C)
            v[t] = 1.0 if up else -1.0
            own[t] = diagonal[a + t] if up else diagonal[c + t - first]
        for s in range(m):
            if beta[s] != 0:
                row = K[a + s] if s < first else K[c + s - first]
                for t in range(first):
                    v[t] -= beta[s] * row[a + t]
                for t in range(first, m):
                    v[t] -= beta[s] * row[c + t - first]
        best, i = np.float32(-np.inf), -1
        for t in range(m):
            if beta[t] < high[t] and v[t] > best:
                best, i = v[t], t
        worst = np.float32(np.inf)
        for _ in range(200 * m + 100000):
            if i < 0:
                break
            row = K[a + i] if i < first else K[c + i - first]
            worst, most, j = np.float32(np.inf), np.float32(-1), -1
            for part in range(2):
                begin, end, shift = (0, first, a) if part == 0 else (first, m, c - first)
                for t in range(begin, end):
                    if beta[t] > low[t]:
                        worst = min(worst, v[t])
                        gap = best - v[t]
                        if gap > 0:
                            curve = own[i] + own[t] - np.float32(2) * row[t + shift]
                            gain = gap * gap / max(curve, np.float32(1e-12))
                            if gain > most:
                                most, j = gain, t
            if j < 0 or best - worst < tolerance:
                break
            other = K[a + j] if j < first else K[c + j - first]
            curve = own[i] + own[j] - np.float32(2) * row[j + (a if j < first else c - first)]
            step = (best - v[j]) / max(curve, np.float32(1e-12))
            room_i, room_j = high[i] - beta[i], beta[j] - low[j]
            step = min(step, room_i, room_j)
            beta[i] = high[i] if step == room_i else beta[i] + step
            beta[j] = low[j] if step == room_j else beta[j] - step
            best, i = np.float32(-np.inf), -1
            for part in range(2):
                begin, end, shift = (0, first, a) if part == 0 else (first, m, c - first)
                for t in range(begin, end):
                    v[t] -= step * (row[t + shift] - other[t + shift])
                    if beta[t] < high[t] and v[t] > best:
                        best, i = v[t], t
        total, free = 0.0, 0
        for t in range(m):
            if low[t] < beta[t] < high[t]:
                total += v[t]
                free += 1
        return total / free if free else 0.5 * (best + worst)

    return distances, smo


def rbf_from_products(
    products: np.ndarray,
    own: np.ndarray,
    theirs: np.ndarray,
    gamma: float,
    out: np.ndarray,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
) -> None:
    """Fill ``out`` (n, m) float32 with the RBF kernel, given x.z, |x|^2 (n,) and |z|^2 (m,).

    ``rows`` (n,) and ``columns`` (m,) say where in ``products`` the pairs stand; without them it is
    (n, m) itself, and ``out`` may be the same array.
    """
    distances, _ = _functions()
    rows = np.arange(len(out)) if rows is None else rows
    columns = np.arange(out.shape[1]) if columns is None else columns
    own, theirs = own.astype(np.float32), theirs.astype(np.float32)
    breaks = np.flatnonzero(np.diff(columns) != 1) + 1
    begins = columns[np.concatenate([[0], breaks])]
    ends = columns[np.concatenate([breaks - 1, [len(columns) - 1]])] + 1
    cuts = np.linspace(0, len(out), len(out) // 64 + 2).astype(int)  # blocks that stay in cache

    def part(i: int) -> None:
        s = slice(cuts[i], cuts[i + 1])
        distances(products, rows[s], begins, ends, own[s], theirs, np.float32(gamma), out[s])
        np.exp(out[s], out=out[s])

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(part, range(len(cuts) - 1)))


def one_against_one(
    K: np.ndarray, starts: np.ndarray, C: float, warm: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All class pairs on the kernel K (n, n) float32 of rows sorted by class.

    starts (k + 1,): where each class begins. warm (n, p): coefficients to start from, feasible up
    to the balance of a pair's sum, which is restored. Gives coefficients (n, p) float32 and
    intercepts (p,), decisions being K @ coefficients + intercepts, positive for a pair's first
    class; a pair with an absent class has NaN as intercept.
    """
    _, smo = _functions()
    k = len(starts) - 1
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    coefficients = np.zeros((len(K), len(pairs)), dtype=np.float32)
    bias = np.full(len(pairs), np.nan)
    diagonal = np.ascontiguousarray(np.diag(K))

    def machine(p: int) -> None:
        i, j = pairs[p]
        a, b, c, d = starts[i], starts[i + 1], starts[j], starts[j + 1]
        if a == b or c == d:
            return
        beta = np.zeros((b - a) + (d - c), dtype=np.float32)
        if warm is not None:
            beta[: b - a], beta[b - a :] = warm[a:b, p], warm[c:d, p]
            up, down = float(beta[: b - a].sum()), -float(beta[b - a :].sum())
            if up > down:  # the larger side gives way, so that both stay within their bounds
                beta[: b - a] *= down / up
            elif down > up:
                beta[b - a :] *= up / down
        bias[p] = smo(K, diagonal, a, b, c, d, np.float32(C), np.float32(TOLERANCE), beta)
        coefficients[a:b, p], coefficients[c:d, p] = beta[: b - a], beta[b - a :]

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(machine, range(len(pairs))))
    return coefficients, bias
