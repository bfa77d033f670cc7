"""Rows whose vectors are nearly the same, though nothing says that they are of one file.

In data of few factors every row has neighbours of cosine .99, and no two rows are copies. So a pair
counts only where chance would hardly bring it. Around a row whose k-th neighbour lies at distance
R, in data of m dimensions, a row lies within r with probability k (r / R)^m; over n rows that is
expected fewer than once where r < R (1 / (n k))^(1 / m). m is measured: log(R / r_j) of the j-th
neighbour has the mean (H(k - 1) - H(j - 1)) / m (Levina and Bickel 2004), H the harmonic numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from headstock.heads.solvers.scaling import inverse, standardise

__all__ = ["clusters", "components", "graded", "near", "tight"]

NEIGHBOUR = 20
"""k: the neighbour whose distance says how dense it is around a row; half of it is j."""
SAMPLE = 400
"""Rows by which the dimension is measured."""
EQUAL = 1e-6
"""Distance of unit vectors below which two are the same but for rounding."""
ROUNDING = 4e-6
"""By which a cosine of float32 errs."""
VALUES = 20
"""A column that takes fewer values, such as 0 and 1, tells few rows apart."""
PAIRS = 1 << 22
"""Numbers in the rows whose distances are measured at a time."""
LARGEST = 2000
"""Rows that may hang together without all being alike; beyond it they are no copies."""


def components(a: np.ndarray, b: np.ndarray, total: int) -> np.ndarray:
    """(total,) one number for all rows that the pairs a, b (p,) tie together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(a), dtype=bool), (a, b)), shape=(total, total))
    return connected_components(graph, directed=False)[1]


