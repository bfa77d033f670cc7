"""Numbers learned as their logarithms or their ranks, and answered as themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from headstock.heads.specs import KINDS, class_of
from headstock.store.errors import BundleError, HeadError

__all__ = ["TRANSFORMS", "TransformedRegressor"]

TRANSFORMS = ("log", "rank")
KEPT = 1000
"""Quantiles by which ranks are kept, as scikit-learn's QuantileTransformer has it."""
ENDS = 1e-7
"""Of the ranks: their normal scores end at 5.2, as there."""


class TransformedRegressor:
    """A head that learns log(1 + y), or the normal scores of the ranks of y, as scikit-learn's
    TransformedTargetRegressor does with ``np.log1p`` or a QuantileTransformer to the normal
    distribution. What it knows of the numbers it has from its training rows."""

    kind = "transformed-number"

    def __init__(self, head: Any, how: str) -> None:
        if how not in TRANSFORMS:
            raise ValueError(f"transform is one of {', '.join(TRANSFORMS)}")
        self.head, self.how = head, how
        self.wants: frozenset[str] = getattr(head, "wants", frozenset())
        self.parallel = bool(getattr(head, "parallel", False))
        self.unheld = getattr(head, "unheld", "")

    def fit(self, X: np.ndarray, y: np.ndarray, **given: Any) -> TransformedRegressor:
        y = np.asarray(y, dtype=np.float64)
        self._values, self._shares = np.empty(0), np.empty(0)
        if self.how == "log" and y.min() <= -1:
            what = f"log(1 + number), and there is {y.min():g}"
            raise HeadError("transform log", what, "take rank, or numbers above -1")
        if self.how == "rank":
            shares = np.linspace(0, 1, min(KEPT, len(y)))
            values = np.quantile(y, shares)
            # equal numbers have the mean of their ranks
            self._values, place = np.unique(values, return_inverse=True)
            self._shares = np.bincount(place.ravel(), shares) / np.bincount(place.ravel())
        self.head.fit(X, self._forth(y), **given)
        return self

    def _forth(self, y: np.ndarray) -> np.ndarray:
        if self.how == "log":
            return np.log1p(y)
        return ndtri(np.clip(np.interp(y, self._values, self._shares), ENDS, 1 - ENDS))

    def predict(self, X: np.ndarray) -> np.ndarray:
        said = np.asarray(self.head.predict(X), dtype=np.float64).reshape(-1)
        if self.how == "log":
            return np.expm1(np.minimum(said, 700.0))
        return np.interp(ndtr(said), self._shares, self._values)

    def __getattr__(self, name: str) -> Any:
        # what the head inside can say of itself
        if name in ("importances", "chosen_", "how_"):
            return getattr(self.head, name)
        raise AttributeError(name)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if getattr(self.head, "kind", None) not in KINDS:
            what = "its head is a file's own and cannot be saved with it"
            raise BundleError(f"transform {self.how}", what, "transform inside your head")
        meta, arrays = self.head.state()
        told = {"transform": self.how, "kind": self.head.kind, "meta": meta}
        inside = {f"inside/{name}": array for name, array in arrays.items()}
        return told, {"values": self._values, "shares": self._shares, **inside}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> TransformedRegressor:
        kind = str(meta["kind"])
        if kind == cls.kind or not kind.endswith("-number"):
            raise BundleError("transform", "holds no head for numbers", "fit the model again")
        own = {n.removeprefix("inside/"): a for n, a in arrays.items() if n.startswith("inside/")}
        inside = class_of(kind).from_state(meta["meta"], own, k)
        head = cls(inside, str(meta["transform"]))
        head._values, head._shares = arrays["values"], arrays["shares"]
        rising = all((np.diff(a) > 0).all() for a in (head._values, head._shares))
        if head._values.shape != head._shares.shape or head._values.ndim != 1 or not rising:
            raise BundleError("transform", "its ranks do not rise", "fit the model again")
        return head
