"""Kernel machines and nearest neighbours on all training parts, from products computed once.

What a training part makes of the products passes through tiles that stay in cache: an affine map
for each set, then for each concatenation their sum, and its exponential, power or largest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import expit

from headstock.heads.calibration import couple
from headstock.heads.loops import loops
from headstock.heads.neighbours import votes
from headstock.heads.products import TILE, Products, View
from headstock.heads.rows import parts_of
from headstock.heads.shared import Part, Shared, parts_left_out
from headstock.heads.smo import one_against_one
from headstock.heads.svm import Kernel, class_pairs, pair_platt
from headstock.heads.threads import one_thread_each, threads

__all__ = ["kernel_bytes", "machine_answers", "neighbour_answers", "product_bytes"]

Answers = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""For each ``on``: out-of-fold probabilities (n, k), and those of the test rows (m, k) or None."""


def product_bytes(shared: Shared, on: Sequence[str]) -> int:
    """Memory of the products of all rows with all that are kept between training parts."""
    names = {p for o in on for p in parts_of(o)}
    n, m = len(shared.codes), 0 if shared.test is None else len(shared.test)
    return 4 * n * (n + m) * sum(shared.products.is_wide(p) for p in names)


def kernel_bytes(shared: Shared) -> int:
    """Memory of one training part's kernel on one concatenation."""
    n = len(shared.codes)
    return 4 * n * n if shared.test is not None else int(4 * n * n * (1 - 1 / shared.folds) ** 2)


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


def _tiles(count: int, work: Callable[[slice], None]) -> None:
    """``work`` on slices of ``TILE`` of ``count`` rows, beside each other."""
    slices = [slice(s, min(s + TILE, count)) for s in range(0, count, TILE)]
    with one_thread_each(), ThreadPoolExecutor(threads()) as pool:
        list(pool.map(work, slices))


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
    """For each ``on`` the kernel of rows against the training rows, into outs (r, t)."""
    terms = {}
    for name, view in views.items():
        terms[name] = room(name, *outs[0].shape)
        if kernel.degree:
            view.tile(tested, rows, terms[name], times=kernel.gamma)
        else:
            view.tile(tested, rows, terms[name], times=2 * kernel.gamma, norms=-kernel.gamma)
    for o, out in zip(on, outs):
        parts = parts_of(o)
        total = terms[parts[0]]
        if len(parts) > 1:
            total = np.add(total, terms[parts[1]], out=out)
        for p in parts[2:]:
            total += terms[p]
        if kernel.degree:
            base = room("base", *out.shape)
            np.multiply(total, np.float32(1 / len(parts)), out=base)
            base += 1
            np.copyto(out, base)
            for _ in range(kernel.degree - 1):
                out *= base
        else:
            loops().exponential(total, 1.0 / len(parts), out)


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
    pairs, full = len(class_pairs(k)), shared.test is not None
    # Smaller parts first: each larger one starts from one inside it, never from one that has seen
    # rows it is to answer, for within the tolerance it would remember them
    parts = sorted(parts_left_out(shared.folds, True, full), key=len, reverse=True)
    decisions = {o: np.full((len(codes), pairs, shared.folds), np.nan, np.float32) for o in on}
    final: dict[str, dict[Part, np.ndarray]] = {o: {} for o in on}
    ended: dict[str, dict[Part, np.ndarray]] = {o: {} for o in on}
    # Used again by every part: fresh pages cost as much as the kernel in them
    largest = max(len(products.train(part)) for part in parts)
    rooms = [np.empty(largest**2, dtype=np.float32) for _ in on]
    for part in parts:
        train = products.train(part)
        views = {name: View(products, name, train, True) for name in _sets(on)}
        kernels = [room[: len(train) ** 2].reshape(len(train), -1) for room in rooms]
        _kernels(views, on, kernel, train, kernels)
        starts = np.searchsorted(codes[train], np.arange(k + 1))
        found = {}
        for o, K in zip(on, kernels):
            inside = next((q for q in ended[o] if set(q) > set(part)), None)
            start = None if inside is None else ended[o][inside][train]
            found[o] = one_against_one(K, starts, C, start)
            if part:
                ended[o][part] = np.zeros((len(codes), pairs), dtype=np.float32)
                ended[o][part][train] = found[o][0]
        for f in part or (-1,):
            rows = np.flatnonzero(fold == f) if part else np.arange(len(shared.test or ()))
            said = _decisions(views, on, kernel, not part, rows, found)
            for o in on:
                if len(part) < 2:
                    final[o][part] = said[o]
                if part:  # for the sigmoids of the part that leaves out the other fold
                    other = part[0] if f == part[-1] else part[-1]
                    decisions[o][rows, :, other] = said[o]
    return {o: _assemble(products, decisions[o], final[o]) for o in on}


