"""Averages of regression trees, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstock.store.errors import BundleError

__all__ = ["TreesRegressor", "extra_trees", "forest"]

ARRAYS = ("starts", "left", "right", "feature", "threshold", "value", "importances")


class TreesRegressor:
    """The mean of the trees' leaves. Trees stand one after the other in flat arrays, as those for
    classes (``kinds.trees``), with a number a node for ``value``."""

    kind = "trees-number"
    parallel = True

    def __init__(self, make: Callable[[], Any] | None) -> None:
        self._make = make

    def fit(self, X: np.ndarray, y: np.ndarray) -> TreesRegressor:
        assert self._make is not None
        model = self._make().fit(X, y)
        trees = [one.tree_ for one in model.estimators_]
        self._columns = X.shape[1]
        self._starts = np.cumsum([0, *(t.node_count for t in trees)])
        self._left = np.concatenate([t.children_left for t in trees]).astype(np.int32)
        self._right = np.concatenate([t.children_right for t in trees]).astype(np.int32)
        self._feature = np.concatenate([t.feature for t in trees]).astype(np.int32)
        self._threshold = np.concatenate([t.threshold for t in trees]).astype(np.float64)
        self._value = np.concatenate([t.value[:, 0, 0] for t in trees])
        self._importances = np.asarray(model.feature_importances_)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, dtype=np.float32)
        out = np.zeros(len(X))
        for start in self._starts[:-1]:
            node, moving = np.full(len(X), start), np.arange(len(X))
            while len(moving):
                here = node[moving]
                inside = self._left[here] >= 0
                moving, here = moving[inside], here[inside]
                low = X[moving, self._feature[here]] <= self._threshold[here]
                node[moving] = start + np.where(low, self._left[here], self._right[here])
            out += self._value[node]
        return out / (len(self._starts) - 1)

    def importances(self) -> np.ndarray:
        """(d,) share of the variance that splits on each column removed."""
        return self._importances

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"columns": self._columns}, {name: getattr(self, f"_{name}") for name in ARRAYS}

    @classmethod
    def from_state(
        cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int
    ) -> TreesRegressor:
        head = cls(None)
        head._columns = int(meta["columns"])
        for name in ARRAYS:
            setattr(head, f"_{name}", arrays[name])
        if not head._whole():
            raise BundleError("trees", "their node numbers are not a tree's", "fit the model again")
        return head

    def _whole(self) -> bool:
        """Whether a child comes after its parent and inside its tree, so that every walk ends."""
        starts, left, right, total = self._starts, self._left, self._right, len(self._left)
        alike = (right, self._feature, self._threshold, self._value)
        if not (
            starts.ndim == 1 and len(starts) > 1 and starts[0] == 0 and starts[-1] == total
            and (np.diff(starts) > 0).all() and all(a.shape == (total,) for a in (left, *alike))
        ):  # fmt: skip
            return False
        place = np.arange(total) - np.repeat(starts[:-1], np.diff(starts))
        size = np.repeat(np.diff(starts), np.diff(starts))
        inside = left >= 0
        after = (left > place) & (left < size) & (right > place) & (right < size)
        known = (self._feature >= 0) & (self._feature < self._columns)
        return bool((after & known)[inside].all() and (left >= -1).all())


def _trees(kind: str, seed: int, options: Mapping[str, Any]) -> TreesRegressor:
    def make() -> Any:
        import sklearn.ensemble

        return getattr(sklearn.ensemble, kind)(random_state=seed, n_jobs=1, **options)

    return TreesRegressor(make)


def forest(
    seed: int,
    n_estimators: int = 200,
    max_depth: int | None = None,
    min_samples_leaf: int = 1,
    max_features: float | str = 0.33,
) -> TreesRegressor:
    """Random forest, as scikit-learn's RandomForestRegressor; a third of the columns is tried at a
    split (Breiman 2001), where scikit-learn tries all."""
    return _trees("RandomForestRegressor", seed, {
        "n_estimators": n_estimators, "max_depth": max_depth,
        "min_samples_leaf": min_samples_leaf, "max_features": max_features,
    })  # fmt: skip


def extra_trees(
    seed: int,
    n_estimators: int = 200,
    max_depth: int | None = None,
    min_samples_leaf: int = 1,
    max_features: float | str = 0.33,
) -> TreesRegressor:
    """Extremely randomised trees, as scikit-learn's ExtraTreesRegressor: random thresholds, no
    bootstrap."""
    return _trees("ExtraTreesRegressor", seed, {
        "n_estimators": n_estimators, "max_depth": max_depth,
        "min_samples_leaf": min_samples_leaf, "max_features": max_features,
    })  # fmt: skip
