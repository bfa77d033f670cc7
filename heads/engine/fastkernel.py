"""Kernel machines on all training parts, from products computed once.

What a training part makes of the products passes through tiles that stay in cache: an affine map
for each set, then for each concatenation their sum, and its exponential or power. A kernel is never
whole in memory: each class's block stays while the machines of a training part are solved, the
block of two classes as long as their machine is. Decisions are computed from the support vectors
alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from headstock.heads.engine.parts import Part, places
from headstock.heads.engine.products import TILE, Products, View
from headstock.heads.engine.shared import Shared
from headstock.heads.kinds.strategies import Kernel
from headstock.heads.kinds.svm import calibrated, class_pairs, coupled
from headstock.heads.rows.labelled import parts_of
from headstock.heads.solvers.loops import loops
from headstock.heads.solvers.smo import machine
from headstock.heads.threads import one_thread_each, threads

__all__ = ["kernel_bytes", "machine_answers", "product_bytes"]

ENTRIES = 1 << 20
"""Of a tile of a kernel: smaller ones stay in a core's own cache, but threads wait for the
interpreter between them (1 << 17: a seventh more time by the clock)."""

Answers = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""For each ``on``: out-of-fold probabilities (e, n, k), and the test rows' (m, k) or None."""

Decisions = dict[tuple[Part, int], np.ndarray]
"""By part and the fold whose rows it answers (-1: the test rows): (r, p)."""


def product_bytes(shared: Shared, on: Sequence[str]) -> int:
    """Memory of the products of all rows with all that are kept between training parts."""
    names = {p for o in on for p in parts_of(o)}
    n, m = len(shared.codes), 0 if shared.test is None else len(shared.test)
    return 4 * n * (n + m) * sum(shared.products.is_wide(p) for p in names)


def kernel_bytes(shared: Shared) -> int:
    """Memory of the blocks of one training part's kernel on one concatenation: each class's, and in
    each thread that of a pair, both ways round."""
    sizes = np.sort(shared.counts.sum(axis=0))
    return int(4 * (sizes @ sizes + 2 * threads() * np.prod(sizes[-2:])))


