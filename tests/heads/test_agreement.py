"""Neighbours that agree as copies do: found where copies are, silent where features are good."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs

from headstock.heads import evaluate
from headstock.heads.rows.agreement import EXCESS, LEVEL, agreement_of, neighbour_agreement
from headstock.heads.rows.folds import make_folds
from headstock.heads.rows.labelled import Rows

REAL = [load_digits, load_wine, load_breast_cancer, load_iris]


def asked(X, codes, seed=0):
    plan = make_folds(codes, 5, seed=seed, spread=True)
    return neighbour_agreement(np.asarray(X, np.float32), codes, plan.codes[0], seed)


def suspected(found):
    return found["nearest"] - found["second"] >= EXCESS and found["p"] <= LEVEL


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
        assert not suspected(asked(X, labels))


@pytest.mark.parametrize("columns", [2, 20, 600])
@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_clusters_are_not_suspected(columns, spread):
    X, codes = make_blobs(1200, columns, centers=4, cluster_std=spread, random_state=0)
    found = asked(X, codes)
    assert found["nearest"] - found["second"] < EXCESS


@pytest.mark.parametrize("load", REAL[:3], ids=lambda load: load.__name__)
def test_copies_of_rows_with_labels_of_chance_are(load):
    """There the copies alone make a score."""
    X, codes = load(return_X_y=True)
    labels = np.random.default_rng(1).permutation(codes)
    found = asked(*with_copies(X, labels, 0.25))
    assert suspected(found)
    assert found["nearest"] > found["second"] + 0.1
    assert abs(found["second"] - 1 / len(np.unique(codes))) < 0.12


def test_wide_vectors_are_projected_and_a_fold_is_never_its_own_neighbour():
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(400, 700)).astype(np.float32), rng.permutation(400) % 4
    twice, labels = np.concatenate([X, X]), np.concatenate([codes, codes])
    apart = np.arange(800) % 400 % 5
    assert not suspected(
        neighbour_agreement(twice, labels, apart)
    )  # each copy is in its row's fold
    found = neighbour_agreement(twice, labels, np.arange(800) // 400)
    assert suspected(found)
    assert found["nearest"] == 1
    assert found["rows"] == 800


def test_where_there_is_nothing_to_ask():
    X = np.zeros((4, 2), np.float32)
    assert neighbour_agreement(X, np.zeros(4, int), np.zeros(4, int)) is None
    assert neighbour_agreement(X, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])) is None
    flat = neighbour_agreement(X, np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]))
    assert not suspected(flat)
    assert flat["rows"] == 1


def test_classes_of_two_rows_are_no_copies():
    """Each row's one partner is nearest, and there is no second."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(204), [*[2] * 200, *[50] * 4])
    X = (rng.normal(size=(204, 8))[codes] + 0.3 * rng.normal(size=(600, 8))).astype(np.float32)
    found = asked(X, codes)
    assert found["rows"] == 200
    assert not suspected(found)


def test_numbers_have_no_label_to_agree_with(two_sets):
    rows, folds = two_sets(60), np.arange(60) % 5
    assert set(agreement_of(rows, folds, ["image"])) == {"image"}
    numbers = replace(rows, codes=np.zeros(60, int), numbers=np.arange(60.0))
    assert agreement_of(numbers, folds, ["image"]) == {}


def test_a_run_says_it(tmp_path, make_store):
    """Rows of random labels, a third of them once more under another id, a little noisy: too far
    for a near duplicate, near enough to be learned by heart."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(240, 12)) * np.linspace(1, 3, 12)
    X, codes = with_copies(X, rng.permutation(240) % 3, 0.33)
    ids = np.array([f"r{i}" for i in range(len(X))], dtype=object)
    rows = Rows(ids, {"image": X.astype(np.float32)}, codes, np.array(["a", "b", "c"], object))
    with make_store(tmp_path / "s.h5", rows) as store:
        run = evaluate(store, ["knn"], fusions=(), dedupe="keep").run
    assert run.hygiene.neighbours["image"].nearest > 0.45
    assert any(one.code == "HS27" for one in run.checks)
