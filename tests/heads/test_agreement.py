"""Neighbours that agree as copies do: found where copies are, silent where features are good."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs

from headstock.heads.rows.agreement import EXCESS, neighbour_agreement
from headstock.heads.rows.folds import make_folds

REAL = [load_digits, load_wine, load_breast_cancer, load_iris]


def asked(X, codes, seed=0):
    plan = make_folds(codes, 5, seed=seed)
    return neighbour_agreement(np.asarray(X, np.float32), codes, plan.codes[0], seed)


def with_copies(X, codes, share, seed=0):
    """A share of the rows once more, a little noisy, which no digest and no threshold sees."""
    rng = np.random.default_rng(seed)
    which = rng.choice(len(X), int(share * len(X)), replace=False)
    noise = 0.1 * X.std(axis=0) * rng.normal(size=(len(which), X.shape[1]))
    return np.concatenate([X, X[which] + noise]), np.concatenate([codes, codes[which]])


@pytest.mark.parametrize("load", REAL, ids=lambda load: load.__name__)
def test_good_features_are_not_suspected(load):
    X, codes = load(return_X_y=True)
    for labels in (codes, np.random.default_rng(0).permutation(codes)):
        assert not asked(X, labels).suspected


@pytest.mark.parametrize("columns", [2, 20, 600])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_clusters_are_not_suspected(columns, spread):
    X, codes = make_blobs(1200, columns, centers=4, cluster_std=spread, random_state=0)
    assert asked(X, codes).excess < EXCESS


@pytest.mark.parametrize("load", REAL[:3], ids=lambda load: load.__name__)
def test_copies_of_rows_with_labels_of_chance_are(load):
    """There the copies alone make a score."""
    X, codes = load(return_X_y=True)
    labels = np.random.default_rng(1).permutation(codes)
    found = asked(*with_copies(X, labels, 0.25))
    assert found.suspected
    assert found.first > found.second + 0.1
    assert abs(found.second - 1 / len(np.unique(codes))) < 0.12


def test_wide_vectors_are_projected_and_a_fold_is_never_its_own_neighbour():
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(400, 700)).astype(np.float32), rng.permutation(400) % 4
    twice, labels = np.concatenate([X, X]), np.concatenate([codes, codes])
    apart = np.arange(800) % 400 % 5
    assert not neighbour_agreement(twice, labels, apart).suspected  # each copy is in its row's fold
    found = neighbour_agreement(twice, labels, np.arange(800) // 400)
    assert found.suspected
    assert found.first == 1
    assert found.rows == 800


def test_where_there_is_nothing_to_ask():
    X = np.zeros((4, 2), np.float32)
    assert neighbour_agreement(X, np.zeros(4, int), np.zeros(4, int)) is None
    flat = neighbour_agreement(X, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert not flat.suspected
