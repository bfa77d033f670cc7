"""What heads share: scaled matrices, and the moments and Gram matrices of every training part.

A training part is named by the folds it leaves out: () is all rows, (f,) the training rows of fold
f, (f, g) what is left of those for a head that must hold out once more to calibrate itself, and the
same part serves fold f holding out g and fold g holding out f. Sums over a part are the sums over
all folds minus those of the folds it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headstock.heads.engine.dense import Dense, check_device, dense
from headstock.heads.kinds.calibration import enough_folds
from headstock.heads.kinds.scaling import moments, standardise
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.threads import by_rows

__all__ = ["MEMORY", "Part", "Shared", "parts_left_out"]

Part = tuple[int, ...]

MEMORY = 8e9
"""Bytes that kernels and products may take where nobody says; beyond, a kernel machine stands on
landmarks."""


def parts_left_out(folds: int, calibrate: bool, full: bool) -> list[Part]:
    """The training parts that answering all folds takes: one a fold; with ``calibrate`` one a pair
    of folds besides (of two folds a pair leaves nothing); with ``full`` the refit on all rows."""
    out: list[Part] = [(f,) for f in range(folds)]
    if calibrate and folds > 2:
        out += [(f, g) for f in range(folds) for g in range(f + 1, folds)]
    return [*out, ()] if full else out


@dataclass
class Shared:
    """The rows, one repeat of a plan, and what has been computed of them so far.

    Matrices are standardised once by all rows, which changes no answer (each part is scaled anew on
    its own rows, in ``scaling``) but keeps float32 sums exact enough to subtract.
    """

    rows: Rows
    plan: FoldPlan
    repeat: int
    test: Rows | None
    memory: float = MEMORY
    device: str = "cpu"
    """Where the large products are computed."""

    def __post_init__(self) -> None:
        check_device(self.device)
        self.fold = self.plan.codes[self.repeat]
        self.codes, self.k, self.folds = self.rows.codes, len(self.rows.classes), self.plan.folds
        self._scaled: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._dense: dict[str, Dense] = {}
        self._sums: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._grams: dict[tuple[str, str], np.ndarray] = {}
        self.counts = np.zeros((self.folds, self.k), dtype=np.int64)
        np.add.at(self.counts, (self.fold, self.codes), 1)

    @cached_property
    def products(self) -> Any:
        """Inner products of the rows, for kernels."""
        from headstock.heads.engine.products import Products

        return Products(self)

    def calibrating(self) -> dict[Part, np.ndarray]:
        """For each part that answers, the folds whose held-out decisions calibrate it."""
        parts = parts_left_out(self.folds, False, self.test is not None)
        left = {part: self.left(part) for part in parts}
        return {part: enough_folds(folds, self.counts[folds]) for part, folds in left.items()}

    def calibrated_parts(self) -> list[Part]:
        """The parts that answer, and those that leave out a fold more to calibrate them."""
        chosen = self.calibrating()
        held = {tuple(sorted((f, int(g)))) for part in chosen for f in part for g in chosen[part]}
        return [*chosen, *(sorted(held) if self.folds > 2 else ())]

    def mask(self, part: Part) -> np.ndarray:
        """(n,) bool: the rows of a training part."""
        return ~np.isin(self.fold, part)

    def left(self, part: Part) -> np.ndarray:
        """The folds of a training part, in order."""
        return np.setdiff1d(np.arange(self.folds), part)

    def scaled(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """One set's rows (n, d) and test rows (m, d), standardised by all training rows."""
        if name not in self._scaled:
            X = self.rows.X[name]
            mean, scale = moments(X)

            def own(rows: slice, out: np.ndarray, of: np.ndarray) -> None:
                out[rows] = standardise(of[rows], mean, scale)

            fresh = None if self.test is None else by_rows(own, self.test.X[name])
            self._scaled[name] = by_rows(own, X), fresh
        return self._scaled[name]

    def matrix(self, on: str) -> tuple[np.ndarray, np.ndarray | None]:
        """``scaled`` of the sets in ``on`` side by side."""
        if on not in self._scaled:
            both = [self.scaled(p) for p in parts_of(on)]
            fresh = [t for _, t in both if t is not None]

            def copy(rows: slice, out: np.ndarray, *of: np.ndarray) -> None:
                np.concatenate([z[rows] for z in of], axis=1, out=out[rows])

            joined = by_rows(copy, *[z for z, _ in both])
            self._scaled[on] = joined, by_rows(copy, *fresh) if fresh else None
        return self._scaled[on]

    def dense(self, on: str) -> Dense:
        """The rows of ``matrix`` where their products are computed."""
        if on not in self._dense:
            self._dense[on] = dense(self.matrix(on)[0], self.device)
        return self._dense[on]

    def release(self) -> None:
        """Let go of what linear heads stand on, which is computed again when one comes: a kernel
        then takes memory whose pages are there, and new ones cost seconds a gigabyte."""
        for kept in (self._scaled, self._dense, self._grams):
            kept.clear()

    def sums(self, on: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By fold: sums of the columns (f, d), of their squares (f, d), of each class's rows
        (f, k, d); float64."""
        parts = parts_of(on)
        for name in parts:
            if name not in self._sums:
                Z, _ = self.scaled(name)
                d = Z.shape[1]
                one, two = np.empty((self.folds, d)), np.empty((self.folds, d))
                own = np.zeros((self.folds, self.k, d))
                for f in range(self.folds):
                    part, codes = Z[self.fold == f], self.codes[self.fold == f]
                    one[f] = part.sum(axis=0, dtype=np.float64)
                    two[f] = np.einsum("ij,ij->j", part, part, dtype=np.float64)
                    for c in np.unique(codes):
                        own[f, c] = part[codes == c].sum(axis=0, dtype=np.float64)
                self._sums[name] = one, two, own
        got = [self._sums[name] for name in parts]
        return tuple(np.concatenate([g[i] for g in got], axis=-1) for i in range(3))  # type: ignore

    def scaling(self, on: str, parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
        """(p, d) mean and standard deviation of each training part; a constant column has 1."""
        one, two, _ = self.sums(on)
        mean, scale = np.empty((len(parts), one.shape[1])), np.empty((len(parts), one.shape[1]))
        for p, part in enumerate(parts):
            left = self.left(part)
            n = self.counts[left].sum()
            mean[p] = one[left].sum(axis=0) / n
            variance = two[left].sum(axis=0) / n - mean[p] ** 2
            scale[p] = np.sqrt(np.where(variance < 1e-9, 1.0, variance))
        return mean, scale

    def gram(self, on: str) -> np.ndarray:
        """(f, d, d) float32 products of the columns over each fold's rows."""
        names = parts_of(on)
        if len(names) == 1:
            return self._gram(on, on)
        ends = np.cumsum([self.rows.X[name].shape[1] for name in names])
        spans = [slice(e - self.rows.X[name].shape[1], e) for name, e in zip(names, ends)]
        out = np.empty((self.folds, ends[-1], ends[-1]), dtype=np.float32)
        for a, down in zip(names, spans):
            for b, along in zip(names, spans):
                out[:, down, along] = self._gram(a, b)
        return out

    def _gram(self, a: str, b: str) -> np.ndarray:
        order = list(self.rows.X)
        if order.index(a) > order.index(b):  # one order only: the same sums whoever asks first
            return self._gram(b, a).transpose(0, 2, 1)
        if (a, b) not in self._grams:
            left, right = self.dense(a), self.dense(b)
            shape = self.folds, left.shape[1], right.shape[1]
            self._grams[a, b] = np.empty(shape, dtype=np.float32)
            for f, out in enumerate(self._grams[a, b]):
                left.gram(np.flatnonzero(self.fold == f), right, out)
        return self._grams[a, b]

    def present(self, part: Part) -> np.ndarray:
        """(k,) bool: the classes a training part has rows of."""
        return self.counts[self.left(part)].sum(axis=0) > 0


def widths(rows: Rows, on: str) -> Mapping[str, int]:
    """Columns of each set in ``on``."""
    return {p: rows.X[p].shape[1] for p in parts_of(on)}
