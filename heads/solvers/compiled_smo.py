"""The compiled loop of sequential minimal optimisation; see ``smo``."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["smo"]

compile_: Any = numba.njit(nogil=True, cache=True, fastmath=True)

LANES = 64
"""Candidates for the largest that are carried beside each other."""


@compile_
def largest(y: np.ndarray, lanes: np.ndarray) -> int:
    """Where the largest of y is; y is a multiple of the lanes long."""
    for lane in range(len(lanes)):
        lanes[lane] = y[lane]
    for s in range(len(lanes), len(y), len(lanes)):
        part = y[s : s + len(lanes)]
        for lane in range(len(lanes)):
            lanes[lane] = part[lane] if part[lane] > lanes[lane] else lanes[lane]
    at = 0
    for lane in range(1, len(lanes)):
        if lanes[lane] > lanes[at]:
            at = lane
    for t in range(at, len(y), len(lanes)):
        if y[t] == lanes[at]:
            return t
    return 0  # numbers that are none


@compile_
def judge(
    v: np.ndarray, fall: np.ndarray, own: np.ndarray, row: np.ndarray, best: Any, mine: Any,
    gain: np.ndarray, least: np.ndarray,
) -> None:  # fmt: skip
    zero, tiny, two = np.float32(0), np.float32(1e-12), np.float32(2)
    for t in range(len(v)):
        x = v[t] + fall[t]
        least[t] = -x
        gap = best - x
        gap = gap if gap > zero else zero
        curve = mine + own[t] - two * row[t]
        curve = curve if curve > tiny else tiny
        gain[t] = gap * gap / curve


@compile_
def move(
    v: np.ndarray, rise: np.ndarray, row: np.ndarray, other: np.ndarray, step: Any,
    y: np.ndarray,
) -> None:  # fmt: skip
    for t in range(len(v)):
        x = v[t] - step * (row[t] - other[t])
        v[t] = x
        y[t] = x + rise[t]


@compile_
def add(v: np.ndarray, row: np.ndarray, weight: Any) -> None:
    for t in range(len(v)):
        v[t] -= weight * row[t]


@compile_
def across(up_down: np.ndarray, row: int, down_up: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The kernel of the second class's ``row`` with the first's rows; turned when first asked
    for, since most never are."""
    out = down_up[row]
    if not there[row]:
        for t in range(len(out)):
            out[t] = up_down[t, row]
        there[row] = True
    return out


@compile_
def smo(
    up_up: np.ndarray, up_down: np.ndarray, down_down: np.ndarray, down_up: np.ndarray, C: Any,
    tolerance: float, beta: np.ndarray,
) -> Any:  # fmt: skip
    """One machine, given the kernel of the first class's rows with each other, with the
    second's, and of these with each other. down_up: room for the second, turned.

    beta (m,): y times alpha, the first class positive; changed in place from any feasible
    start. v = y - K beta; a row may rise while beta is below its upper bound (then ``rise`` is
    0 there, else far down) and fall while it is above its lower one; at the optimum no row that
    may rise has a larger v than one that may fall. Gives the intercept.
    """
    first, m = len(up_up), len(up_up) + len(down_down)
    far, zero = np.float32(1e30), np.float32(0)
    there = np.zeros(len(down_down), np.bool_)
    lanes = np.empty(LANES, np.float32)
    y = np.full((m + LANES - 1) // LANES * LANES, -far, np.float32)
    least = y.copy()
    v, own = np.empty(m, np.float32), np.empty(m, np.float32)
    rise, fall = np.empty(m, np.float32), np.empty(m, np.float32)
    high, low = np.empty(m, np.float32), np.empty(m, np.float32)
    for t in range(m):
        up = t < first
        high[t], low[t] = (C, zero) if up else (zero, -C)
        v[t] = 1.0 if up else -1.0
        own[t] = up_up[t, t] if up else down_down[t - first, t - first]
    for s in range(m):
        if beta[s] != 0:
            left = up_up[s] if s < first else across(up_down, s - first, down_up, there)
            right = up_down[s] if s < first else down_down[s - first]
            add(v[:first], left, beta[s])
            add(v[first:], right, beta[s])
    for t in range(m):
        rise[t] = zero if beta[t] < high[t] else -far
        fall[t] = zero if beta[t] > low[t] else far
        y[t] = v[t] + rise[t]
    best, worst = zero, zero
    for _ in range(200 * m + 100000):
        i = largest(y, lanes)
        best = v[i]
        left = up_up[i] if i < first else across(up_down, i - first, down_up, there)
        right = up_down[i] if i < first else down_down[i - first]
        judge(v[:first], fall[:first], own[:first], left, best, own[i], y, least)
        judge(v[first:], fall[first:], own[first:], right, best, own[i], y[first:], least[first:])
        worst = v[largest(least, lanes)]
        if best - worst < tolerance:
            break
        j = largest(y, lanes)
        both = left[j] if j < first else right[j - first]
        curve = own[i] + own[j] - np.float32(2) * both
        step = (best - v[j]) / max(curve, np.float32(1e-12))
        room_i, room_j = high[i] - beta[i], beta[j] - low[j]
        step = min(step, room_i, room_j)
        beta[i] = high[i] if step == room_i else beta[i] + step
        beta[j] = low[j] if step == room_j else beta[j] - step
        rise[i] = zero if beta[i] < high[i] else -far
        fall[i] = zero if beta[i] > low[i] else far
        rise[j] = zero if beta[j] < high[j] else -far
        fall[j] = zero if beta[j] > low[j] else far
        other = up_up[j] if j < first else across(up_down, j - first, down_up, there)
        move(v[:first], rise[:first], left, other, step, y)
        other = up_down[j] if j < first else down_down[j - first]
        move(v[first:], rise[first:], right, other, step, y[first:])
    total, free = 0.0, 0
    for t in range(m):
        if low[t] < beta[t] < high[t]:
            total += v[t]
            free += 1
    return total / free if free else 0.5 * (best + worst)