def _kernels(
    views: dict[str, View],
    on: Sequence[str],
    kernel: Kernel,
    train: np.ndarray,
    outs: Sequence[np.ndarray],
) -> None:
    """The kernels of the training rows with each other, into outs (t, t), one for each ``on``."""
    room = Room()

    def work(s: slice) -> None:
        _tile(views, on, kernel, False, train[s], [K[s] for K in outs], room)

    _tiles(len(train), work)


def _decisions(
    views: dict[str, View],
    on: Sequence[str],
    kernel: Kernel,
    tested: bool,
    rows: np.ndarray,
    machines: dict[str, tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """(r, p) decisions of rows, for each ``on``."""
    out = {o: np.empty((len(rows), len(bias))) for o, (_, bias) in machines.items()}
    t = len(next(iter(machines.values()))[0])
    room = Room()

    def work(s: slice) -> None:
        tiles = [room(f"kernel {o}", s.stop - s.start, t) for o in on]
        _tile(views, on, kernel, tested, rows[s], tiles, room)
        for o, K in zip(on, tiles):
            A, bias = machines[o]
            out[o][s] = K @ A + bias

    _tiles(len(rows), work)
    return out


def _assemble(
    products: Products, decisions: np.ndarray, final: dict[Part, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Sigmoids and coupling, part by part; probabilities in the rows' own order."""
    shared, codes, fold = products.shared, products.codes, products.fold
    k = shared.k
    proba = np.zeros((len(codes), k))

    def answer(part: Part, held_out: np.ndarray, rows: np.ndarray) -> np.ndarray:
        there = np.flatnonzero(shared.present(part))
        where = {pair: p for p, pair in enumerate(class_pairs(k))}
        columns = np.array([where[there[i], there[j]] for i, j in class_pairs(len(there))])
        local = np.searchsorted(there, codes[rows])
        sigmoids = pair_platt(held_out[np.ix_(rows, columns)].astype(np.float64), local, len(there))
        a, b = sigmoids.T
        out = np.zeros((len(final[part]), k))
        out[:, there] = couple(expit(a * final[part][:, columns] + b), len(there))
        return out

    for f in range(shared.folds):
        rows = np.flatnonzero(fold != f)
        proba[products.order[fold == f]] = answer((f,), decisions[:, :, f], rows)
    if () not in final:
        return proba, None
    own = np.take_along_axis(decisions, fold[:, None, None], axis=2)[:, :, 0]
    return proba, answer((), own, np.arange(len(codes)))


def neighbour_answers(
    products: Products, on: Sequence[str], neighbours: int, sharpness: float, whole: bool
) -> Answers:
    """All folds of the nearest-neighbour head on each ``on``: a tile of products for each set, sums
    of them for the concatenations. ``whole``: whether products of all rows may be in memory."""
    shared, codes, fold = products.shared, products.codes, products.fold
    proba = {o: np.zeros((len(codes), shared.k)) for o in on}
    tests: dict[str, np.ndarray | None] = dict.fromkeys(on)
    for part in parts_left_out(shared.folds, False, shared.test is not None):
        train = products.train(part)
        rows = np.flatnonzero(fold == part[0]) if part else np.arange(len(shared.test or ()))
        views = {name: View(products, name, train, whole) for name in _sets(on)}
        there = np.flatnonzero(shared.present(part))
        local = np.searchsorted(there, codes[train])
        prior = np.bincount(local, minlength=len(there)) / len(train)
        found = _nearest(views, on, not part, rows, min(neighbours, len(train)))
        for o in on:
            out = np.zeros((len(rows), shared.k))
            out[:, there] = votes(*found[o], local, len(there), sharpness, prior)
            if part:
                proba[o][products.order[rows]] = out
            else:
                tests[o] = out
    return {o: (proba[o], tests[o]) for o in on}


def _nearest(
    views: dict[str, View], on: Sequence[str], tested: bool, rows: np.ndarray, count: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each ``on``, the training rows nearest to rows (r, count) and their cosines."""
    t = len(next(iter(views.values())).theirs)
    near = {o: np.zeros((len(rows), count), dtype=np.int64) for o in on}
    close = {o: np.zeros((len(rows), count), dtype=np.float32) for o in on}
    inverse = {o: _inverse(np.sum([views[p].theirs for p in parts_of(o)], axis=0)) for o in on}
    room = Room()

    def work(s: slice) -> None:
        dots = {}
        for name, view in views.items():
            dots[name] = room(name, s.stop - s.start, t)
            view.tile(tested, rows[s], dots[name])
        for o in on:
            parts = parts_of(o)
            total = dots[parts[0]]
            for p in parts[1:]:
                total = np.add(total, dots[p], out=room("sum", *total.shape))
            loops().nearest(total, inverse[o], near[o][s], close[o][s])
            own = np.sum([views[p].norms(tested, rows[s]) for p in parts], axis=0)
            close[o][s] *= _inverse(own)[:, None]

    _tiles(len(rows), work)
    return {o: (near[o], close[o]) for o in on}


def _inverse(squares: np.ndarray) -> np.ndarray:
    return (1.0 / np.sqrt(np.maximum(squares, 1e-24))).astype(np.float32)
