"""Decision trees and averages of them, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstock.heads.codes import encode_labels
from headstock.store.errors import BundleError, HeadError

__all__ = ["ARRAYS", "Trees", "bagging", "extra_trees", "forest", "summed", "tree", "whole_trees"]

ARRAYS = ("starts", "left", "right", "feature", "threshold", "value", "importances")
MOST_BYTES = 4e9
"""That the class shares of all leaves may take while trees grow."""


@dataclass(frozen=True)
class Growth:
    """How trees grow, by scikit-learn's names. max_features: tried at a split: ``sqrt``, ``log2``,
    a share, a number, or None for all; min_samples_leaf and _split: below 1 a share of the rows;
    random: thresholds are drawn; sampled: each tree has its own bootstrap sample; majority: a tree
    gives its vote and not its shares."""

    n_estimators: int = 1
    max_features: float | str | None = None
    max_depth: int | None = None
    min_samples_leaf: float = 1
    min_samples_split: float = 2
    criterion: str = "gini"
    random: bool = False
    sampled: bool = False
    majority: bool = False
    n_jobs: int = 1

    def __post_init__(self) -> None:
        share, leaf, split = self.max_features, self.min_samples_leaf, self.min_samples_split
        good = {
            "n_estimators is a whole number from 1": self.n_estimators
            == int(self.n_estimators)
            >= 1,
            "n_jobs is a whole number from 1": self.n_jobs == int(self.n_jobs) >= 1,
            "max_depth is a whole number from 1, or null": self.max_depth is None
            or self.max_depth == int(self.max_depth) >= 1,
            "min_samples_leaf is a number of rows from 1, or a share below 1": _counts(leaf, 1),
            "min_samples_split is a number of rows from 2, or a share up to 1": _counts(split, 2)
            or (isinstance(split, float) and split == 1),
            "max_features is sqrt, log2, a share up to 1, a number of columns, or null": share
            in ("sqrt", "log2", None)
            or (not isinstance(share, str) and _counts(share, 1)),
            "criterion is gini, entropy or log_loss": self.criterion
            in ("gini", "entropy", "log_loss"),
        }
        wrong = [rule for rule, kept in good.items() if not kept]
        if wrong:
            raise ValueError("; ".join(wrong))

    def rule(self, n: int, d: int) -> tuple[int, int, int, int, bool, bool]:
        """What ``grow`` is given for n rows of d columns."""
        named = {"sqrt": np.sqrt(d), "log2": np.log2(d), None: d}
        share, leaf, split = self.max_features, self.min_samples_leaf, self.min_samples_split
        if isinstance(share, str) or share is None:
            tried = named[share]
        else:
            tried = share * d if isinstance(share, float) and share <= 1 else share
        return (
            min(d, max(1, int(tried))),
            n if self.max_depth is None else self.max_depth,
            int(leaf if leaf >= 1 else np.ceil(leaf * n)),
            int(max(2, split if split > 1 else np.ceil(split * n))),
            self.random,
            self.criterion != "gini",
        )

    def within_memory(self, n: int, k: int) -> None:
        """Raises HeadError, before anything is fitted, for trees of n rows and k classes that would
        not fit: each node keeps a share a class, and there are at most two nodes a leaf."""
        size = self.n_estimators * 2.0 * (n / self.rule(n, 1)[2]) * k * 8
        if size > MOST_BYTES:
            raise HeadError(
                "trees",
                f"{self.n_estimators} of {n:,} rows and {k:,} classes could take "
                f"{size / 1e9:.1f} GB, "
                f"{MOST_BYTES / 1e9:.0f} are allowed",
                "set n_estimators lower, or min_samples_leaf higher",
            )


def _counts(value: float, least: int) -> bool:
    return 0 < value < 1 or (value >= least and value == int(value))


class Trees:
    """One or many decision trees; probabilities are the mean of their leaves' class shares.

    All trees stand one after the other in flat arrays: ``left``, ``right`` (child numbers inside
    the tree, -1 at a leaf), ``feature``, ``threshold`` and ``value`` (nodes, k); tree t owns nodes
    ``starts[t] : starts[t + 1]``. A row goes left when its value is at most the threshold. Rows are
    not scaled: a split does not see scale. Splits are found between bins of each column (``bins``).
    """

    kind = "trees"
    parallel = True

    def __init__(self, seed: int, growth: Growth | None) -> None:
        self._seed, self._growth = seed, growth

    def fit(self, X: np.ndarray, y: np.ndarray) -> Trees:
        from headstock.heads.kinds.bins import binned
        from headstock.heads.kinds.growing import bootstrap, grow, shares

        growth = self._growth
        assert growth is not None
        self.classes_, codes = encode_labels(y)
        (n, d), k = X.shape, len(self.classes_)
        growth.within_memory(n, k)
        bins, low, high = binned(X)
        rule, labels = growth.rule(n, d), codes.astype(np.int32)

        def one(seed: np.random.SeedSequence) -> tuple[np.ndarray, ...]:
            state = seed.generate_state(1, np.uint64)
            weight = bootstrap(n, state) if growth.sampled else np.ones(n, np.int32)
            *nodes, rows, spans, gains = grow(bins, low, high, labels, weight, k, state, rule)
            value = np.empty((len(spans), k), np.float32)
            shares(rows, spans, labels, weight, value)
            if growth.n_estimators == 1:  # half a row is spread, so that no probability is zero
                count = np.diff(spans)
                value = ((value * count + 0.5 / k) / (count + 0.5)).astype(np.float32)
            return *nodes, value, gains

        seeds = np.random.SeedSequence(self._seed).spawn(growth.n_estimators)
        with ThreadPoolExecutor(growth.n_jobs) as pool:
            left, right, feature, threshold, value, gains = zip(*pool.map(one, seeds))
        self.columns_ = d
        self.starts_ = np.cumsum([0, *map(len, left)])
        self.left_, self.right_ = np.concatenate(left), np.concatenate(right)
        self.feature_, self.threshold_ = np.concatenate(feature), np.concatenate(threshold)
        self.value_ = np.concatenate(value)
        if growth.majority:
            self.value_ = np.eye(k, dtype=np.float32)[self.value_.argmax(axis=1)]
        removed = [gain / gain.sum() for gain in gains if gain.sum() > 0]
        self.importances_ = np.mean(removed, axis=0) if removed else np.zeros(d)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        nodes = self.starts_, self.left_, self.right_, self.feature_, self.threshold_, self.value_
        out = summed(X, self.columns_, *nodes)
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
        head = cls(0, None)
        head.classes_ = np.arange(k)
        head.columns_ = int(meta["columns"])
        for name in ARRAYS:
            setattr(head, name + "_", arrays[name])
        *nodes, _ = (arrays[name] for name in ARRAYS)
        value = arrays["value"]
        if not (
            whole_trees(head.columns_, *nodes) and value.ndim == 2 and (value.sum(axis=1) > 0).all()
        ):
            raise BundleError("trees", "their node numbers are not a tree's", "fit the model again")
        return head


def summed(
    X: np.ndarray, columns: int, starts: np.ndarray, left: np.ndarray, right: np.ndarray,
    feature: np.ndarray, threshold: np.ndarray, value: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """(n, k): of the leaves that X (n, d) reaches, their values added up over the trees.

    Raises BundleError for rows of other columns: compiled loops do not look where they read."""
    from headstock.heads.kinds.growing import walk

    if X.shape[1] != columns:
        what = f"rows have {X.shape[1]} columns, and they read {columns}"
        raise BundleError("trees", what, "fit the model again")
    X, out = np.ascontiguousarray(X, dtype=np.float32), np.zeros((len(X), value.shape[1]))
    walk(X, starts, left, right, feature, threshold, value, out)
    return out


def whole_trees(
    columns: int, starts: np.ndarray, left: np.ndarray, right: np.ndarray, feature: np.ndarray,
    threshold: np.ndarray, value: np.ndarray,
) -> bool:  # fmt: skip
    """Whether these are trees on so many ``columns``: a child comes after its parent and inside
    its tree, so that every walk ends, and every leaf has finite values."""
    total = len(left)
    if not (
        starts.ndim == 1 and len(starts) > 1 and starts[0] == 0 and starts[-1] == total
        and (np.diff(starts) > 0).all()
        and all(a.shape == (total,) for a in (left, right, feature, threshold))
        and len(value) == total and np.isfinite(value).all()
    ):  # fmt: skip
        return False
    own = np.arange(total) - np.repeat(starts[:-1], np.diff(starts))
    size = np.repeat(np.diff(starts), np.diff(starts))
    after = (left > own) & (left < size) & (right > own) & (right < size)
    known = (feature >= 0) & (feature < columns)
    return bool((after & known)[left >= 0].all() and (left >= -1).all())


def tree(
    seed: int,
    max_depth: int | None = None,
    min_samples_leaf: int = 5,
    min_samples_split: int = 2,
    criterion: str = "gini",
) -> Trees:
    """One decision tree. max_depth: at most so deep (None: as deep as the rows ask);
    min_samples_leaf: rows of a leaf; min_samples_split: rows a node needs to be split;
    criterion: gini, entropy or log_loss."""
    return Trees(
        seed,
        Growth(
            max_depth=max_depth,
            min_samples_leaf=min_samples_leaf,
            min_samples_split=min_samples_split,
            criterion=criterion,
        ),
    )


def bagging(
    seed: int,
    n_estimators: int = 50,
    max_depth: int | None = None,
    max_features: float | str = "sqrt",
) -> Trees:
    """Trees on bootstrap samples that vote, one vote a tree (majority vote). max_features: share
    of the columns tried at a split; 1.0 is Breiman's bagging and costs much on wide embeddings."""
    return Trees(seed, Growth(n_estimators, max_features, max_depth, sampled=True, majority=True))


def forest(
    seed: int,
    n_estimators: int = 200,
    max_depth: int | None = None,
    min_samples_leaf: int = 1,
    max_features: float | str = "sqrt",
    n_jobs: int = 1,
) -> Trees:
    """Random forest: the mean of trees on bootstrap samples, a few columns tried at a split."""
    growth = n_estimators, max_features, max_depth, min_samples_leaf
    return Trees(seed, Growth(*growth, sampled=True, n_jobs=n_jobs))


def extra_trees(
    seed: int,
    n_estimators: int = 200,
    max_depth: int | None = None,
    min_samples_leaf: int = 1,
    max_features: float | str = "sqrt",
    n_jobs: int = 1,
) -> Trees:
    """Extremely randomised trees: random thresholds, no bootstrap."""
    growth = n_estimators, max_features, max_depth, min_samples_leaf
    return Trees(seed, Growth(*growth, random=True, n_jobs=n_jobs))
