"""Averages of regression trees, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstock.heads.kinds.trees import ARRAYS, summed, whole_trees
from headstock.store.errors import BundleError

__all__ = ["TreesRegressor", "extra_trees", "forest"]


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
        nodes = self._starts, self._left, self._right, self._feature, self._threshold
        total = summed(X, self._columns, *nodes, self._value[:, None])[:, 0]
        return total / (len(self._starts) - 1)

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
        *nodes, _ = (arrays[name] for name in ARRAYS)
        if not (whole_trees(head._columns, *nodes) and arrays["value"].ndim == 1):
            raise BundleError("trees", "their node numbers are not a tree's", "fit the model again")
        return head


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
