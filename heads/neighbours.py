"""k-nearest neighbours by cosine similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headstock.heads.head import encode_labels
from headstock.heads.scaling import Blocks
from headstock.store.errors import BundleError

__all__ = ["Neighbours", "knn", "vote"]


def vote(
    similarity: np.ndarray,
    codes: np.ndarray,
    k: int,
    neighbours: int,
    sharpness: float,
    prior: np.ndarray,
) -> np.ndarray:
    """(m, k) shares of the votes of each row's nearest among n, from ``similarity`` (m, n).

    A neighbour votes with exp(sharpness * (its similarity - the nearest's)); half a vote is spread
    over the classes by ``prior`` (k,), so that no probability is zero.
    """
    m, n = similarity.shape
    count = min(neighbours, n)
    near = np.argpartition(similarity, n - count, axis=1)[:, n - count :]
    close = np.take_along_axis(similarity, near, axis=1).astype(np.float64)
    weight = np.exp(sharpness * (close - close.max(axis=1, keepdims=True)))
    votes = np.zeros((m, k))
    np.add.at(votes, (np.arange(m)[:, None], codes[near]), weight)
    votes += 0.5 * prior
    return votes / votes.sum(axis=1, keepdims=True)


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
            out[part] = vote(similarity, self.codes_, k, self.neighbours, self.sharpness, prior)
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
    if neighbours < 1:
        raise ValueError(f"neighbours={neighbours} is below 1")
    return Neighbours(neighbours, sharpness)
