"""k-nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.engine.loops import compiled, loops
from headstock.heads.head import encode_labels
from headstock.heads.kinds.scaling import Blocks
from headstock.store.errors import BundleError

__all__ = ["Neighbours", "knn", "nearest", "votes"]


def nearest(similarity: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values (m, count) of the largest of each row of ``similarity`` (m, n)."""
    m, n = similarity.shape
    if compiled():
        near = np.zeros((m, count), dtype=np.int64)
        close = np.zeros((m, count), dtype=np.float32)
        loops().nearest(similarity, np.ones(n, dtype=np.float32), near, close)
        return near, close
    near = np.argpartition(similarity, n - count, axis=1)[:, n - count :]
    return near, np.take_along_axis(similarity, near, axis=1)


def votes(
    near: np.ndarray,
    close: np.ndarray,
    codes: np.ndarray,
    k: int,
    sharpness: float,
    prior: np.ndarray,
) -> np.ndarray:
    """(m, k) shares of the votes of each row's neighbours ``near`` (m, c), by row number, whose
    similarities are ``close`` (m, c).

    A neighbour votes with exp(sharpness * (its similarity - the nearest's)); half a vote is spread
    over the classes by ``prior`` (k,), so that no probability is zero.
    """
    close = close.astype(np.float64)
    weight = np.exp(sharpness * (close - close.max(axis=1, keepdims=True)))
    cells = np.arange(len(near))[:, None] * k + codes[near]
    cast = np.bincount(cells.ravel(), weight.ravel(), len(near) * k)
    out = cast.reshape(-1, k) + 0.5 * prior
    return out / out.sum(axis=1, keepdims=True)


class Neighbours:
    """Votes of the nearest training rows; similarity is the cosine after block scaling."""

    kind = "neighbours"
    wants = frozenset({"spans"})

    def __init__(self, neighbours: int, sharpness: float) -> None:
        self.neighbours, self.sharpness = neighbours, sharpness
        self.fast = {"how": "neighbours", "neighbours": neighbours, "sharpness": sharpness}

    def fit(
        self, X: np.ndarray, y: np.ndarray, spans: Mapping[str, slice] | None = None
    ) -> Neighbours:
        self.classes_, self.codes_ = encode_labels(y)
        self.scaler_ = Blocks.of(X, spans)
        self.rows_ = self._unit(X)
        return self

    def _unit(self, X: np.ndarray) -> np.ndarray:
        Z = self.scaler_(X)
        Z /= np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
        return Z

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        k = len(self.classes_)
        prior = np.bincount(self.codes_, minlength=k) / len(self.codes_)
        out = np.empty((len(X), k))
        for start in range(0, len(X), 1024):
            part = slice(start, start + 1024)
            similarity = self._unit(X[part]) @ self.rows_.T
            found = nearest(similarity, min(self.neighbours, len(self.rows_)))
            out[part] = votes(*found, self.codes_, k, self.sharpness, prior)
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta = {"neighbours": self.neighbours, "sharpness": self.sharpness}
        return meta, {
            "mean": self.scaler_.mean,
            "scale": self.scaler_.scale,
            "starts": self.scaler_.starts,
            "rows": self.rows_,
            "codes": self.codes_,
        }

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> Neighbours:
        head = cls(int(meta["neighbours"]), float(meta["sharpness"]))
        head.scaler_ = Blocks(arrays["mean"], arrays["scale"], arrays["starts"])
        head.rows_, head.codes_ = arrays["rows"], arrays["codes"]
        head.classes_ = np.arange(k)
        if head.codes_.min() < 0 or head.codes_.max() >= k or len(head.codes_) != len(head.rows_):
            raise BundleError("knn", "a neighbour's class does not exist", "fit the model again")
        return head


def knn(seed: int, neighbours: int = 10, sharpness: float = 10.0) -> Neighbours:
    """k-nearest neighbours by cosine, nearer ones weighing more. neighbours: how many vote;
    sharpness: how fast a vote falls with the distance (0: all equal)."""
    if not isinstance(neighbours, int) or neighbours < 1:
        raise ValueError("neighbours must be a whole number from 1")
    if not sharpness >= 0:
        raise ValueError("sharpness must be 0 or more")
    return Neighbours(neighbours, sharpness)
