"""Heads for numbers: each equals scikit-learn's, and survives its file's arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import ElasticNet, ElasticNetCV, LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import KFold, PredefinedSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from headstock.heads import make_head
from headstock.heads.head import listing
from headstock.heads.regressors.kernel import ALPHAS as KERNEL_ALPHAS
from headstock.heads.regressors.kernel import WHOLE
from headstock.heads.regressors.linear import ALPHAS, Decomposed
from headstock.heads.specs import NUMBER, REGRESSORS, class_of
from headstock.store.errors import BundleError, OptionError, UnsafeInput

FAST: dict[str, dict[str, Any]] = {
    "lightgbm": {"n_estimators": 20},
    "xgboost": {"n_estimators": 20},
    "forest": {"n_estimators": 10},
    "extra-trees": {"n_estimators": 10},
    "mlp": {"max_iter": 20, "hidden_layer_sizes": 16, "learning_rate_init": 0.01},
}
PLAN = list(KFold(5, shuffle=True, random_state=0).split(np.empty((442, 1))))


@pytest.fixture(scope="module")
def diabetes() -> tuple[np.ndarray, np.ndarray]:
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X.astype(np.float32), y


@pytest.fixture(params=list(REGRESSORS))
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    return request.param


def scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def of_centred(model: Any) -> Any:
    return TransformedTargetRegressor(model, transformer=StandardScaler(with_std=False))


def of_standardised(model: Any) -> Any:
    return TransformedTargetRegressor(model, transformer=StandardScaler())


def lightgbm(**more: Any) -> Any:
    return pytest.importorskip("lightgbm").LGBMRegressor(
        n_jobs=1, verbosity=-1, random_state=0, deterministic=True, force_col_wise=True, **more
    )


def xgboost(**more: Any) -> Any:
    return pytest.importorskip("xgboost").XGBRegressor(n_jobs=1, random_state=0, **more)


SAME = {
    "ridge": ({"alpha": 7.0}, lambda: scaled(Ridge(7.0)), 1e-5),
    "ridge, chosen": ({}, lambda: scaled(RidgeCV(ALPHAS)), 1e-5),
    "elastic-net": (
        {"alpha": 0.4, "l1_ratio": 0.8}, lambda: scaled(ElasticNet(alpha=0.4, l1_ratio=0.8)), 1e-4,
    ),
    "kernel-ridge": (
        {"alpha": 0.3, "gamma": 0.7},
        lambda: of_centred(scaled(KernelRidge(alpha=0.3, kernel="rbf", gamma=0.07))), 1e-4,
    ),
    "rbf-svr": (
        {"C": 3.0, "epsilon": 0.05, "gamma": 0.5},
        lambda: of_standardised(scaled(SVR(C=3.0, epsilon=0.05, gamma=0.05))), 1e-3,
    ),
    "knn": ({"n_neighbors": 7}, lambda: scaled(KNeighborsRegressor(7, weights="distance")), 1e-4),
    "knn, uniform": (
        {"n_neighbors": 7, "weights": "uniform"}, lambda: scaled(KNeighborsRegressor(7)), 1e-6,
    ),
    "lightgbm": (
        {"n_estimators": 30, "objective": "regression_l1"},
        lambda: lightgbm(
            n_estimators=30, objective="regression_l1", learning_rate=0.05, num_leaves=15,
            min_child_samples=10, colsample_bytree=0.5, reg_lambda=1.0,
        ), 1e-9,
    ),
    "xgboost": (
        {"n_estimators": 30},
        lambda: xgboost(
            n_estimators=30, learning_rate=0.05, max_depth=4, colsample_bytree=0.5, reg_lambda=1.0,
            tree_method="hist", max_bin=256,
        ), 1e-5,
    ),
    "forest": (
        {"n_estimators": 20, "min_samples_leaf": 3},
        lambda: RandomForestRegressor(20, min_samples_leaf=3, max_features=0.33, random_state=0),
        1e-9,
    ),
    "extra-trees": (
        {"n_estimators": 20},
        lambda: ExtraTreesRegressor(20, max_features=0.33, random_state=0), 1e-9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_on_the_same_folds_it_answers_as_scikit_learn_does(case: str, diabetes: Any) -> None:
    (X, y), (options, model, tolerance) = diabetes, SAME[case]
    for train, test in PLAN:
        head: Any = make_head(case.partition(",")[0], 0, options, NUMBER)
        head.fit(X[train], y[train])
        theirs = model().fit(X[train], y[train]).predict(X[test])
        np.testing.assert_allclose(head.predict(X[test]), theirs, rtol=tolerance)


def test_the_elastic_net_chooses_on_the_folds_it_is_handed(diabetes: Any) -> None:
    X, y = diabetes
    inner = np.arange(len(y)) % 4
    head: Any = make_head("elastic-net", 0, {}, NUMBER)
    head.fit(X, y, inner=inner)
    theirs = ElasticNetCV(l1_ratio=0.5, cv=PredefinedSplit(inner), max_iter=5000)
    scaled(theirs).fit(X, y)
    assert head.chosen_["alpha"] == pytest.approx(theirs.alpha_, rel=1e-6)


def test_leaving_one_row_out_is_what_it_says(diabetes: Any) -> None:
    """In closed form, with more rows than columns and the other way round, and by fitting again."""
    X, y = diabetes
    rng = np.random.default_rng(0)
    for n, d in ((40, 6), (25, 60)):
        A = rng.normal(size=(n, d)) if d > 10 else X[:n, :d].astype(float)
        Z = (A - A.mean(axis=0)) / A.std(axis=0)
        errors = Decomposed(Z, y[:n] - y[:n].mean(), 1 / n).loo_errors(np.array([0.5, 20.0]))
        for alpha, error in zip((0.5, 20.0), errors):
            slow = []
            for row in range(n):  # the scaling is that of all rows, the mean that of the others
                rest = np.arange(n) != row
                model = Ridge(alpha).fit(Z[rest], y[:n][rest])
                slow.append(float(model.predict(Z[row : row + 1])[0]) - y[row])
            assert error == pytest.approx(np.mean(np.square(slow)), rel=1e-6)


def test_a_kernel_machine_leaves_one_row_out_exactly(diabetes: Any) -> None:
    X, y = diabetes
    head: Any = make_head("kernel-ridge", 0, {}, NUMBER)
    head.fit(X[:60], y[:60])
    Z, target = StandardScaler().fit_transform(X[:60]), y[:60] - y[:60].mean()
    losses = []
    for alpha in KERNEL_ALPHAS:
        model = KernelRidge(alpha=alpha, kernel="rbf", gamma=0.1)
        slow = []
        for row in range(60):
            rest = np.arange(60) != row
            slow.append(model.fit(Z[rest], target[rest]).predict(Z[[row]])[0] - target[row])
        losses.append(np.mean(np.square(slow)))
    assert head.chosen_["alpha"] == KERNEL_ALPHAS[int(np.argmin(losses))]


def test_more_rows_than_a_kernel_is_made_of_stand_on_landmarks() -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(WHOLE + 700, 3)).astype(np.float32)
    y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2
    head: Any = make_head("kernel-ridge", 0, {}, NUMBER)
    head.fit(X[:-200], y[:-200])
    assert head.how_ == "on 1,024 landmarks"
    assert np.abs(head.predict(X[-200:]) - y[-200:]).mean() < 0.02 * y.std()


def test_the_network_is_scikit_learns_after_the_epochs_it_chose(diabetes: Any) -> None:
    X, y = diabetes
    options = {"hidden_layer_sizes": 16, "max_iter": 12, "learning_rate_init": 0.01}
    head: Any = make_head("mlp", 0, options, NUMBER)
    head.fit(X, y, inner=np.arange(len(y)) % 5)
    epochs = head.chosen_["max_iter"]
    assert 1 <= epochs <= 12
    model = MLPRegressor(
        hidden_layer_sizes=(16,), alpha=1e-3, batch_size=64, learning_rate_init=0.01, random_state=0
    )
    Z = StandardScaler().fit_transform(X).astype(np.float32)
    target = (y - y.mean()) / y.std()
    for _ in range(epochs):
        model.partial_fit(Z, target)
    theirs = model.predict(Z) * y.std() + y.mean()
    np.testing.assert_allclose(head.predict(X), theirs, rtol=1e-4)


def test_the_contract_of_heads_for_numbers(name: str, diabetes: Any) -> None:
    """Better than the mean, the same again, its rows untouched, a row answered by itself, a column
    constant in training and not outside, many more columns than rows."""
    X, y = diabetes
    X, y = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    train, test = PLAN[0]

    def fitted(X: np.ndarray, y: np.ndarray) -> Any:
        head: Any = make_head(name, 0, FAST.get(name), NUMBER)
        given = {"inner": np.arange(len(y)) % 4, "spans": {"table": slice(0, X.shape[1])}}
        wants = getattr(head, "wants", ())
        head.fit(X, y, **{k: v for k, v in given.items() if k in wants})
        return head

    head = fitted(X[train], y[train])
    said = head.predict(X[test])
    assert said.shape == (len(test),)
    assert np.mean((said - y[test]) ** 2) < 0.9 * np.var(y[test])
    np.testing.assert_array_equal(fitted(X[train], y[train]).predict(X[test]), said)
    np.testing.assert_allclose(head.predict(X[test[:1]]), said[:1], rtol=1e-5)
    if hasattr(head, "importances"):
        weight = head.importances()
        assert weight.shape == (10,)
        assert (weight >= 0).all()
        assert weight.max() > 0
    odd = np.hstack([X, np.full((len(X), 1), 7, np.float32)])
    odd[test, -1] = 1e9
    assert np.isfinite(fitted(odd[train], y[train]).predict(odd[test])).all()
    wide = np.random.default_rng(0).normal(size=(30, 200)).astype(np.float32)
    assert np.isfinite(fitted(wide, y[:30]).predict(wide)).all()
    same = fitted(X[train], np.full(len(train), 3.0)).predict(X[test])
    np.testing.assert_allclose(same, 3.0, atol=0.5)


def test_what_its_arrays_hold_answers_the_same(name: str, diabetes: Any) -> None:
    X, y = diabetes
    wide = np.random.default_rng(1).normal(size=(len(y), 600)).astype(np.float32)
    for A in (X, np.hstack([X, wide])):
        head: Any = make_head(name, 0, FAST.get(name), NUMBER)
        head.fit(A[:300], y[:300])
        again = loaded(head.kind, *head.state())
        np.testing.assert_array_equal(again.predict(A[300:]), head.predict(A[300:]))


def loaded(kind: str, meta: Any, arrays: dict[str, np.ndarray]) -> Any:
    return class_of(kind).from_state(json.loads(json.dumps(meta)), arrays, 1)


BROKEN = {
    "ridge": ("weights", lambda a: a[:-1]),
    "kernel-ridge": ("coefficients", lambda a: a[:-1]),
    "knn": ("y", lambda a: a[:-1]),
    "forest": ("left", lambda a: np.where(a >= 0, 0, a)),
    "extra-trees": ("feature", lambda a: a + 999),
    "lightgbm": ("text", lambda a: a[:200]),
    "xgboost": ("text", lambda a: a[:200]),
}


@pytest.mark.parametrize("name", BROKEN, indirect=True)
def test_arrays_that_do_not_fit_are_refused_before_they_are_followed(
    name: str, diabetes: Any
) -> None:
    X, y = diabetes
    head: Any = make_head(name, 0, FAST.get(name), NUMBER)
    head.fit(X[:100], y[:100])
    meta, arrays = head.state()
    array, broken = BROKEN[name]
    with pytest.raises((BundleError, UnsafeInput)):
        loaded(head.kind, meta, {**arrays, array: broken(arrays[array])})


def test_options_are_chosen_inside_the_rows_it_is_given(diabetes: Any) -> None:
    X, y = diabetes
    head: Any = make_head("knn", 0, {"n_neighbors": [1, 12, 300]}, NUMBER)
    head.fit(X, y, inner=np.arange(len(y)) % 3)
    assert head.chosen_ == {"n_neighbors": 12}
    assert head.losses_[1] == min(head.losses_)
    one: Any = make_head("knn", 0, {"n_neighbors": 12}, NUMBER)
    one.fit(X, y)
    np.testing.assert_array_equal(head.predict(X), one.predict(X))


def test_a_head_of_another_target_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match=r"head logistic: learns classes and no numbers"):
        make_head("logistic", 0, {}, NUMBER)
    with pytest.raises(OptionError, match=r"head kernel-ridge: learns numbers and no classes"):
        make_head("kernel-ridge")
    for name, option in (
        ("ridge", {"alpha": 0}),
        ("knn", {"weights": "own"}),
        ("mlp", {"max_iter": 0}),
    ):
        with pytest.raises(OptionError, match=name):
            make_head(name, 0, option, NUMBER)
    assert [line.split()[0] for line in listing("", NUMBER)] == list(REGRESSORS)


def test_every_grid_and_range_is_one_that_the_head_takes(name: str) -> None:
    spec = REGRESSORS[name]
    for option, values in spec.grid.items():
        for value in values:
            make_head(name, 0, {option: value}, NUMBER)
    drawn: Any = make_head(name, 0, {**spec.ranges, "draws": 5}, NUMBER)
    assert len(drawn.points) >= 2


def test_the_best_line_is_found_where_there_is_one() -> None:
    """Of numbers without noise ridge takes the smallest penalty, and finds the weights."""
    X = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    y = X.astype(float) @ [1, -2, 0, 4, 0.5] + 9
    head: Any = make_head("ridge", 0, {}, NUMBER)
    head.fit(X, y)
    assert head.chosen_["alpha"] == ALPHAS[0]
    exact = LinearRegression().fit(X, y).predict(X)
    np.testing.assert_allclose(head.predict(X), exact, atol=0.01)
