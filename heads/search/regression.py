"""Options of a head for numbers, chosen inside the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstock.heads.search.tuning import Tuned

__all__ = ["TunedRegressor"]


class TunedRegressor(Tuned):
    """A head whose options are those with the smallest mean squared error on rows held out by
    ``inner``; as ``Tuned``, the choice is made anew inside each fold."""

    def __init__(
        self, make: Callable[[Mapping[str, Any]], Any], points: list[dict[str, Any]]
    ) -> None:
        super().__init__(make, points)
        self.loss = "squared_error"

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        inner: np.ndarray | None = None,
        spans: Mapping[str, slice] | None = None,
    ) -> TunedRegressor:
        if inner is None:
            inner = np.random.default_rng(0).permutation(np.arange(len(y)) % 5)
        self.losses_ = [self._squares(point, X, y, inner, spans) for point in self.points]
        self.chosen_ = self.points[int(np.argmin(self.losses_))]
        self.head_ = self._fit(self.chosen_, X, y, inner, spans)
        return self

    def _squares(
        self, point: Mapping[str, Any], X: np.ndarray, y: np.ndarray, inner: np.ndarray,
        spans: Mapping[str, slice] | None,
    ) -> float:  # fmt: skip
        total = 0.0
        for fold in np.unique(inner):
            held = inner == fold
            if held.all():
                return 0.0
            head = self._fit(point, X[~held], y[~held], inner[~held], spans)
            total += float(((head.predict(X[held]) - y[held]) ** 2).sum())
        return total / len(y)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(m,) numbers."""
        return np.asarray(self.head_.predict(X))
