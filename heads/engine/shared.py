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

from headstock.heads.engine.held import SCALES_APART, Held, hold
from headstock.heads.engine.parts import Part, parts_left_out
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows, parts_of
from headstock.heads.solvers.calibration import enough_folds
from headstock.heads.solvers.dense import Dense, check_device, dense
from headstock.heads.solvers.scaling import FAR
from headstock.heads.threads import by_rows

__all__ = ["MEMORY", "Shared"]

MEMORY = 8e9
"""Bytes that kernels and products may take where nobody says; beyond, a kernel machine stands on
landmarks."""


@dataclass
class Shared:
    """The rows, one repeat of a plan, and what has been computed of them so far.

    Matrices are held in units that serve all parts (``held``), which changes no answer: each part
    is scaled anew on its own rows, in ``scaling``.
    """

    rows: Rows
    plan: FoldPlan
    repeat: int
    test: Rows | None
    memory: float = MEMORY
    device: str = "cpu"
    """Where the large products are computed."""
    nested: bool = False
    """Whether each fold is answered without each other fold, for fusions that learn from it: by
    parts that leave out two. There are no test rows then."""

    def __post_init__(self) -> None:
        check_device(self.device)
        self.fold = self.plan.codes[self.repeat]
        self.codes, self.k, self.folds = self.rows.codes, len(self.rows.classes), self.plan.folds
        self._scaled: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self._dense: dict[str, Dense] = {}
        self._held: dict[str, Held] = {}
        self._grams: dict[tuple[str, str], np.ndarray] = {}
        self.counts = np.zeros((self.folds, self.k), dtype=np.int64)
        np.add.at(self.counts, (self.fold, self.codes), 1)

    @cached_property
    def products(self) -> Any:
        """Inner products of the rows, for kernels."""
        from headstock.heads.engine.products import Products

        return Products(self)

    @property
    def asked(self) -> list[Part]:
        """The parts that answer."""
        return parts_left_out(self.folds, False, self.test is not None, self.nested)

    @property
    def most_rows(self) -> int:
        """Rows of the largest of them."""
        sizes = self.counts.sum(axis=1)
        return max(int(sizes[self.left(part)].sum()) for part in self.asked)

    def empty(self) -> np.ndarray:
        """Room for the answers (e, n, k), NaN: e is 1, or nested the folds left out besides."""
        return np.full((self.folds if self.nested else 1, len(self.codes), self.k), np.nan)

    def calibrating(self) -> dict[Part, np.ndarray]:
        """For each part that answers, the folds whose held-out decisions calibrate it."""
        left = {part: self.left(part) for part in self.asked}
        return {part: enough_folds(folds, self.counts[folds]) for part, folds in left.items()}

    def calibrated_parts(self) -> list[Part]:
        """The parts that answer, and those that leave out a fold more to calibrate them."""
        chosen = self.calibrating()
        held = {tuple(sorted((*part, int(g)))) for part in chosen for g in chosen[part] if part}
        return [*chosen, *sorted(part for part in held if len(part) < self.folds)]

    def mask(self, part: Part) -> np.ndarray:
        """(n,) bool: the rows of a training part."""
        return ~np.isin(self.fold, part)

    def left(self, part: Part) -> np.ndarray:
        """The folds of a training part, in order."""
        return np.setdiff1d(np.arange(self.folds), part)

    def held(self, name: str) -> Held:
        """The units of one set, and its sums by fold."""
        if name not in self._held:
            X = self.rows.X[name]
            self._held[name], Z = hold(X, self.fold, self.folds, self.codes, self.k, self.nested)
            self._scaled[name] = Z, self._fresh(name)
        return self._held[name]

    def scaled(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """One set's rows (n, d) and test rows (m, d) in these units."""
        held = self.held(name)
        if name not in self._scaled:
            self._scaled[name] = held(self.rows.X[name]), self._fresh(name)
        return self._scaled[name]

    def _fresh(self, name: str) -> np.ndarray | None:
        return None if self.test is None else self._held[name](self.test.X[name])

    def strained(self, on: str) -> str:
        """Which column takes units that do not serve all parts, so that each must be computed by
        itself; empty where none does."""
        for name in parts_of(on):
            held, fresh = self.held(name), self.scaled(name)[1]
            column = held.strained
            if column is None and fresh is not None and len(held.odd):
                far = np.abs(fresh[:, held.odd]).max(axis=0) >= FAR
                column = int(held.odd[np.argmax(far)]) if far.any() else None
            if column is not None:
                return SCALES_APART.format(column, name)
        return ""

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
        got = [self.held(name) for name in parts_of(on)]
        each = [(held.one, held.two, held.of_class) for held in got]
        return tuple(np.concatenate([g[i] for g in each], axis=-1) for i in range(3))  # type: ignore

    def scaling(self, on: str, parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
        """(p, d) mean and standard deviation of each training part; a constant column has 0."""
        one, two, _ = self.sums(on)
        mean, scale = np.empty((len(parts), one.shape[1])), np.empty((len(parts), one.shape[1]))
        for p, part in enumerate(parts):
            left = self.left(part)
            n = self.counts[left].sum()
            mean[p] = one[left].sum(axis=0) / n
            variance = np.maximum(two[left].sum(axis=0) / n - mean[p] ** 2, 0.0)
            constant = [self.held(name).constant(left) for name in parts_of(on)]
            scale[p] = np.where(np.concatenate(constant), 0.0, np.sqrt(variance))
        return mean, scale

    def part_gram(self, on: str, part: Part, grams: np.ndarray, total: np.ndarray) -> np.ndarray:
        """(d, d) float32 products of the columns over a part's rows, from ``gram`` and its total:
        this less what the part leaves out, or, where an odd column would leave nothing of the
        difference, the sum of what is left."""
        first, *others = self.left(part)
        if any(len(self.held(name).odd) for name in parts_of(on)):
            out = grams[first].copy()
            for f in others:
                out += grams[f]
            return out
        out = total.copy()
        for f in part:
            out -= grams[f]
        return out

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
