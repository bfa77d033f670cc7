"""Scaling, always fitted on the training rows it is given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["FAR", "WIDE", "Blocks", "Standard", "inverse", "moments", "standardise"]

WIDE = 512
"""Columns from which a feature set is scaled as one block: the units of an embedding share a scale
that means something, and a block's distances can be shared by all folds. The columns of a narrow
set (summaries of sound, measurements) do not, and are standardised one by one."""
FAR = 1e9
"""Standard deviations beyond which a value is taken for that far: its fourth power is within
float32."""


def moments(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column mean and standard deviation of X (n, d), (d,) float64. A constant column, one whose
    smallest value is its largest, has that value and exactly 0."""
    mean, variance = _variance(X)
    return mean, np.sqrt(variance)


def _variance(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, low = X.mean(axis=0, dtype=np.float64), X.min(axis=0)
    constant = low == X.max(axis=0)
    mean[constant] = low[constant]
    squares = np.zeros_like(mean)
    for start in range(0, len(X), 4096):
        centred = X[start : start + 4096] - mean
        squares += np.einsum("ij,ij->j", centred, centred)
    return mean, np.where(constant, 0.0, squares / len(X))


def inverse(scale: np.ndarray) -> np.ndarray:
    """1 / scale, and 0 where scale is 0: what is constant in the training rows says nothing of
    them, so that it must not decide about a row in which it has another value."""
    scale = np.asarray(scale, dtype=np.float64)
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)


def standardise(X: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(X - mean) / scale as float32, centred before it is rounded, 0 in columns whose scale is 0
    and within ``FAR``; block by block, since fresh memory for whole float64 copies costs more than
    the arithmetic."""
    factor = inverse(scale)
    out = np.empty(X.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for start in range(0, len(X), 256):
            part = out[start : start + 256]
            centred = X[start : start + 256] - mean
            np.multiply(centred, factor, out=part, casting="same_kind")
            np.clip(part, -FAR, FAR, out=part)
    return out


class Standard:
    """Each column to mean 0 and standard deviation 1; a constant one is left out, as 0."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        self.mean, self.scale = mean, scale

    @classmethod
    def of(cls, X: np.ndarray) -> Standard:
        return cls(*moments(X))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(m, d) float32."""
        return standardise(X, self.mean, self.scale)


class Blocks:
    """Each feature set weighs the same, however many columns it has.

    A narrow set is standardised column by column, a wide one is only centred and scaled as a whole;
    both so that the mean squared norm of a set's rows is 1. A constant column is left out.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, starts: np.ndarray) -> None:
        self.mean, self.scale, self.starts = mean, scale, starts

    @classmethod
    def of(cls, X: np.ndarray, spans: Mapping[str, slice] | None = None) -> Blocks:
        mean, variance = _variance(X)
        blocks = sorted((spans or {"all": slice(0, X.shape[1])}).values(), key=lambda s: s.start)
        scale = np.sqrt(variance)
        for block in blocks:
            width = block.stop - block.start
            if width >= WIDE:
                scale[block] = np.where(variance[block] > 0, np.sqrt(np.mean(variance[block])), 0)
            scale[block] *= np.sqrt(width)
        return cls(mean, scale, np.array([b.start for b in blocks]))

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """(m, d) float32; a block's rows have mean squared norm 1 on the training rows."""
        return standardise(X, self.mean, self.scale)

    @property
    def blocks(self) -> int:
        return len(self.starts)
