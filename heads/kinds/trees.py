"""Decision trees and averages of them, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headstock.heads.labels import encode_labels
from headstock.store.errors import BundleError, HeadError

__all__ = ["Trees", "bagging", "extra_trees", "forest", "tree"]


ARRAYS = ("starts", "left", "right", "feature", "threshold", "value", "importances")


MOST_BYTES = 4e9
"""That the class shares of all leaves may take while trees grow."""


def _within_memory(model: Any, n: int, k: int) -> None:
    """Raises HeadError, before anything is fitted, for trees of n rows and k classes that would
    not fit: each node keeps a share a class, and there are at most two nodes a leaf."""
    trees, leaf = int(getattr(model, "n_estimators", 1)), int(getattr(model, "min_samples_leaf", 1))
    size = trees * 2.0 * (n / leaf) * k * 8
    if size > MOST_BYTES:
        raise HeadError(
            "trees",
            f"{trees} of {n:,} rows and {k:,} classes could take {size / 1e9:.1f} GB, "
            f"{MOST_BYTES / 1e9:.0f} are allowed",
            "set fewer trees, or more rows a leaf (min_leaf)",
        )


class Trees:
    """One or many decision trees; probabilities are the mean of their leaves' class shares.

    All trees stand one after the other in flat arrays: ``left``, ``right`` (child numbers inside
    the tree, -1 at a leaf), ``feature``, ``threshold`` and ``value`` (nodes, k); tree t owns nodes
    ``starts[t] : starts[t + 1]``. A row goes left when its value is at most the threshold. Rows are
    not scaled: a split does not see scale.
    """

    kind = "trees"
    parallel = True

    def __init__(self, make: Callable[[], Any] | None, majority: bool) -> None:
        self._make, self._majority = make, majority

    def fit(self, X: np.ndarray, y: np.ndarray) -> Trees:
        assert self._make is not None
        self.classes_, codes = encode_labels(y)
        model = self._make()
        _within_memory(model, len(X), len(self.classes_))
        model.fit(X, codes)
        trees = [e.tree_ for e in getattr(model, "estimators_", [model])]
        self.columns_ = X.shape[1]
        self.starts_ = np.cumsum([0, *(t.node_count for t in trees)])
        self.left_ = np.concatenate([t.children_left for t in trees]).astype(np.int32)
        self.right_ = np.concatenate([t.children_right for t in trees]).astype(np.int32)
        self.feature_ = np.concatenate([t.feature for t in trees]).astype(np.int32)
        self.threshold_ = np.concatenate([t.threshold for t in trees]).astype(np.float64)
        value = np.concatenate([t.value[:, 0, :] for t in trees])
        value = value / value.sum(axis=1, keepdims=True)
        if len(trees) == 1:  # half a row of each leaf is spread, so that no probability is zero
            count = trees[0].n_node_samples[:, None]
            value = (value * count + 0.5 / value.shape[1]) / (count + 0.5)
        if self._majority:
            value = np.eye(len(self.classes_))[value.argmax(axis=1)]
        self.value_ = value.astype(np.float32)
        self.importances_ = np.asarray(
            model.feature_importances_
            if hasattr(model, "feature_importances_")
            else np.mean([t.compute_feature_importances() for t in trees], axis=0)
        )
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, dtype=np.float32)
        rows = np.arange(len(X))
        out = np.zeros((len(X), self.value_.shape[1]))
        for start in self.starts_[:-1]:
            node = np.full(len(X), start)
            open_rows = rows
            while len(open_rows):
                here = node[open_rows]
                inside = self.left_[here] >= 0
                open_rows, here = open_rows[inside], here[inside]
                low = X[open_rows, self.feature_[here]] <= self.threshold_[here]
                node[open_rows] = start + np.where(low, self.left_[here], self.right_[here])
            out += self.value_[node]
        if len(self.starts_) > 2:  # half a tree that knows nothing: no probability is zero
            out += 0.5 / out.shape[1]
        return out / out.sum(axis=1, keepdims=True)

    def importances(self) -> np.ndarray:
        """(d,) share of the impurity that splits on each column removed."""
        return self.importances_

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"columns": self.columns_}, {name: getattr(self, name + "_") for name in ARRAYS}

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray], k: int) -> Trees:
        head = cls(None, False)
        head.classes_ = np.arange(k)
        head.columns_ = int(meta["columns"])
        for name in ARRAYS:
            setattr(head, name + "_", arrays[name])
        head._check()
        return head

    def _check(self) -> None:
        """A child comes after its parent and inside its tree, so that every walk ends."""
        starts, left, right = self.starts_, self.left_, self.right_
        total = len(left)
        good = (
            starts.ndim == 1
            and len(starts) > 1
            and starts[0] == 0
            and starts[-1] == total
            and bool((np.diff(starts) > 0).all())
            and all(len(a) == total for a in (right, self.feature_, self.threshold_, self.value_))
        )
        if good:
            own = np.arange(total) - np.repeat(starts[:-1], np.diff(starts))
            size = np.repeat(np.diff(starts), np.diff(starts))
            inside = left >= 0
            good = bool(
                ((left > own) & (left < size) & (right > own) & (right < size))[inside].all()
                and (left >= -1).all()
                and ((self.feature_ >= 0) & (self.feature_ < self.columns_))[inside].all()
                and np.isfinite(self.value_).all()
                and (self.value_.sum(axis=1) > 0).all()
            )
        if not good:
            raise BundleError("trees", "their node numbers are not a tree's", "fit the model again")


def tree(
    seed: int,
    depth: int | None = None,
    min_leaf: int = 5,
    min_split: int = 2,
    criterion: str = "gini",
) -> Trees:
    """One decision tree. depth: at most so deep (None: as deep as the rows ask); min_leaf: rows of
    a leaf; min_split: rows a node needs to be split."""

    def make() -> Any:
        from sklearn.tree import DecisionTreeClassifier

        return DecisionTreeClassifier(
            criterion=criterion,
            max_depth=depth,
            min_samples_leaf=min_leaf,
            min_samples_split=min_split,
            random_state=seed,
        )

    return Trees(make, majority=False)


def bagging(
    seed: int, trees: int = 50, depth: int | None = None, columns: float | str = "sqrt"
) -> Trees:
    """Trees on bootstrap samples that vote, one vote a tree (majority vote). columns: share of
    them tried at a split; 1.0 is Breiman's bagging and costs much on wide embeddings."""

    def make() -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            trees, max_depth=depth, max_features=columns, random_state=seed, n_jobs=1
        )

    return Trees(make, majority=True)


def forest(
    seed: int,
    trees: int = 200,
    depth: int | None = None,
    min_leaf: int = 1,
    columns: float | str = "sqrt",
    threads: int = 1,
) -> Trees:
    """Random forest: the mean of trees on bootstrap samples, a few columns tried at a split."""

    def make() -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            trees,
            max_depth=depth,
            min_samples_leaf=min_leaf,
            max_features=columns,
            random_state=seed,
            n_jobs=threads,
        )

    return Trees(make, majority=False)


def extra_trees(
    seed: int,
    trees: int = 200,
    depth: int | None = None,
    min_leaf: int = 1,
    columns: float | str = "sqrt",
    threads: int = 1,
) -> Trees:
    """Extremely randomised trees: random thresholds, no bootstrap."""

    def make() -> Any:
        from sklearn.ensemble import ExtraTreesClassifier

        return ExtraTreesClassifier(
            trees,
            max_depth=depth,
            min_samples_leaf=min_leaf,
            max_features=columns,
            random_state=seed,
            n_jobs=threads,
        )

    return Trees(make, majority=False)
