"""Compiled loops that grow classification trees on binned columns, and walk them.

Gini and entropy are gained as scikit-learn counts them: rows drawn twice weigh twice, and leaves
and splits are held to numbers of distinct rows.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["bootstrap", "grow", "shares", "walk"]

SHORT = 24
"""Rows up to which insertion sorts faster than counting."""

U0, U1 = np.uint32(0), np.uint32(1)
"""Numba asks of a signed index whether it counts from the end, of an unsigned one not."""

compile_: Any = numba.njit(nogil=True, cache=True)


@compile_
def drawn(state: np.ndarray, upto: int) -> int:
    """A number from 0 to below upto, by splitmix64 (Steele, Lea, Flood 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return int(((z >> np.uint64(32)) * np.uint64(upto)) >> np.uint64(32))


@compile_
def bootstrap(n: int, state: np.ndarray) -> np.ndarray:
    """(n,) how often each row is among n drawn with replacement."""
    weight = np.zeros(n, np.int32)
    for _ in range(n):
        weight[drawn(state, n)] += 1
    return weight


@compile_
def purity(count: float, entropy: bool) -> float:
    # Summed over classes, and divided by all (Gini) or less that of all (entropy), it is what a
    # split makes larger
    if entropy:
        return count * np.log(count) if count > 0 else 0.0
    return count * count


@compile_
def worth(summed: float, total: float, entropy: bool) -> float:
    return summed - purity(total, True) if entropy else summed / total


@compile_
def in_order(
    code: np.ndarray, labels: np.ndarray, m: int, places: np.ndarray, out: np.ndarray
) -> None:
    """out: the code of each of m rows above bit 48, and what ``labels`` has below, by code."""
    if m <= SHORT:
        for i in range(m):
            key, at = (np.int64(code[i]) << 48) | labels[i], i
            while at > 0 and out[at - 1] > key:
                out[at] = out[at - 1]
                at -= 1
            out[at] = key
        return
    places[:] = 0
    for i in range(m):
        places[code[i] + U1] += 1
    for b in range(256):
        places[b + 1] += places[b]
    for i in range(m):
        b = code[i]
        out[np.uint32(places[b])] = (np.int64(b) << 48) | labels[i]
        places[b] += 1


@compile_
def by_sorting(
    keys: np.ndarray,
    m: int,
    total: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    weight: float,
    inside: float,
    min_leaf: int,
    entropy: bool,
) -> tuple[float, int, int]:
    """The best split of m rows by one column, keys of ``in_order``: its worth (-1: none), and the
    codes on both sides of it. Row after row goes from the right to the left."""
    for c in range(len(total)):
        left[c], right[c] = 0.0, total[c]
    best, low, high, all_left, all_right, before = -1.0, 0, 0, 0.0, inside, 0.0
    for i in range(m - 1):
        key = keys[i]
        at, w = np.uint32(key & 0xFFFFFFFF), np.float64((key >> 32) & 0xFFFF)
        if entropy:
            all_left += purity(left[at] + w, True) - purity(left[at], True)
            all_right += purity(right[at] - w, True) - purity(right[at], True)
        else:
            all_left += w * (2 * left[at] + w)
            all_right -= w * (2 * right[at] - w)
        left[at] += w
        right[at] -= w
        before += w
        here, then = key >> 48, keys[i + 1] >> 48
        if here != then and i + 1 >= min_leaf and m - i - 1 >= min_leaf:
            value = worth(all_left, before, entropy) + worth(all_right, weight - before, entropy)
            if value > best or best == -1.0:
                best, low, high = value, here, then
    return best, low, high


@compile_
def by_counting(
    code: np.ndarray,
    labels: np.ndarray,
    m: int,
    total: np.ndarray,
    left: np.ndarray,
    table: np.ndarray,
    weight: float,
    min_leaf: int,
    entropy: bool,
) -> tuple[float, int, int]:
    """``by_sorting`` for many rows: classes of each code are counted first."""
    k = len(total)
    table[:] = 0
    for i in range(m):
        b = code[i]
        table[b, U0] += 1
        table[b, np.uint32(labels[i] & 0xFFFFFFFF) + U1] += np.int32(labels[i] >> 32)
    left[:] = 0.0
    best, low, high, before, rows, last, value = -1.0, 0, 0, 0.0, 0, -1, -1.0
    for b in range(256):
        if table[b, 0] == 0:
            continue
        allowed = last >= 0 and rows >= min_leaf and m - rows >= min_leaf
        if allowed and (value > best or best == -1.0):
            best, low, high = value, last, b
        all_left = all_right = 0.0
        for c in range(k):
            left[c] += table[b, c + 1]
            before += table[b, c + 1]
            all_left += purity(left[c], entropy)
            all_right += purity(total[c] - left[c], entropy)
        rows, last = rows + table[b, 0], b
        if rows < m:
            value = worth(all_left, before, entropy) + worth(all_right, weight - before, entropy)
    return best, low, high


@compile_
def at_random(
    code: np.ndarray,
    labels: np.ndarray,
    m: int,
    total: np.ndarray,
    left: np.ndarray,
    bottom: np.ndarray,
    top: np.ndarray,
    f: int,
    least: int,
    greatest: int,
    share: float,
    min_leaf: int,
    entropy: bool,
) -> tuple[float, int, int]:
    """``by_sorting`` at one place: at ``share`` of the way from the least value to the greatest."""
    # by shares of both ends: their difference may be more than a float holds
    at = bottom[f, least] * (1 - share) + top[f, greatest] * share
    low, last = least, greatest - 1
    while low < last:
        middle = (low + last + 1) >> 1
        if bottom[f, middle] <= at:
            low = middle
        else:
            last = middle - 1
    left[:] = 0.0
    rows = 0
    for i in range(m):
        goes = 1 if code[i] <= low else 0
        rows += goes
        left[np.uint32(labels[i] & 0xFFFFFFFF)] += goes * (labels[i] >> 32)
    if rows < min_leaf or m - rows < min_leaf:
        return -1.0, 0, 0
    before = after = all_left = all_right = 0.0
    for c in range(len(total)):
        before += left[c]
        after += total[c] - left[c]
        all_left += purity(left[c], entropy)
        all_right += purity(total[c] - left[c], entropy)
    return worth(all_left, before, entropy) + worth(all_right, after, entropy), low, low + 1


@compile_
def grow(
    codes: np.ndarray,
    bottom: np.ndarray,
    top: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    k: int,
    state: np.ndarray,
    rule: tuple[int, int, int, int, bool, bool],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One tree on codes (d, n) of ``binned``, the bins' least and greatest values, bottom and top,
    and classes y (n,) and weights (n,) of the rows. rule: columns tried at a split, greatest depth,
    rows of a leaf, rows of a split, whether thresholds are random, whether impurity is entropy
    (else Gini).

    left, right, feature, threshold of its m nodes; rows (n',) and spans (m, 2): the rows in a node
    are ``rows[a:b]``; gains (d,): what the splits on each column removed of the impurity.
    """
    columns, max_depth, min_leaf, min_split, random, entropy = rule
    d = len(codes)
    rows = np.flatnonzero(weight).astype(np.uint32)
    n = len(rows)
    most = 2 * n
    left, right = np.full(most, -1, np.int32), np.full(most, -1, np.int32)
    feature, threshold = np.zeros(most, np.int32), np.zeros(most, np.float64)
    spans, depth = np.empty((most, 2), np.int32), np.zeros(most, np.int32)
    gains, order = np.zeros(d), np.arange(d).astype(np.uint32)
    code, labels, keys = np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.int64)
    total, some, other = np.empty(k), np.empty(k), np.empty(k)
    # Counting costs a table, so it is for nodes that have rows to fill it with
    many = 128 * k
    table, places = np.empty((256 if n > many else 1, k + 1), np.int32), np.empty(257, np.int32)
    aside, stack = np.empty(n, np.uint32), np.empty(most, np.int32)
    spans[0, 0], spans[0, 1] = 0, n
    stack[0], height, nodes = 0, 1, 1
    while height:
        height -= 1
        node = stack[height]
        start, stop = spans[node, 0], spans[node, 1]
        m = stop - start
        total[:] = 0.0
        for i in range(m):
            r = rows[start + i]
            labels[i] = (np.int64(weight[r]) << 32) | y[r]
            total[y[r]] += weight[r]
        inside, present, whole = 0.0, 0, 0.0
        for c in range(k):
            present += total[c] > 0
            whole += total[c]
            inside += purity(total[c], entropy)
        if present < 2 or m < min_split or m < 2 * min_leaf or depth[node] >= max_depth:
            continue
        best, chosen, low, high, varied, tried = -1.0, -1, 0, 0, False, 0
        # As scikit-learn: more columns where all that were tried have one value
        while tried < d and (tried < columns or not varied):
            swap = tried + drawn(state, d - tried)
            f = order[swap]
            order[swap], order[tried] = order[tried], f
            tried += 1
            least, greatest = np.uint8(255), np.uint8(0)
            for i in range(start, stop):
                b = codes[f, rows[i]]
                code[i - start] = b
                least, greatest = min(least, b), max(greatest, b)
            if least == greatest:
                continue
            varied = True
            if random:
                share = drawn(state, 1 << 24) / (1 << 24)
                value, a, b = at_random(
                    code, labels, m, total, some, bottom, top, f, least, greatest, share, min_leaf,
                    entropy,
                )  # fmt: skip
            elif m > many:
                value, a, b = by_counting(
                    code, labels, m, total, some, table, whole, min_leaf, entropy
                )
            else:
                in_order(code, labels, m, places, keys)
                value, a, b = by_sorting(
                    keys, m, total, some, other, whole, inside, min_leaf, entropy
                )
            if a < b and (chosen < 0 or value > best):
                best, chosen, low, high = value, int(f), a, b
        if chosen < 0:
            continue
        here, away = start, 0
        for i in range(start, stop):
            r = rows[i]
            if codes[chosen, r] <= low:
                rows[here] = r
                here += 1
            else:
                aside[away] = r
                away += 1
        rows[here:stop] = aside[:away]
        # Midway between the node's values, as far as bins tell them
        feature[node] = chosen
        middle = (np.float64(top[chosen, low]) + np.float64(bottom[chosen, high])) / 2
        threshold[node] = middle
        gains[chosen] += best - worth(inside, whole, entropy)
        left[node], right[node] = nodes, nodes + 1
        for child in range(nodes, nodes + 2):
            depth[child] = depth[node] + 1
            spans[child, 0] = start if child == nodes else here
            spans[child, 1] = here if child == nodes else stop
            stack[height] = child
            height += 1
        nodes += 2
    return (
        left[:nodes].copy(), right[:nodes].copy(), feature[:nodes].copy(),
        threshold[:nodes].copy(), rows, spans[:nodes].copy(), gains,
    )  # fmt: skip


@compile_
def shares(
    rows: np.ndarray, spans: np.ndarray, y: np.ndarray, weight: np.ndarray, out: np.ndarray
) -> None:
    """out (m, k): the share of each class in each node, by the rows' weights."""
    for node in range(len(spans)):
        out[node] = 0
        total = 0.0
        for r in rows[spans[node, 0] : spans[node, 1]]:
            out[node, y[r]] += weight[r]
            total += weight[r]
        out[node] /= total


@compile_
def walk(
    X: np.ndarray, starts: np.ndarray, left: np.ndarray, right: np.ndarray, feature: np.ndarray,
    threshold: np.ndarray, value: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Add to out (n, k) the values of the leaves that X (n, d) reaches in each tree."""
    for t in range(len(starts) - 1):
        first = starts[t]
        for i in range(len(X)):
            node = first
            while left[node] >= 0:
                low = X[i, feature[node]] <= threshold[node]
                node = first + (left[node] if low else right[node])
            for c in range(out.shape[1]):
                out[i, c] += value[node, c]