class Room(threading.local):
    """A thread's float32 memory, used again by each of its tiles: fresh pages cost as much as what
    is computed in them."""

    def __init__(self) -> None:
        self._held: dict[str, np.ndarray] = {}

    def __call__(self, name: str, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        if self._held.get(name, np.empty(0)).size < size:
            self._held[name] = np.empty(size, dtype=np.float32)
        return self._held[name][:size].reshape(shape)


def _sets(on: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(p for o in on for p in parts_of(o)))


def _tile(
    views: dict[str, View],
    on: Sequence[str],
    kernel: Kernel,
    tested: bool,
    rows: np.ndarray,
    outs: Sequence[np.ndarray],
    room: Room,
) -> None:
    """For each ``on`` the kernel of rows against the views' training rows, into outs (r, t)."""
    terms = {}
    for name, view in views.items():
        terms[name] = room(name, *outs[0].shape)
        if kernel.degree:
            view.tile(tested, rows, terms[name], times=kernel.gamma)
        else:
            view.tile(tested, rows, terms[name], times=2 * kernel.gamma, norms=-kernel.gamma)
    for o, out in zip(on, outs):
        *others, last = (terms[p] for p in parts_of(o))
        total = others[0] if others else last
        for term in others[1:]:
            total = np.add(total, term, out=out)
        each = 1.0 / (len(others) + 1)
        if kernel.degree:
            base = room("base", *out.shape)
            np.multiply(np.add(total, last, out=out) if others else last, np.float32(each), base)
            base += 1
            np.copyto(out, base)
            for _ in range(kernel.degree - 1):
                out *= base
        elif others:
            loops().exponential_of_sum(total, last, each, out)
        else:
            loops().exponential(last, each, out)


def machine_answers(
    products: Products, on: Sequence[str], C: float, kernel: Kernel, at_once: int
) -> Answers:
    """All folds of a kernel machine on each ``on``, calibrated as the head calibrates itself: the
    sigmoids of a training part from decisions of parts that leave out one fold more. ``at_once``:
    kernels that may be in memory."""
    out: Answers = {}
    for first in range(0, len(on), at_once):
        out |= _machine_answers(products, on[first : first + at_once], C, kernel)
    return out


def _machine_answers(products: Products, on: Sequence[str], C: float, kernel: Kernel) -> Answers:
    shared = products.shared
    k, codes, fold = shared.k, products.codes, products.fold
    pairs = len(class_pairs(k))
    # Smaller parts first: each larger one starts from one inside it, never from one that has seen
    # rows it is to answer, for within the tolerance it would remember them
    parts = sorted(shared.calibrated_parts(), key=len, reverse=True)
    decisions: dict[str, Decisions] = {o: {} for o in on}
    ended: dict[str, dict[Part, np.ndarray]] = {o: {} for o in on}
    room = Room()
    own = np.empty((len(on), int((np.bincount(codes) ** 2).sum())), dtype=np.float32)
    with one_thread_each(), ThreadPoolExecutor(threads()) as pool:
        for part in parts:
            train = products.train(part)
            views = {name: View(products, name, train) for name in _sets(on)}
            starts = np.searchsorted(codes[train], np.arange(k + 1))
            inside = min((q for q in ended[on[0]] if set(q) > set(part)), key=len, default=None)
            warm = None if inside is None else {o: ended[o][inside][train] for o in on}
            found = _machines(views, on, kernel, train, starts, C, warm, own, room, pool)
            for o in on if part else ():
                ended[o][part] = np.zeros((len(codes), pairs), dtype=np.float32)
                ended[o][part][train] = found[o][0]
            for f in part or (-1,):
                rows = np.flatnonzero(fold == f) if part else np.arange(len(shared.test or ()))
                for o in on:
                    said = _decisions(views, o, kernel, not part, rows, found[o], room, pool)
                    decisions[o][part, f] = said

        def answer(asked: tuple[str, Part]) -> dict[int, np.ndarray]:
            return _probabilities(products, asked[1], decisions[asked[0]])

        asked = [(o, part) for o in on for part in shared.asked]
        by_part = dict(zip(asked, pool.map(answer, asked)))
    out: Answers = {}
    for o in on:
        proba = shared.empty()
        for part in shared.asked:
            for entry, f in places(part):
                proba[entry, products.order[fold == f]] = by_part[o, part][f]
        out[o] = proba, by_part[o, ()][-1] if shared.test is not None else None
    return out


def _machines(
    views: dict[str, View],
    on: Sequence[str],
    kernel: Kernel,
    train: np.ndarray,
    starts: np.ndarray,
    C: float,
    warm: dict[str, np.ndarray] | None,
    memory: np.ndarray,
    room: Room,
    pool: ThreadPoolExecutor,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each ``on`` what ``one_against_one`` gives of the training rows; the classes' own blocks
    go into ``memory``, those of pairs into the threads' rooms."""
    k = len(starts) - 1
    of = [np.arange(a, b) for a, b in pairwise(starts)]
    sizes = np.diff(starts)
    columns = [{n: v.only(rows) for n, v in views.items()} if len(rows) else {} for rows in of]
    ends = np.cumsum(sizes**2)
    own = [[line[e - m**2 : e].reshape(m, m) for line in memory] for e, m in zip(ends, sizes)]

    def block(i: int, j: int, outs: Sequence[np.ndarray]) -> None:
        step = max(1, ENTRIES // sizes[j])
        for s in range(0, sizes[i], step):
            some = slice(s, s + step)
            tiles = [K[some] for K in outs]
            _tile(columns[j], on, kernel, False, train[of[i][some]], tiles, room)

    def classes(c: int) -> None:
        if sizes[c]:
            block(c, c, own[c])

    pairs = class_pairs(k)
    found = {o: (np.zeros((len(train), len(pairs)), np.float32), np.full(len(pairs), np.nan))
             for o in on}  # fmt: skip

    def pair(p: int) -> None:
        i, j = pairs[p]
        if not sizes[i] or not sizes[j]:
            return
        cross = [room(f"cross {o}", sizes[i], sizes[j]) for o in on]
        block(i, j, cross)
        turned = room("turned", sizes[j], sizes[i])
        for n, o in enumerate(on):
            start = None if warm is None else (warm[o][of[i], p], warm[o][of[j], p])
            coefficients, bias = found[o]
            beta, bias[p] = machine(own[i][n], cross[n], own[j][n], turned, C, start)
            coefficients[of[i], p], coefficients[of[j], p] = np.split(beta, [sizes[i]])

    largest = sorted(range(len(pairs)), key=lambda p: -sizes[list(pairs[p])].prod())
    list(pool.map(classes, np.argsort(-sizes)))
    list(pool.map(pair, largest))
    return found


def _decisions(
    views: dict[str, View],
    on: str,
    kernel: Kernel,
    tested: bool,
    rows: np.ndarray,
    machines: tuple[np.ndarray, np.ndarray],
    room: Room,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """(r, p) decisions of rows, from the rows that support any of the machines."""
    coefficients, bias = machines
    used = np.flatnonzero(coefficients.any(axis=1))
    across = [
        ({name: views[name].only(some) for name in parts_of(on)}, coefficients[some])
        for some in np.array_split(used, len(used) * TILE // ENTRIES + 1)
        if len(some)
    ]
    out = np.empty((len(rows), len(bias)))

    def work(start: int) -> None:
        mine = rows[start : start + TILE]
        total = room("decisions", len(mine), len(bias))
        total[:] = 0
        for some, A in across:
            K = room("kernel", len(mine), len(A))
            _tile(some, [on], kernel, tested, mine, [K], room)
            total += K @ A
        out[start : start + TILE] = total + bias

    list(pool.map(work, range(0, len(rows), TILE)))
    return out


def _probabilities(products: Products, part: Part, decisions: Decisions) -> dict[int, np.ndarray]:
    """{fold: (r, k)} probabilities of what a part answers (-1: the test rows), from its decisions:
    sigmoids and coupling by those that parts which leave out another fold take of its rows."""
    shared, codes, fold = products.shared, products.codes, products.fold
    k, pairs = shared.k, class_pairs(shared.k)
    held_out = np.full((len(codes), len(pairs)), np.nan, dtype=np.float32)
    for g in map(int, shared.calibrating()[part]):
        inner = tuple(sorted((*part, g))) if part else (g,)
        if (inner, g) in decisions:
            held_out[fold == g] = decisions[inner, g]
    rows = products.train(part)
    there = np.flatnonzero(shared.present(part))
    where = {pair: p for p, pair in enumerate(pairs)}
    columns = np.array([where[there[i], there[j]] for i, j in class_pairs(len(there))])
    local = np.searchsorted(there, codes[rows])
    sigmoids, multiplier = calibrated(held_out[rows][:, columns], local, len(there))
    out = {}
    for f in part or (-1,):
        final = decisions[part, f]
        out[f] = np.zeros((len(final), k))
        out[f][:, there] = coupled(final[:, columns], sigmoids, multiplier, len(there))
    return out
