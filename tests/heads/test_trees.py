"""Trees on binned columns: as scikit-learn grows them where bins keep all, as good where not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from headstock.heads.head import make_head
from headstock.heads.kinds.bins import BINS, binned
from headstock.heads.metrics.probabilities import log_loss
from headstock.store.errors import OptionError


def ugly(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of every kind, four uneven classes: scales from 1e-30 to 1e30, a few values, one
    value, rare flags, heavy tails, many zeros."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    X = rng.normal(size=(n, 14))
    X[:, :6] += 0.9 * np.eye(4, 6)[y]
    X[:, 1] *= 1e30
    X[:, 2] *= 1e-30
    X[:, 3] = np.round(X[:, 3])
    X[:, 4] = np.maximum(X[:, 4], 0)
    X[:, 5] = np.sinh(3 * X[:, 5])
    X[:, 6] = 7
    X[:, 7] = rng.random(n) < 3 / n
    X[:, 8] = (y == 3) & (rng.random(n) < 0.7)
    return X.astype(np.float32), y


@pytest.mark.parametrize("n", [2, 200, 2000])
def test_bins_are_intervals_of_about_equally_many_rows(n):
    X, _ = ugly(n, 0)
    X[0, 9], X[1, 9] = np.finfo(np.float32).max, -np.finfo(np.float32).max
    codes, low, high = binned(X)
    for j, column in enumerate(X.T):
        count = codes[j].max() + 1
        for b in range(count):
            inside = column[codes[j] == b]
            assert (inside.min(), inside.max()) == (low[j, b], high[j, b])
        assert (high[j, : count - 1] < low[j, 1:count]).all()
        values = len(np.unique(column))
        assert count == values if values <= BINS else BINS * 0.8 < count <= BINS
        if values > BINS and j in (0, 1, 2, 5):
            assert np.bincount(codes[j]).max() <= 2 * n / BINS


@pytest.mark.parametrize("criterion", ["gini", "entropy", "log_loss"])
def test_the_tree_is_scikit_learns_where_bins_keep_every_value(criterion):
    X, y = ugly(250, 1)
    fresh, _ = ugly(400, 2)
    for rows in (X, fresh):  # scikit-learn takes values within 1e-7 for one
        rows[:, 2] *= np.float32(1e30)
    options = {"max_depth": 3, "min_samples_leaf": 8, "criterion": criterion}
    head = make_head("tree", 0, options).fit(X, y)
    peer = DecisionTreeClassifier(
        criterion=criterion, max_depth=3, min_samples_leaf=8, random_state=0
    ).fit(X, y)
    assert len(head.left_) == peer.tree_.node_count
    leaf = peer.tree_.n_node_samples[peer.apply(fresh)][:, None]
    spread = (peer.predict_proba(fresh) * leaf + 0.5 / 4) / (leaf + 0.5)
    np.testing.assert_allclose(head.predict_proba(fresh), spread, atol=1e-6)
    np.testing.assert_allclose(head.importances(), peer.feature_importances_, atol=1e-9)


PEERS = {
    "tree": lambda seed: DecisionTreeClassifier(min_samples_leaf=5, random_state=seed),
    "forest": lambda seed: RandomForestClassifier(60, random_state=seed),
    "extra-trees": lambda seed: ExtraTreesClassifier(60, random_state=seed),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("data", ["digits", "ugly"])
def test_no_worse_than_scikit_learn_on_the_same_folds(name, data):
    X, y = load_digits(return_X_y=True) if data == "digits" else ugly(1500, 0)
    X = X.astype(np.float32)
    fold, k = np.arange(len(y)) % 5, y.max() + 1
    options = {} if name == "tree" else {"n_estimators": 60}
    mine, peers = np.empty((len(y), k)), np.empty((len(y), k))
    for f in range(5):
        train, held = fold != f, fold == f
        mine[held] = make_head(name, 0, options).fit(X[train], y[train]).predict_proba(X[held])
        peer = PEERS[name](0).fit(X[train], y[train])
        said = peer.predict_proba(X[held])
        weight = 60.0
        if name == "tree":
            weight = peer.tree_.n_node_samples[peer.apply(X[held])][:, None]
        peers[held] = (said * weight + 0.5 / k) / (weight + 0.5)
    right, theirs = mine.argmax(axis=1) == y, peers.argmax(axis=1) == y
    worse, better = int((theirs & ~right).sum()), int((right & ~theirs).sum())
    assert binomtest(worse, worse + better, 0.5, "greater").pvalue > 0.05, (worse, better)
    assert log_loss(mine, y) <= 1.02 * log_loss(peers, y)


def test_bagging_votes_whole_trees():
    X, y = ugly(300, 0)
    head = make_head("bagging", 0, {"n_estimators": 7}).fit(X, y)
    votes = head.predict_proba(X) * 7.5 - 0.5 / 4
    np.testing.assert_allclose(votes, np.round(votes), atol=1e-6)


@pytest.mark.parametrize("name", ["bagging", "forest", "extra-trees"])
def test_a_seed_gives_one_forest_and_threads_do_not_change_it(name):
    X, y = ugly(400, 0)
    options = {"n_estimators": 9}
    first, other = (make_head(name, seed, options).fit(X, y) for seed in (0, 1))
    beside = make_head(name, 0, options if name == "bagging" else {**options, "n_jobs": 4})
    beside.fit(X, y)
    for array, value in first.state()[1].items():
        assert np.array_equal(value, beside.state()[1][array])
    fresh, _ = ugly(400, 1)
    assert not np.array_equal(first.predict_proba(fresh), other.predict_proba(fresh))
    trees = {first.threshold_[a:b].tobytes() for a, b in zip(first.starts_, first.starts_[1:])}
    assert len(trees) == 9


@pytest.mark.parametrize("name", ["tree", "forest", "extra-trees"])
def test_leaves_hold_as_many_rows_as_asked(name):
    X, y = ugly(500, 0)
    head = make_head(
        name, 0, {"min_samples_leaf": 9, **({} if name == "tree" else {"n_estimators": 1})}
    )
    head.fit(X, y)
    node = np.zeros(len(X), dtype=int)
    for _ in range(len(head.left_)):
        low = X[np.arange(len(X)), head.feature_[node]] <= head.threshold_[node]
        child = np.where(low, head.left_[node], head.right_[node])
        node = np.where(head.left_[node] >= 0, child, node)
    leaves, rows = np.unique(node, return_counts=True)
    assert len(leaves) == (head.left_ < 0).sum() > 5
    assert rows.min() >= 9


def test_depth_and_rows_of_a_split_bound_a_tree():
    X, y = ugly(500, 0)
    assert len(make_head("tree", 0, {"max_depth": 1}).fit(X, y).left_) == 3
    assert len(make_head("tree", 0, {"min_samples_split": 501}).fit(X, y).left_) == 1
    assert len(make_head("tree", 0, {"min_samples_split": 500}).fit(X, y).left_) > 1
    share = make_head("tree", 0, {"min_samples_leaf": 0.1}).fit(X, y)
    count = make_head("tree", 0, {"min_samples_leaf": 50}).fit(X, y)
    assert np.array_equal(share.threshold_, count.threshold_)


@pytest.mark.parametrize("name", ["forest", "extra-trees"])
def test_among_constant_columns_the_one_that_varies_is_found(name):
    rng = np.random.default_rng(0)
    X = np.full((80, 300), 3, dtype=np.float32)
    X[:, 271] = rng.normal(size=80)
    y = (X[:, 271] > 0).astype(int)
    head = make_head(name, 0, {"n_estimators": 5}).fit(X, y)
    assert (head.predict_proba(X).argmax(axis=1) == y).mean() > 0.95
    assert head.importances()[271] == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tree", {"criterion": "squared"}), ("tree", {"min_samples_split": 1}),
        ("tree", {"max_depth": 0}), ("tree", {"min_samples_leaf": 0}),
        ("forest", {"n_estimators": 0}), ("forest", {"max_features": "half"}),
        ("forest", {"max_features": 1.5}), ("extra-trees", {"min_samples_leaf": 2.5}),
        ("bagging", {"max_features": -1}), ("forest", {"n_jobs": 0}),
    ],
)  # fmt: skip
def test_an_option_that_means_nothing_is_refused_before_any_fit(name, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        make_head(name, 0, options)
