"""RBF machines and nearest neighbours on all training parts, from products computed once.

A wide set is scaled as one block, by one number a training part, so x.z of all its rows is
computed once and every part's kernel is that matrix through one exponential; a concatenation's
kernel is the product of its sets'. A narrow set is scaled column by column in each part, where its
products are cheap. Rows stand sorted by class, then fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import expit

from headstock.heads.calibration import couple
from headstock.heads.neighbours import vote
from headstock.heads.rows import parts_of
from headstock.heads.scaling import WIDE
from headstock.heads.shared import Part, Shared, parts_left_out
from headstock.heads.smo import one_against_one, rbf_from_products
from headstock.heads.svm import class_pairs, pair_platt

__all__ = ["Products", "bytes_needed", "neighbour_answers", "rbf_answers"]

Answers = dict[str, tuple[np.ndarray, np.ndarray | None]]
"""For each ``on``: out-of-fold probabilities (n, k), and those of the test rows (m, k) or None."""


def bytes_needed(shared: Shared, on: Sequence[str]) -> int:
    """Memory of the products and kernels that the functions here hold at once."""
    names = {p for o in on for p in parts_of(o)}
    wide = sum(shared.rows.X[p].shape[1] >= WIDE for p in names)
    n, m = len(shared.codes), 0 if shared.test is None else len(shared.test)
    return 4 * n * (n + m) * (wide + len(names) + 2)


class Products:
    """Inner products of the rows of each set in any training part's scaling."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.order = np.lexsort((shared.fold, shared.codes))
        self.codes, self.fold = shared.codes[self.order], shared.fold[self.order]
        self._rows: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._wide: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._rooms: dict[str, dict[int, np.ndarray]] = {}

    def rows(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A set's rows in order, and its test rows, centred by the mean of all and scaled by one
        number: neither changes what a part makes of them."""
        if name not in self._rows:
            X = self.shared.rows.X[name]
            mean = X.mean(axis=0, dtype=np.float64)
            Z = (X[self.order] - mean).astype(np.float32)
            scale = float(np.sqrt(np.einsum("ij,ij->", Z, Z, dtype=np.float64) / len(Z))) or 1.0
            Z /= np.float32(scale)
            fresh = None
            if self.shared.test is not None:
                fresh = ((self.shared.test.X[name] - mean) / scale).astype(np.float32)
            self._rows[name] = Z, fresh
        return self._rows[name]

    def wide(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Products of all rows with all rows, and of test rows with all rows; once a set."""
        if name not in self._wide:
            Z, fresh = self.rows(name)
            self._wide[name] = Z @ Z.T, None if fresh is None else fresh @ Z.T
        return self._wide[name]

    def scaled(
        self, name: str, train: np.ndarray, asked: Sequence[np.ndarray | None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each of ``asked`` (row numbers in order, or None for the test rows): products with
        the ``train`` rows (a, t), squared norms (a,) and (t,), all scaled and centred by the
        ``train`` rows, as ``Blocks`` does it."""
        Z, fresh = self.rows(name)
        own, width = Z[train], Z.shape[1]
        mean = own.mean(axis=0, dtype=np.float64)
        if width < WIDE:
            variance = np.einsum("ij,ij->j", own - mean, own - mean, dtype=np.float64) / len(own)
            flat = variance <= 1e-12 * mean**2 + 1e-30
            factor = (1.0 / np.sqrt(np.where(flat, 1.0, variance) * width)).astype(np.float32)
            centre = mean.astype(np.float32)
            base = (own - centre) * factor
            theirs = np.einsum("ij,ij->i", base, base)
            for rows in asked:
                source = fresh if rows is None else Z[rows]
                assert source is not None
                point = base if rows is train else (source - centre) * factor
                yield point @ base.T, np.einsum("ij,ij->i", point, point), theirs
            return
        square = np.einsum("ij,ij->", own, own, dtype=np.float64) / len(own) - mean @ mean
        factor = np.float32(1.0 / (square or 1.0))
        products, tested = self.wide(name)
        centre = mean.astype(np.float32)
        along, middle = Z @ centre, np.float32(mean @ mean)
        norms = np.einsum("ij,ij->i", Z, Z) - 2 * along + middle
        for rows in asked:
            if rows is None:
                assert fresh is not None
                assert tested is not None
                side = fresh @ centre
                block = tested[:, train]
                norm = np.einsum("ij,ij->i", fresh, fresh) - 2 * side + middle
            else:
                side, norm = along[rows], norms[rows]
                block = products[np.ix_(rows, train)]
            block -= side[:, None]
            block -= along[train] - middle
            block *= factor
            yield block, norm * factor, norms[train] * factor

    def kernels(
        self, on: Sequence[str], train: np.ndarray, asked: Sequence[np.ndarray | None], gamma: float
    ) -> Iterator[tuple[str, list[np.ndarray]]]:
        """For each ``on``, the RBF kernels of ``asked`` against ``train``. They stand in memory
        that the next training part overwrites."""
        names = list(dict.fromkeys(p for o in on for p in parts_of(o)))
        single = {name: self._kernel(name, train, asked, gamma) for name in names}
        for o in on:
            parts = parts_of(o)
            if len(parts) == 1:
                yield o, single[o]
                continue
            joined = []
            for number, blocks in enumerate(zip(*(single[p] for p in parts))):
                whole = np.multiply(blocks[0], blocks[1], out=self._room("", number, blocks[0]))
                for block in blocks[2:]:
                    whole *= block
                if len(parts) == 2:
                    joined.append(np.sqrt(whole, out=whole))
                else:
                    joined.append(np.power(whole, np.float32(1 / len(parts)), out=whole))
            yield o, joined

    def _kernel(
        self, name: str, train: np.ndarray, asked: Sequence[np.ndarray | None], gamma: float
    ) -> list[np.ndarray]:
        Z, fresh = self.rows(name)
        out = []
        if Z.shape[1] < WIDE:
            for block, own, theirs in self.scaled(name, train, asked):
                rbf_from_products(block, own, theirs, gamma, block)
                out.append(block)
            return out
        # Distances do not see where the rows are centred: one scale a part is all that changes
        products, tested = self.wide(name)
        norms = np.einsum("ij,ij->i", Z, Z)
        mean = Z[train].mean(axis=0, dtype=np.float64)
        sharp = gamma / (float(norms[train].mean(dtype=np.float64) - mean @ mean) or 1.0)
        for number, rows in enumerate(asked):
            if rows is None:
                assert fresh is not None
                assert tested is not None
                own, source = np.einsum("ij,ij->i", fresh, fresh), tested
                rows = np.arange(len(fresh))
            else:
                own, source = norms[rows], products
            room = self._room(name, number, (len(rows), len(train)))
            rbf_from_products(source, own, norms[train], sharp, room, rows, train)
            out.append(room)
        return out

    def _room(self, name: str, number: int, like: np.ndarray | tuple[int, int]) -> np.ndarray:
        """Float32 memory that is used again: fresh pages cost as much as the kernel in them."""
        shape = like.shape if isinstance(like, np.ndarray) else like
        size = shape[0] * shape[1]
        if name not in self._rooms or self._rooms[name].get(number, np.empty(0)).size < size:
            self._rooms.setdefault(name, {})[number] = np.empty(size, dtype=np.float32)
        return self._rooms[name][number][:size].reshape(shape)


def rbf_answers(products: Products, on: Sequence[str], C: float, gamma: float) -> Answers:
    """All folds of the RBF machine on each ``on``, calibrated as the head calibrates itself: the
    sigmoids of a training part from decisions of parts that leave out one fold more."""
    shared = products.shared
    k, codes, fold = shared.k, products.codes, products.fold
    pairs = len(class_pairs(k))
    full = shared.test is not None
    # Smaller parts first: each larger one starts from one inside it, never from one that has seen
    # rows it is to answer, for within the tolerance it would remember them
    parts = sorted(parts_left_out(shared.folds, True, full), key=len, reverse=True)
    decisions = {o: np.full((len(codes), pairs, shared.folds), np.nan, np.float32) for o in on}
    final: dict[str, dict[Part, np.ndarray]] = {o: {} for o in on}
    ended: dict[str, dict[Part, np.ndarray]] = {o: {} for o in on}
    for part in parts:
        train = np.flatnonzero(~np.isin(fold, part))
        asked: list[np.ndarray | None] = [train, *(np.flatnonzero(fold == f) for f in part)]
        if part == ():
            asked.append(None)
        starts = np.searchsorted(codes[train], np.arange(k + 1))
        for o, (K, *others) in products.kernels(on, train, asked, gamma):
            inside = next((q for q in ended[o] if set(q) > set(part)), None)
            start = None if inside is None else ended[o][inside][train]
            A, bias = one_against_one(K, starts, C, start)
            if part:
                ended[o][part] = np.zeros((len(codes), pairs), dtype=np.float32)
                ended[o][part][train] = A
            for f, block in zip(part or (0,), others):
                said = block @ A + bias
                if len(part) < 2:
                    final[o][part] = said
                else:
                    other = part[0] if f == part[1] else part[1]
                    decisions[o][fold == f, :, other] = said  # for the sigmoids of fold ``other``
            if len(part) == 1:
                decisions[o][fold == part[0], :, part[0]] = final[o][part]
    return {o: _assemble(products, decisions[o], final[o]) for o in on}


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
    products: Products, on: Sequence[str], neighbours: int, sharpness: float
) -> Answers:
    """All folds of the nearest-neighbour head on each ``on``, from the same products."""
    shared, codes, fold = products.shared, products.codes, products.fold
    names = list(dict.fromkeys(p for o in on for p in parts_of(o)))
    proba = {o: np.zeros((len(codes), shared.k)) for o in on}
    tests: dict[str, np.ndarray | None] = dict.fromkeys(on)
    for part in parts_left_out(shared.folds, False, shared.test is not None):
        train = np.flatnonzero(~np.isin(fold, part))
        rows = np.flatnonzero(fold == part[0]) if part else None
        got = {name: next(products.scaled(name, train, [rows])) for name in names}
        there = np.flatnonzero(shared.present(part))
        local = np.searchsorted(there, codes[train])
        prior = np.bincount(local, minlength=len(there)) / len(train)
        for o in on:
            mine = [got[p] for p in parts_of(o)]
            dots = mine[0][0] if len(mine) == 1 else sum(m[0] for m in mine)
            own, theirs = sum(m[1] for m in mine), sum(m[2] for m in mine)
            cosine = dots / np.sqrt(np.maximum(own, 1e-24))[:, None]
            cosine /= np.sqrt(np.maximum(theirs, 1e-24))
            out = np.zeros((len(cosine), shared.k))
            out[:, there] = vote(cosine, local, len(there), neighbours, sharpness, prior)
            if rows is None:
                tests[o] = out
            else:
                proba[o][products.order[rows]] = out
    return {o: (proba[o], tests[o]) for o in on}
