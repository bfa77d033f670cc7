"""Inner products of rows in the scaling of any training part, tile by tile.

A wide set is scaled as one block, by one number a training part, so x.z of all its rows is computed
once, where memory allows, and every part's products are an affine map of it. A narrow set is scaled
column by column in each part, where its products are cheap. Rows stand sorted by class, then fold.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.engine.held import FURTHEST, SCALES_APART
from headstock.heads.engine.parts import parts_left_out
from headstock.heads.rows.labelled import parts_of
from headstock.heads.solvers.dense import dense
from headstock.heads.solvers.loops import loops, runs_of
from headstock.heads.solvers.scaling import FAR, WIDE, inverse, standardise
from headstock.heads.threads import by_rows

if TYPE_CHECKING:
    from headstock.heads.engine.parts import Part
    from headstock.heads.engine.shared import Shared

__all__ = ["TILE", "Products", "View"]

TILE = 128
"""Rows of a tile: enough for a fast matrix product, few enough that its tiles stay in cache."""

SHORT = 16
"""Mean length of the runs of columns below which each column is picked by its number."""


def _blocks(n: int) -> list[slice]:
    """Slices of n rows short enough for their float64 copy to stay in cache, and for float32 to
    hold their sums."""
    return [slice(s, min(s + 256, n)) for s in range(0, n, 256)]


class Products:
    """The rows of each set in order, and what all training parts share of their products."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.order = np.lexsort((shared.fold, shared.codes))
        self.codes, self.fold = shared.codes[self.order], shared.fold[self.order]
        self._rows: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._along: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        self._whole: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}

    def train(self, part: Part) -> np.ndarray:
        """The numbers, in order, of a training part's rows."""
        return np.flatnonzero(~np.isin(self.fold, part))

    def rows(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A set's rows in order, and its test rows: a narrow set as it is held (``Held``), a wide
        one centred in the same way and scaled by about its length."""
        if name not in self._rows:
            if not self.is_wide(name):
                Z, fresh = self.shared.scaled(name)
                self._rows[name] = Z[self.order], fresh
                return self._rows[name]
            X, held = self.shared.rows.X[name], self.shared.held(name)
            centre = held.centre
            some = X[:: len(X) // 1000 + 1] - centre
            scale = float(np.sqrt(np.vdot(some, some) / len(some))) or 1.0

            def centred(rows: slice, out: np.ndarray, of: np.ndarray) -> None:
                np.multiply(
                    of[self.order[rows]] - centre, 1.0 / scale, out[rows], casting="same_kind"
                )

            Z = by_rows(centred, X)
            fresh = None
            if self.shared.test is not None:
                each = np.where(held.scale > 0, scale, 0.0)
                fresh = standardise(self.shared.test.X[name], centre, each)
            self._rows[name] = Z, fresh
        return self._rows[name]

    def sums(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """By fold: sums of a wide set's ``rows`` (f, d) and of their squares (f, d), float64."""
        if name not in self._sums:
            Z, _ = self.rows(name)
            one, two = np.zeros((2, self.shared.folds, Z.shape[1]))
            for f in range(self.shared.folds):
                mine = np.flatnonzero(self.fold == f)
                for s in _blocks(len(mine)):
                    some = Z[mine[s]]
                    one[f] += some.sum(axis=0)
                    two[f] += np.einsum("ij,ij->j", some, some)
            self._sums[name] = one, two
        return self._sums[name]

    def along(self, name: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For a wide set's ``rows``, and for the test rows where there are any: their products with
        each fold's sum (n, f); |z|^2 (n,) without the odd columns; and these columns (n, s)."""
        if name not in self._along:
            one, odd = self.sums(name)[0].astype(np.float32), self.shared.held(name).odd
            self._along[name] = []
            for Z in [Z for Z in self.rows(name) if Z is not None]:
                rest = np.delete(Z, odd, axis=1) if len(odd) else Z
                squares = np.einsum("ij,ij->i", rest, rest)
                self._along[name].append((Z @ one.T, squares, Z[:, odd]))
        return self._along[name]

    def strained(self, on: str) -> str:
        """``Shared.strained`` for kernels: only its sums as a whole must serve a wide set."""
        for name in parts_of(on):
            why = self._strained(name) if self.is_wide(name) else self.shared.strained(name)
            if why:
                return why
        return ""

    def _strained(self, name: str) -> str:
        shared, held = self.shared, self.shared.held(name)
        if not len(held.odd):
            return ""
        one, two = self.sums(name)
        far = np.max([np.abs(some).max(axis=0) for _, _, some in self.along(name)], axis=0)
        for part in parts_left_out(shared.folds, True, shared.test is not None, shared.nested):
            left = shared.left(part)
            n, constant = shared.counts[left].sum(), held.constant(left)
            mean = one[left].sum(axis=0) / n
            variance = np.where(constant, 0.0, two[left].sum(axis=0) / n - mean**2).sum()
            lost = (far * np.abs(mean[held.odd]))[constant[held.odd]].sum()
            if mean @ mean + lost > FURTHEST**2 * variance or far.max() >= FAR:
                return SCALES_APART.format(held.odd[np.argmax(far)], name)
        return ""

    def whole(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Products of all rows with all rows, and of test rows with all rows; once a set, whose
        ``rows`` are let go."""
        if name not in self._whole:
            self.along(name)
            Z, fresh = self.rows(name)
            held = dense(Z, self.shared.device)
            self._whole[name] = held.products(), None if fresh is None else held.across(fresh)
            del self._rows[name]
        return self._whole[name]

    def is_wide(self, name: str) -> bool:
        """Whether the set is scaled as one block."""
        return self.shared.rows.X[name].shape[1] >= WIDE


class View:
    """One set as one training part sees it: products with its rows, scaled and centred as
    ``scaling.Blocks`` does it on them."""

    def __init__(self, products: Products, name: str, train: np.ndarray) -> None:
        shared, held = products.shared, products.shared.held(name)
        folds = np.unique(products.fold[train])
        n = len(train)
        self._source: tuple[np.ndarray, np.ndarray | None]
        self._base: np.ndarray | None
        self.wide = products.is_wide(name)
        if self.wide:
            one, two = products.sums(name)
            constant, mean = held.constant(folds), one[folds].sum(axis=0) / n
            variance = np.where(constant, 0.0, two[folds].sum(axis=0) / n - mean**2)
            self.alpha = 1.0 / (float(variance.sum()) or 1.0)
            middle = np.float32(mean @ mean)
            still, value = constant[held.odd], mean[held.odd]
            self._side, self._norms = [], []
            for by_fold, squares, odd in products.along(name):
                along = by_fold[:, folds].sum(axis=1) / np.float32(n)
                own = squares - 2 * along + middle
                if odd.size:  # without what constant columns have of the terms beside the squares
                    own += (odd[:, ~still] ** 2).sum(axis=1)
                    own += ((2 * odd[:, still] - value[still]) @ value[still]).astype(np.float32)
                self._side.append(middle - along)
                self._norms.append(own)
            self._shift, self._theirs = self._side[0][train] - middle, self._norms[0][train]
            self._train = train
            self._begins, self._ends = runs_of(train)
            self._source, self._base = products.whole(name), None
            return
        Z, fresh = products.rows(name)
        mean, scale = shared.scaling(name, [tuple(np.setdiff1d(range(shared.folds), folds))])
        factor = (inverse(scale[0]) / np.sqrt(Z.shape[1])).astype(np.float32)
        centre = mean[0].astype(np.float32)
        points = (Z - centre) * factor
        asked = None if fresh is None else (fresh - centre) * factor
        self._source, self.alpha = (points, asked), 1.0
        self._norms = [None if p is None else np.einsum("ij,ij->i", p, p) for p in (points, asked)]
        self._theirs = self._norms[0][train]
        # Two columns more, so that one product gives the norms' part as well
        ends = np.stack([np.ones(n, dtype=np.float32), self._theirs], axis=1)
        self._base = np.ascontiguousarray(np.hstack([points[train], ends]).T)

    def only(self, columns: np.ndarray) -> View:
        """The same with some of the training rows, by their place in ``train``, rising."""
        out = copy(self)
        out._theirs = self._theirs[columns]
        if self.wide:
            out._shift = self._shift[columns]
            out._train = self._train[columns]
            out._begins, out._ends = runs_of(out._train)
        else:
            assert self._base is not None
            out._base = np.ascontiguousarray(self._base[:, columns])
        return out

    def norms(self, tested: bool, rows: np.ndarray) -> np.ndarray:
        """(r,) squared norms of rows (by number in order), or of test rows."""
        return self._norms[tested][rows] * np.float32(self.alpha)

    @property
    def theirs(self) -> np.ndarray:
        """(t,) squared norms of the training rows."""
        return self._theirs * np.float32(self.alpha)

    def tile(
        self,
        tested: bool,
        rows: np.ndarray,
        out: np.ndarray,
        *,
        times: float = 1.0,
        norms: float = 0.0,
    ) -> None:
        """out (r, t) = times x.z + norms (|x|^2 + |z|^2), for rows x and training rows z."""
        source = self._source[tested]
        assert source is not None
        if not self.wide:
            assert self._base is not None
            own = np.full((len(rows), 2), norms, dtype=np.float32)
            own[:, 0] *= self._norms[tested][rows]
            point = np.hstack([np.float32(times) * source[rows], own])
            np.matmul(point, self._base, out=out)
            return
        alpha = self.alpha * times
        side = np.float32(alpha) * self._side[tested][rows]
        shift = np.float32(alpha) * self._shift
        if norms:
            side += np.float32(norms) * self.norms(tested, rows)
            shift += np.float32(norms) * self.theirs
        factor = np.float32(alpha)
        if len(self._begins) * SHORT > len(self._train):
            loops().picked(source, rows, self._train, factor, side, shift, out)
        else:
            loops().affine(source, rows, self._begins, self._ends, factor, side, shift, out)
