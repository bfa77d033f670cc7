"""Heads as scikit-learn classifiers, by scikit-learn's own checks and tools."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from headstock.heads import HEADS, REGRESSORS, HeadClassifier, HeadRegressor, make_head
from headstock.store.errors import OptionError

QUICK = ("logistic", "lda", "knn")
SMALL = {
    "lightgbm": {"n_estimators": 5},
    "xgboost": {"n_estimators": 5},
    "mlp": {"max_iter": 20, "hidden_layer_sizes": 16},
}


@pytest.mark.parametrize(
    "head",
    [h if h in QUICK else pytest.param(h, marks=pytest.mark.slow) for h in HEADS],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(head: str) -> None:
    if head == "xgboost":
        pytest.importorskip("xgboost")
    failed = {}
    if head == "mlp":  # too little data in these checks for a network to reach their accuracy
        failed = {"check_classifiers_train": "its few epochs do not reach the wanted accuracy"}
    results = check_estimator(
        HeadClassifier(head, SMALL.get(head)), on_fail=None, expected_failed_checks=failed
    )
    assert len(results) > 40
    wrong = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not wrong


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


def test_a_pipeline_is_searched_and_cross_validated(iris) -> None:
    X, y = iris
    pipe = make_pipeline(PCA(3, random_state=0), HeadClassifier("lda"))
    assert cross_val_score(pipe, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(pipe, {"headclassifier__options__shrinkage": [0.01, 1.0]}, cv=3)
    search.fit(X, y)
    assert search.best_params_ == {"headclassifier__options__shrinkage": 0.01}
    assert set(search.predict(X)) == set(y)
    heads = GridSearchCV(HeadClassifier(), {"head": ["tree", "lda"]}, cv=3).fit(X, y)
    assert heads.best_params_["head"] == "lda"
    assert heads.best_score_ > 0.9


def test_the_answer_is_the_heads_own(iris) -> None:
    X, y = iris
    mine = HeadClassifier("knn", {"n_neighbors": 3}).fit(X, y)
    theirs = make_head("knn", 0, {"n_neighbors": 3})
    theirs.fit(X.astype(np.float32), y)
    np.testing.assert_allclose(mine.predict_proba(X), theirs.predict_proba(X.astype("f4")), 1e-12)
    assert mine.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert mine.score(X, y) > 0.9


def test_parameters() -> None:
    head = HeadClassifier("knn", {"n_neighbors": 3}, seed=4)
    params = head.get_params()
    assert params["options__n_neighbors"] == 3
    assert {"head", "options", "seed", "options__sharpness"} <= params.keys()
    twin = clone(head)
    assert twin.get_params() == params
    twin.set_params(options__n_neighbors=9, seed=1)
    assert (twin.options, twin.seed) == ({"n_neighbors": 9}, 1)
    assert head.options == {"n_neighbors": 3}
    with pytest.raises(ValueError, match=r"no options__k; it has options__n_neighbors"):
        head.set_params(options__k=3)


def test_errors(iris) -> None:
    X, y = iris
    with pytest.raises(NotFittedError):
        HeadClassifier().predict(X)
    with pytest.raises(OptionError, match="did you mean logistic"):
        HeadClassifier("logistc").fit(X, y)
    with pytest.raises(ValueError, match="two are needed"):
        HeadClassifier().fit(X[:50], y[:50])


def test_fitted_heads_travel(iris) -> None:
    """As arrays, as in a bundle: closures of a head that is not fitted yet stay at home."""
    X, y = iris
    for head in ("logistic", "rbf-svm", "tree"):
        fitted = HeadClassifier(head).fit(X, y)
        again = pickle.loads(pickle.dumps(fitted))  # noqa: S301  made here
        np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X), rtol=1e-6)


@pytest.mark.slow
def test_fitted_heads_travel_between_processes(iris) -> None:
    X, y = iris
    kept = cross_validate(HeadClassifier("lda"), X, y, cv=2, n_jobs=2, return_estimator=True)
    assert all(one.predict(X).shape == (150,) for one in kept["estimator"])


FEW = {
    "lightgbm": {"n_estimators": 30}, "xgboost": {"n_estimators": 30},
    "forest": {"n_estimators": 20}, "extra-trees": {"n_estimators": 20},
    "mlp": {"max_iter": 60, "hidden_layer_sizes": 16, "learning_rate_init": 0.01},
}  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [h if h in ("ridge", "knn") else pytest.param(h, marks=pytest.mark.slow) for h in REGRESSORS],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_of_regressors(head: str) -> None:
    if head == "xgboost":
        pytest.importorskip("xgboost")
    results = check_estimator(HeadRegressor(head, FEW.get(head)), on_fail=None)
    assert len(results) > 40
    wrong = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert not wrong


def test_numbers_are_searched_cross_validated_and_pickled() -> None:
    X, y = load_diabetes(return_X_y=True)
    assert cross_val_score(HeadRegressor(), X, y, cv=4).mean() > 0.4
    pipe = make_pipeline(PCA(8, random_state=0), HeadRegressor("knn"))
    search = GridSearchCV(pipe, {"headregressor__options__n_neighbors": [1, 25]}, cv=3).fit(X, y)
    assert search.best_params_ == {"headregressor__options__n_neighbors": 25}
    for options in ({}, {"transform": "rank"}):
        model = clone(HeadRegressor("lightgbm", {"n_estimators": 20, **options})).fit(X, y)
        again = pickle.loads(pickle.dumps(model))  # noqa: S301  made here
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with pytest.raises(OptionError, match="learns classes and no numbers"):
        HeadRegressor("lda").fit(X, y)
