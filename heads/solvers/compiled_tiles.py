"""Compiled loops over tiles of products: affine maps, exponentials, the largest of each row.

Written so that the compiler uses vector instructions, which it does for sums and element by element
but not for "the largest so far": hence the lanes here and in ``compiled_smo``. They stand at a
module's top because numba's cache does not know again a function that closes over another.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["affine", "exponential", "exponential_of_sum", "nearest", "picked"]

LOG2_E = 1.4426950408889634

compile_: Any = numba.njit(nogil=True, cache=True, fastmath=True)


@compile_
def affine(
    source: np.ndarray, rows: np.ndarray, begins: np.ndarray, ends: np.ndarray, alpha: float,
    side: np.ndarray, shift: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """out[i] = alpha source[rows[i], columns] + side[i] + shift, the columns being the runs
    from begins to ends, one after the other."""
    for i in range(len(rows)):
        whole, target, mine = source[rows[i]], out[i], side[i]
        at = 0
        for r in range(len(begins)):
            part = whole[begins[r] : ends[r]]
            n = len(part)
            into, other = target[at : at + n], shift[at : at + n]
            for j in range(n):
                into[j] = alpha * part[j] + (mine + other[j])
            at += n


@compile_
def picked(
    source: np.ndarray, rows: np.ndarray, columns: np.ndarray, alpha: float,
    side: np.ndarray, shift: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """out[i] = alpha source[rows[i], columns] + side[i] + shift, for columns in short runs."""
    for i in range(len(rows)):
        whole, into, mine = source[rows[i]], out[i], side[i]
        for j in range(len(columns)):
            into[j] = alpha * whole[columns[j]] + (mine + shift[j])


@compile_
def powers(x: np.ndarray, out: np.ndarray, whole: np.ndarray) -> None:
    # 2^y = 2^n 2^f with |f| <= 1/2, by the exponential's series to the sixth power, whose rest
    # is below 2e-7; n goes straight into the exponent's bits
    half = np.float32(0.5)
    for t in range(len(out)):
        y = x[t]
        n = np.floor(y + half)
        f = y - n
        p = np.float32(1.5403530393381606e-4)
        p = p * f + np.float32(1.3333558146428443e-3)
        p = p * f + np.float32(9.618129107628477e-3)
        p = p * f + np.float32(5.550410866482158e-2)
        p = p * f + np.float32(0.2402265069591007)
        p = p * f + np.float32(0.6931471805599453)
        out[t] = p * f + np.float32(1)
        whole[t] = np.int32(n) << np.int32(23)
    bits = out.view(np.int32)
    for t in range(len(out)):
        bits[t] += whole[t]


@compile_
def exponential(x: np.ndarray, scale: float, out: np.ndarray) -> None:
    """out = exp(min(scale x, 0)) of x (r, t) float32, never below 2^-126; ``out`` may be x."""
    whole, aside = np.empty(1024, np.int32), np.empty(1024, np.float32)
    base2, lowest, zero = np.float32(scale * LOG2_E), np.float32(-126), np.float32(0)
    for i in range(len(x)):
        for s in range(0, x.shape[1], 1024):
            source, into = x[i, s : s + 1024], out[i, s : s + 1024]
            for t in range(len(into)):  # aside, for the compiler to see that they are not one
                y = source[t] * base2
                y = y if y < zero else zero
                aside[t] = y if y > lowest else lowest
            powers(aside, into, whole)


@compile_
def exponential_of_sum(x: np.ndarray, z: np.ndarray, scale: float, out: np.ndarray) -> None:
    """``exponential`` of x + z, both read once."""
    whole, aside = np.empty(1024, np.int32), np.empty(1024, np.float32)
    base2, lowest, zero = np.float32(scale * LOG2_E), np.float32(-126), np.float32(0)
    for i in range(len(x)):
        for s in range(0, x.shape[1], 1024):
            one, other, into = x[i, s : s + 1024], z[i, s : s + 1024], out[i, s : s + 1024]
            for t in range(len(into)):
                y = (one[t] + other[t]) * base2
                y = y if y < zero else zero
                aside[t] = y if y > lowest else lowest
            powers(aside, into, whole)


@compile_
def nearest(x: np.ndarray, first: int, where: np.ndarray, value: np.ndarray) -> None:
    """The largest of each row, of what is in ``value`` and of x (r, t), the columns from ``first``
    on: their columns and values, largest first, into (r, c) each; of equals those that came
    first."""
    count, t = where.shape[1], x.shape[1]
    for i in range(len(x)):
        place, best = where[i], value[i]
        for s in range(0, t, 128):
            n = min(128, t - s)
            block = x[i, s : s + n]
            least = best[count - 1]
            hits = 0
            for j in range(n):
                hits += block[j] > least
            if not hits:
                continue
            for j in range(n):
                if block[j] > best[count - 1]:
                    at = count - 1
                    while at > 0 and best[at - 1] < block[j]:
                        best[at], place[at] = best[at - 1], place[at - 1]
                        at -= 1
                    best[at], place[at] = block[j], first + s + j
