"""Inner products of rows in the scaling of any training part, tile by tile.

A wide set is scaled as one block, by one number a training part, so x.z of all its rows is computed
once, where memory allows, and every part's products are an affine map of it. A narrow set is scaled
column by column in each part, where its products are cheap. Rows stand sorted by class, then fold.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from headstock.heads.engine.dense import dense
from headstock.heads.engine.loops import loops, runs_of
from headstock.heads.kinds.scaling import WIDE, standardise
from headstock.heads.threads import by_rows

if TYPE_CHECKING:
    from headstock.heads.engine.shared import Part, Shared

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
        self._along: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._whole: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}

    def train(self, part: Part) -> np.ndarray:
        """The numbers, in order, of a training part's rows."""
        return np.flatnonzero(~np.isin(self.fold, part))

    def rows(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """A set's rows in order, and its test rows, centred by the mean of all and scaled by
        about their length: neither changes what a part makes of them."""
        if name not in self._rows:
            X = self.shared.rows.X[name]
            mean = X.mean(axis=0, dtype=np.float64)
            some = X[:: len(X) // 1000 + 1] - mean
            scale = float(np.sqrt(np.vdot(some, some) / len(some))) or 1.0

            def centred(rows: slice, out: np.ndarray, of: np.ndarray) -> None:
                np.multiply(
                    of[self.order[rows]] - mean, 1.0 / scale, out[rows], casting="same_kind"
                )

            Z = by_rows(centred, X)
            fresh = None
            if self.shared.test is not None:
                fresh = standardise(self.shared.test.X[name], mean, np.full(len(mean), scale))
            self._rows[name] = Z, fresh
        return self._rows[name]

    def sums(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """By fold: sums of ``rows`` (f, d) and of their squares (f, d), float64."""
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

    def along(self, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """For ``rows``, and for the test rows where there are any: their products with each fold's
        sum (n, f), and |z|^2 (n,)."""
        if name not in self._along:
            one = self.sums(name)[0].astype(np.float32)
            there = [Z for Z in self.rows(name) if Z is not None]
            self._along[name] = [(Z @ one.T, np.einsum("ij,ij->i", Z, Z)) for Z in there]
        return self._along[name]

    def whole(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Products of all rows with all rows, and of test rows with all rows; once a set, whose
        ``rows`` are let go."""
        if name not in self._whole:
            self.along(name)
            Z, fresh = self.rows(name)
            held = dense(Z, self.shared.device)
            self._whole[name] = held.own(), None if fresh is None else held.across(fresh)
            del self._rows[name]
        return self._whole[name]

    def is_wide(self, name: str) -> bool:
        """Whether the set is scaled as one block."""
        return self.shared.rows.X[name].shape[1] >= WIDE


class View:
    """One set as one training part sees it: products with its rows, scaled and centred as
    ``scaling.Blocks`` does it on them."""

    def __init__(self, products: Products, name: str, train: np.ndarray) -> None:
        one, two = products.sums(name)
        folds = np.unique(products.fold[train])
        n, width = len(train), one.shape[1]
        mean = one[folds].sum(axis=0) / n
        variance = two[folds].sum(axis=0) / n - mean**2
        self._source: tuple[np.ndarray, np.ndarray | None]
        self._base: np.ndarray | None
        self.wide = products.is_wide(name)
        if self.wide:
            self.alpha = 1.0 / (float(variance.sum()) or 1.0)
            middle = np.float32(mean @ mean)
            self._side, self._own = [], []
            for by_fold, squares in products.along(name):
                along = by_fold[:, folds].sum(axis=1) / np.float32(n)
                self._side.append(middle - along)
                self._own.append(squares - 2 * along + middle)
            self._shift, self._theirs = self._side[0][train] - middle, self._own[0][train]
            self._train = train
            self._begins, self._ends = runs_of(train)
            self._source, self._base = products.whole(name), None
            return
        Z, fresh = products.rows(name)
        flat = variance <= 1e-12 * mean**2 + 1e-30
        factor = (1.0 / np.sqrt(np.where(flat, 1.0, variance) * width)).astype(np.float32)
        centre = mean.astype(np.float32)
        points = (Z - centre) * factor
        asked = None if fresh is None else (fresh - centre) * factor
        self._source, self.alpha = (points, asked), 1.0
        self._own = [None if p is None else np.einsum("ij,ij->i", p, p) for p in (points, asked)]
        self._theirs = self._own[0][train]
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
        return self._own[tested][rows] * np.float32(self.alpha)

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
            own[:, 0] *= self._own[tested][rows]
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