def clusters(keys: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each key that more than one row has."""
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order])) + 1
    return [np.sort(part) for part in np.split(order, cuts) if len(part) > 1]


def tight(a: np.ndarray, b: np.ndarray, total: int) -> list[np.ndarray]:
    """Clusters by complete linkage of the pairs a, b (p,): each row is paired with all others of
    its cluster, so that no chain of pairs ties what is not alike."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if not len(a):
        return []
    keys = components(a, b, total)
    pairs = np.bincount(keys[a], minlength=int(keys.max()) + 1)
    out: list[np.ndarray] = []
    for rows in clusters(keys):
        size = len(rows)
        if pairs[keys[rows[0]]] == size * (size - 1) // 2:
            out.append(rows)
        elif size <= LARGEST:
            mine = keys[a] == keys[rows[0]]
            apart = np.ones((size, size), dtype=np.float32)
            i, j = np.searchsorted(rows, a[mine]), np.searchsorted(rows, b[mine])
            apart[i, j] = apart[j, i] = 0
            np.fill_diagonal(apart, 0)
            cut = fcluster(linkage(squareform(apart, checks=False), "complete"), 0.5, "distance")
            out += [rows[c] for c in clusters(cut)]
    return sorted(out, key=lambda rows: int(rows[0]))


def graded(parts: Sequence[np.ndarray]) -> int:
    """Columns of the matrices (n, d) that take many values, among the first 1,000 rows."""
    X = np.concatenate([X[:1000] for X in parts])[:1000]
    values = 1 + (np.diff(np.sort(X, axis=0), axis=0) != 0).sum(axis=0)
    return int((values >= min(VALUES, max(2, len(X) // 2))).sum())


def near(parts: Sequence[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Clusters of rows of the matrices (n, d), one under the other, whose standardised vectors have
    a cosine >= threshold and lie nearer than chance would bring them (see above). What is as large
    as they are is never copied.

    Wide rows are screened by a random projection to 128 columns: its cosines c err by
    (1 - c^2) / sqrt(128) in standard deviation, a sixth of 1 - c, so twice the 1 - c misses none
    in effect; the pairs that pass are measured exactly.
    """
    n, d = sum(map(len, parts)), parts[0].shape[1]
    if n < 2:
        return []
    mean, scale = moments(parts)
    wide = d > 256
    slack = 2.0 if wide else 1.0
    screen = _screen(parts, mean, scale, wide)
    k = min(NEIGHBOUR, n - 1)
    share = _share(screen, k, d)
    left: list[np.ndarray] = []
    right: list[np.ndarray] = []
    step = max(1, PAIRS // d)  # many alike rows make many pairs: bounded memory
    for start in range(0, n, 1024):
        alike = screen[start : start + 1024] @ screen.T
        here = np.arange(len(alike))
        alike[here, start + here] = -1
        some = np.flatnonzero((alike >= 1 - slack * (1 - threshold)).any(axis=1))
        if not len(some):
            continue
        alike = alike[some]
        room = share * _distance(np.partition(alike, n - k, axis=1)[:, n - k])
        least = 1 - slack * np.minimum(1 - threshold, room**2 / 2) - ROUNDING
        i, j = np.nonzero(alike >= least[:, None])
        room, i = room[i], start + some[i]
        for s in range(0, len(i), step):
            a, b = i[s : s + step], j[s : s + step]
            apart = _apart(parts, mean, scale, a, b)
            close = (apart <= np.maximum(room[s : s + step], EQUAL)) & (
                apart <= np.sqrt(2 * (1 - threshold))
            )
            left.append(a[close])
            right.append(b[close])
    if not sum(map(len, left)):
        return []
    a, b = np.concatenate(left), np.concatenate(right)
    both = np.intersect1d(a * n + b, b * n + a)  # near as seen from either
    a, b = both // n, both % n
    return tight(a[a < b], b[a < b], n)


def _screen(
    parts: Sequence[np.ndarray], mean: np.ndarray, scale: np.ndarray, wide: bool
) -> np.ndarray:
    """(n, c) standardised rows of length 1, wide ones projected."""
    n, d = sum(map(len, parts)), parts[0].shape[1]
    screen = np.empty((n, 128 if wide else d), dtype=np.float32)
    if wide:
        turn = np.random.default_rng(0).normal(size=(d, 128)).astype(np.float32)
        turn = (turn * inverse(scale)[:, None]).astype(np.float32)
        centre = mean.astype(np.float32)
        for start, X in _blocks(parts):
            np.matmul(X - centre, turn, out=screen[start : start + len(X)])
    else:
        for start, X in _blocks(parts):
            screen[start : start + len(X)] = standardise(X, mean, scale)
    screen /= np.maximum(np.linalg.norm(screen, axis=1, keepdims=True), 1e-12)
    return screen


def _distance(cosine: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))


def _share(screen: np.ndarray, k: int, d: int) -> float:
    """The share of the distance to the k-th neighbour within which chance brings fewer than one row
    in all."""
    n = len(screen)
    j = max(1, k // 2)
    if k <= j:
        return 0.0
    rows = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(int))
    alike = screen[rows] @ screen.T
    alike[np.arange(len(rows)), rows] = -1
    ordered = np.partition(alike, [n - k, n - j], axis=1)
    far, mid = _distance(ordered[:, n - k]), _distance(ordered[:, n - j])
    known = (mid > 1e-3) & (far > mid)
    if not known.any():
        return 0.0
    expected = float((1 / np.arange(j, k)).sum())
    m = min(float(d), expected / float(np.median(np.log(far[known] / mid[known]))))
    return float((1 / (n * k)) ** (1 / m))


def _blocks(parts: Sequence[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Views of rows that stay in cache, and the number of each one's first."""
    first = 0
    for X in parts:
        step = max(1, PAIRS // 16 // X.shape[1])
        for start in range(0, len(X), step):
            yield first + start, X[start : start + step]
        first += len(X)


def moments(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``scaling.moments`` in one pass: of what is left when the median of the first rows is taken
    off, which is small enough for float32 within a block, and exactly 0 in a constant column."""
    n = sum(map(len, parts))
    first = next(X for X in parts if len(X))[:256]
    about = np.median(first.astype(np.float64), axis=0).astype(np.float32)
    one, two = np.zeros(len(about)), np.zeros(len(about))
    for _, X in _blocks(parts):
        rest = X - about
        one += rest.sum(axis=0)
        two += np.einsum("ij,ij->j", rest, rest)
    return about + one / n, np.sqrt(np.maximum(two / n - (one / n) ** 2, 0))


def _apart(
    parts: Sequence[np.ndarray], mean: np.ndarray, scale: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """(p,) distances of the standardised rows ``a`` and ``b``, by number, at length 1."""
    rows, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    begins = np.cumsum([0, *map(len, parts)])
    X = np.concatenate(
        [
            X[rows[(first <= rows) & (rows < first + len(X))] - first]
            for X, first in zip(parts, begins)
        ]
    )
    Z = standardise(X, mean, scale)
    Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    return np.linalg.norm(Z[index[: len(a)]] - Z[index[len(a) :]], axis=1)
