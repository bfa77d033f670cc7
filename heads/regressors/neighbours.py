"""The mean of the nearest training rows' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.solvers.scaling import Blocks
from headstock.store.errors import BundleError

__all__ = ["NeighboursRegressor", "knn"]

ROWS = 512
"""Rows that are answered at a time."""
WEIGHTS = ("uniform", "distance")


class NeighboursRegressor:
    """The nearest rows by Euclidean distance, each set scaled as ``Blocks`` does it."""

    kind = "neighbours-number"
    wants = frozenset({"spans"})
    parallel = True

    def __init__(self, n_neighbors: int, weights: str) -> None:
        self._count, self._weights = n_neighbors, weights

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> NeighboursRegressor:
        self._scaler = Blocks.of(X, spans)
        self._rows, self._y = self._scaler(X), np.asarray(y, dtype=np.float64)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        out, count = np.empty(len(X)), min(self._count, len(self._rows))
        squares = np.einsum("ij,ij->i", self._rows, self._rows)
        for start in range(0, len(X), ROWS):
            part = slice(start, start + ROWS)
            Z = self._scaler(X[part])
            near = np.argpartition(squares - 2 * (Z @ self._rows.T), count - 1, axis=1)[:, :count]
            theirs = self._y[near]
            if self._weights == "uniform":
                out[part] = theirs.mean(axis=1)
                continue
            # once more row by row: the difference of large squares leaves nothing of a small one
            gap = np.stack([np.linalg.norm(self._rows[n] - z, axis=1) for n, z in zip(near, Z)])
            same = gap == 0
            with np.errstate(divide="ignore"):
                weight = np.where(same.any(axis=1, keepdims=True), same, 1.0 / gap)
            out[part] = (theirs * weight).sum(axis=1) / weight.sum(axis=1)
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        arrays = {name: getattr(self._scaler, name) for name in ("mean", "scale", "starts")}
        meta = {"n_neighbors": self._count, "weights": self._weights}
        return meta, {**arrays, "rows": self._rows, "y": self._y}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> NeighboursRegressor:
        head = cls(int(meta["n_neighbors"]), str(meta["weights"]))
        head._scaler = Blocks(arrays["mean"], arrays["scale"], arrays["starts"])
        head._rows, head._y = arrays["rows"], arrays["y"]
        shapes = head._rows.ndim == 2 and head._y.shape == (len(head._rows),)
        if not (shapes and len(head._y) and head._count >= 1 and head._weights in WEIGHTS):
            raise BundleError("knn", "its rows and numbers differ", "fit the model again")
        return head


def knn(seed: int, n_neighbors: int = 10, weights: str = "distance") -> NeighboursRegressor:
    """The mean of the nearest rows' numbers, as scikit-learn's KNeighborsRegressor behind a
    StandardScaler. n_neighbors: how many; weights: ``distance`` (by one over it) or ``uniform``."""
    if not isinstance(n_neighbors, int) or n_neighbors < 1:
        raise ValueError("n_neighbors must be a whole number from 1")
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {' or '.join(WEIGHTS)}")
    return NeighboursRegressor(n_neighbors, weights)
