"""Columns as one byte a value: what trees look for splits in."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["BINS", "binned"]

BINS = 255
"""Of a column at most. Rows that one bin holds are not told apart; a column of no more values than
this keeps them all, so that few rows, counts and rare flags are split as exactly as unbinned."""

COLUMNS = 64
"""That are turned into columns of their own at a time."""

compile_: Any = numba.njit(nogil=True, cache=True)


def binned(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """codes (d, n) uint8 of X (n, d), and the least and the greatest value of each bin, low and
    high (d, 255) float32, a column's bins in the order of their values and of about equally many
    rows. Bins that no row is in are infinite."""
    n, d = X.shape
    codes, shape = np.empty((d, n), np.uint8), (d, BINS)
    low, high = np.full(shape, np.inf, np.float32), np.full(shape, np.inf, np.float32)
    for start in range(0, d, COLUMNS):
        part = slice(start, start + COLUMNS)
        columns = np.ascontiguousarray(X[:, part].T, dtype=np.float32)
        find(columns, np.sort(columns, axis=1), low[part], high[part], codes[part])
    return codes, low, high


@compile_
def find(
    columns: np.ndarray, ordered: np.ndarray, low: np.ndarray, high: np.ndarray, codes: np.ndarray
) -> None:
    """Fill low and high (c, 255) and codes (c, n) of columns (c, n) and the same in order."""
    n = columns.shape[1]
    for j in range(len(columns)):
        values = ordered[j]
        distinct = 1
        for i in range(1, n):
            distinct += values[i] != values[i - 1]
        last, begun = 0, 0
        low[j, 0] = values[0]
        for i in range(1, n):
            if values[i] == values[i - 1]:
                continue
            # a bin ends where it has its share of the rows that are left
            full = (i - begun) * (BINS - last) >= n - begun
            if distinct <= BINS or (full and last < BINS - 1):
                high[j, last] = values[i - 1]
                last, begun = last + 1, i
                low[j, last] = values[i]
        high[j, last] = values[n - 1]
        for i in range(n):
            first, end, x = 0, last, columns[j, i]
            while first < end:
                middle = (first + end) >> 1
                if x <= high[j, middle]:
                    end = middle
                else:
                    first = middle + 1
            codes[j, i] = first
