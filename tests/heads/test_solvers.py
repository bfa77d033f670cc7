"""Own solvers against the libraries that define what they solve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC

from headstock.heads import make_folds, make_head
from headstock.heads.engine.products import View
from headstock.heads.engine.shared import Shared
from headstock.heads.kinds.discriminant import shrinkage_of
from headstock.heads.rows.labelled import Rows
from headstock.heads.solvers.calibration import couple, platt, temperature
from headstock.heads.solvers.dense import dense
from headstock.heads.solvers.descent import Problems, solve, solve_positive
from headstock.heads.solvers.loops import loops, runs_of
from headstock.heads.solvers.scaling import Blocks, Standard
from headstock.heads.solvers.smo import one_against_one, rbf_from_products


@pytest.fixture
def easy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = np.sort(rng.integers(0, 4, 300))
    Z = rng.normal(size=(300, 30)) + 0.5 * rng.normal(size=(4, 30))[codes]
    return Standard.of(Z.astype(np.float32))(Z.astype(np.float32)), codes


@pytest.mark.parametrize("C", [1e-3, 0.1, 10.0])
def test_logistic_is_scikit_learns(easy, C: float) -> None:
    Z, codes = easy
    head = make_head("logistic", 0, {"C": C, "tol": 1e-6})
    head.fit(Z, codes)
    reference = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(Z, codes)
    np.testing.assert_allclose(head.predict_proba(Z), reference.predict_proba(Z), atol=5e-4)


def test_two_classes_are_scikit_learns_too(easy) -> None:
    Z, codes = easy
    head = make_head("logistic", 0, {"C": 0.1, "tol": 1e-6})
    head.fit(Z, codes > 1)
    reference = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(Z, codes > 1)
    np.testing.assert_allclose(head.predict_proba(Z), reference.predict_proba(Z), atol=5e-4)


def test_linear_svm_is_liblinears(easy) -> None:
    Z, codes = easy
    theta = solve(one_problem(Z, codes, 0.01, "hinge"), 1e-7)
    # a large intercept scaling undoes liblinear's penalty on the intercept
    reference = LinearSVC(C=0.01, dual=False, tol=1e-8, intercept_scaling=100).fit(Z, codes)
    np.testing.assert_allclose(theta[0, :-1].T, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(theta[0, -1], reference.intercept_, atol=1e-3)


def one_problem(Z: np.ndarray, codes: np.ndarray, C: float, loss: str) -> Problems:
    n, d = Z.shape
    zero, one = np.zeros((1, d)), np.ones((1, d))
    return Problems(Z, codes, 4, np.ones((1, n), bool), zero, one, np.array([C]), loss)


def test_many_problems_are_the_single_ones(easy) -> None:
    Z, codes = easy
    masks = np.stack([np.arange(300) % 3 != f for f in range(3)] * 2)
    C = np.array([0.01, 0.01, 0.01, 3.0, 3.0, 3.0])
    mean = np.stack([Z[m].mean(axis=0, dtype=np.float64) for m in masks])
    scale = np.stack([Z[m].std(axis=0, dtype=np.float64) for m in masks])
    problems = Problems(Z, codes, 4, masks, mean, scale, C)
    scores = problems.forward(solve(problems, 1e-7))
    for b in range(6):
        own = Standard(mean[b], scale[b])(Z)
        single = one_problem(own[masks[b]], codes[masks[b]], C[b], "softmax")
        expected = one_problem(own, codes, C[b], "softmax").forward(solve(single, 1e-7))[:, 0]
        np.testing.assert_allclose(scores[:, b], expected, atol=2e-3)


def test_ridge_and_lda_directions(easy) -> None:
    Z, codes = easy
    ridge = make_head("ridge", 0, {"alpha": 0.5})
    ridge.fit(Z, codes)
    reference = RidgeClassifier(alpha=0.5 * 300 / 10).fit(Z, codes)
    ours = ridge.decision_function(Z)  # type: ignore[attr-defined]
    np.testing.assert_allclose(2 * ours - 1, reference.decision_function(Z), atol=1e-3)
    lda = make_head("lda", 0, {"shrinkage": 0.3})
    lda.fit(Z, codes)
    weights = lda.weights_  # type: ignore[attr-defined]
    scatter = sum(np.cov(Z[codes == c].T, bias=True) * (codes == c).sum() for c in range(4)) / 300
    shrunk = 0.7 * scatter + 0.3 * np.trace(scatter) / 30 * np.eye(30)
    means = np.stack([Z[codes == c].mean(axis=0) for c in range(4)])
    np.testing.assert_allclose(weights, np.linalg.solve(shrunk, means.T), atol=1e-3)
    library = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(Z, codes)
    assert (library.predict(Z) == lda.predict_proba(Z).argmax(axis=1)).mean() > 0.97


def test_shrinkage_is_the_mean_of_ledoit_and_wolfs_of_each_class() -> None:
    """Classes of other shapes, as the pooled covariance does not see; scikit-learn's is of doubles
    and of all rows, ours of a sample of the pairs in the last class."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    rng = np.random.default_rng(0)
    counts = np.array([60, 100, 1, 128, 700])
    codes = rng.permutation(np.repeat(np.arange(5), counts))
    shape = rng.normal(size=(5, 80, 80)) * np.geomspace(1, [0.3, 0.1, 1, 0.01, 0.1], 80).T[:, None]
    Z = np.einsum("ij,ijk->ik", rng.normal(size=(len(codes), 80)), shape[codes])
    centred = Z - np.stack([Z[codes == c].mean(axis=0) for c in range(5)])[codes]
    each = [ledoit_wolf_shrinkage(centred[codes == c], assume_centered=True) for c in range(5)]
    each[2] = 1.0  # one row has no covariance: scikit-learn divides 0 by 0
    exact, few = codes < 4, centred.astype(np.float32)
    ours = shrinkage_of(few[exact], codes[exact], 4)
    assert ours == pytest.approx((counts * each)[:4].sum() / counts[:4].sum(), rel=1e-4)
    ours = shrinkage_of(few, codes, 5)
    assert ours == pytest.approx((counts * each).sum() / counts.sum(), rel=0.05)


def test_digits_are_told_as_well_as_by_scikit_learns_discriminant() -> None:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    plan = make_folds(y, 5)
    right = np.zeros((2, len(y)))
    for train, test in plan.split():
        head = make_head("lda").fit(X[train].astype(np.float32), y[train])
        theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(X[train], y[train])
        said = head.classes_[head.predict_proba(X[test].astype(np.float32)).argmax(axis=1)]
        right[:, test] = said == y[test], theirs.predict(X[test]) == y[test]
    assert right[0].mean() > right[1].mean() - 0.005  # 0.9527 and 0.9555: 5 rows of 1,797
    assert right[0].mean() > 0.95


@pytest.mark.parametrize("C", [0.5, 10.0])
def test_compiled_machines_are_libsvms(easy, C: float) -> None:
    Z, codes = easy
    squares = (Z**2).sum(axis=1)
    K = Z @ Z.T
    rbf_from_products(K, squares, squares, 0.02, K)
    distance = ((Z[:, None] - Z[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(K, np.exp(-0.02 * distance), atol=1e-5)
    starts = np.searchsorted(codes, np.arange(5))
    coefficients, bias = one_against_one(K, starts, C)
    reference = SVC(C=C, gamma=0.02, decision_function_shape="ovo", tol=1e-5).fit(Z, codes)
    np.testing.assert_allclose(K @ coefficients + bias, reference.decision_function(Z), atol=3e-3)
    assert np.abs(coefficients).max() <= C
    again, bias_again = one_against_one(K, starts, C, coefficients)
    np.testing.assert_allclose(K @ again + bias_again, K @ coefficients + bias, atol=3e-3)


def test_both_solvers_behind_the_head_agree(easy, monkeypatch) -> None:
    Z, codes = easy
    said = []
    for least in (0, 10**9):
        monkeypatch.setattr("headstock.heads.kinds.svm.COMPILED_FROM", least)
        for name in ("rbf-svm", "poly-svm"):
            head = make_head(name)
            head.fit(Z, codes)
            said.append(head.predict_proba(Z))
    np.testing.assert_allclose(said[0], said[2], atol=5e-3)
    np.testing.assert_allclose(said[1], said[3], atol=5e-3)


def test_a_matrix_with_itself_is_its_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstock.heads.solvers.dense.STRIP", 32)
    Z = np.random.default_rng(0).normal(size=(101, 7)).astype(np.float32)
    own = dense(Z).products()
    np.testing.assert_allclose(own, Z @ Z.T, atol=1e-5)
    np.testing.assert_array_equal(own, own.T)


@pytest.mark.parametrize(
    ("kind", "ridge"), [(np.float32, 1.0), (np.float64, 1.0), (np.float64, 1e-9)]
)
def test_positive_definite_systems(kind: type, ridge: float) -> None:
    """The last is beyond float32's factors."""
    rng = np.random.default_rng(0)
    half, right = rng.normal(size=(150, 150)), rng.normal(size=(150, 3))
    half *= np.geomspace(1, 1e-3, 150)[:, None]
    A = (half @ half.T + ridge * np.eye(150)).astype(kind)
    before = A.copy()
    x = solve_positive(A, right)
    np.testing.assert_array_equal(A, before)
    np.testing.assert_allclose(A.astype(np.float64) @ x, right, atol=1e-6)


def test_a_view_of_some_rows_has_their_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide set in long runs and in short ones, a narrow set, and test rows of both."""
    rng = np.random.default_rng(0)
    X = {"wide": rng.normal(size=(90, 600)), "narrow": 50 + rng.normal(size=(90, 5))}
    all_rows = Rows(np.arange(90).astype(str), {n: x.astype(np.float32) for n, x in X.items()},
                    np.arange(90) % 3, np.array(["a", "b", "c"]))  # fmt: skip
    rows, test = all_rows.take(np.arange(70)), all_rows.take(np.arange(70, 90))
    products = Shared(rows, make_folds(rows.codes, 4), 0, test).products
    train = products.train((1,))
    mine = rows.take(products.order[train])
    asked = np.array([3, 0, 11])
    for name in X:
        scaler = Blocks.of(mine.X[name])
        z, fresh = scaler(mine.X[name]), scaler(test.X[name][asked])
        for columns in (np.arange(5, 45), np.arange(0, len(train), 3)):
            view = View(products, name, train).only(columns)
            expected = 2 * fresh @ z[columns].T
            expected -= (fresh**2).sum(axis=1)[:, None] + (z[columns] ** 2).sum(axis=1)
            out = np.empty((3, len(columns)), dtype=np.float32)
            view.tile(True, asked, out, times=2.0, norms=-1.0)
            np.testing.assert_allclose(out, expected, atol=2e-5)


def test_affine_map_of_runs_of_columns() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(9, 400)).astype(np.float32)
    rows, columns = np.array([7, 0, 3]), np.array([0, 1, 2, 7, 9, *range(100, 300), 399])
    side, shift = rng.normal(size=3), rng.normal(size=len(columns))
    side, shift = side.astype(np.float32), shift.astype(np.float32)
    expected = 0.7 * source[np.ix_(rows, columns)] + side[:, None] + shift
    out = np.empty(expected.shape, dtype=np.float32)
    loops().affine(source, rows, *runs_of(columns), np.float32(0.7), side, shift, out)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    out[:] = np.nan
    loops().picked(source, rows, columns, np.float32(0.7), side, shift, out)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_exponential_is_the_exponential() -> None:
    x = -np.concatenate([np.geomspace(1e-9, 80, 5000), [0, 1e9, -3]]).astype(np.float32)[None]
    out = np.empty_like(x)
    loops().exponential(x, 1.0, out)
    np.testing.assert_allclose(out[0, :-2], np.exp(x[0, :-2].astype(np.float64)), rtol=6e-6)
    assert 0 <= out[0, -2] < 1e-37
    assert out[0, -1] == 1
    np.testing.assert_allclose(out[0, :3], 1, rtol=2e-7)
    halves = np.empty_like(x)
    loops().exponential_of_sum(0.75 * x, 0.25 * x, 1.0, halves)
    np.testing.assert_allclose(halves, out, rtol=6e-6, atol=1e-37)
    loops().exponential(x, 1.0, x)
    np.testing.assert_array_equal(x, out)


@pytest.mark.parametrize(("columns", "count"), [(1000, 10), (129, 129), (3, 1), (300, 7)])
def test_nearest_are_the_largest(columns: int, count: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, columns)).astype(np.float32)
    x[:, ::7] = np.round(x[:, ::7])  # ties
    where, value = np.zeros((20, count), np.int64), np.full((20, count), -np.inf, np.float32)
    half = columns // 2
    loops().nearest(x[:, :half], 0, where, value)
    loops().nearest(x[:, half:], half, where, value)
    np.testing.assert_array_equal(value, -np.sort(-x, axis=1)[:, :count])
    np.testing.assert_array_equal(np.take_along_axis(x, where, axis=1), value)
    assert all(len(set(row)) == count for row in where)


@pytest.mark.parametrize("name", ["rbf-svm", "poly-svm"])
def test_landmarks_are_the_machine_where_all_rows_are_one(easy, name: str) -> None:
    """With every row a landmark only the tolerance and the shrunk intercept differ."""
    Z, codes = easy
    rng = np.random.default_rng(5)
    fresh = Z[rng.permutation(300)[:150]] + 0.3 * rng.normal(size=(150, 30)).astype(np.float32)
    whole = make_head(name, 0, {"C": 1.0}).fit(Z, codes)
    every = make_head(name, 0, {"C": 1.0, "landmarks": 300}).fit(Z, codes)
    a, b = whole.decisions(fresh), every.decisions(fresh)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99
    assert (
        whole.predict_proba(fresh).argmax(1) == every.predict_proba(fresh).argmax(1)
    ).mean() > 0.9
    few = make_head(name, 0, {"C": 1.0, "landmarks": 40}).fit(Z, codes)
    assert few.vectors_.shape == (40, 30)
    assert few.how_ == "landmarks: 40 of 300 rows"
    meta, arrays = few.state()
    again = type(few).from_state(meta, arrays, 4)
    np.testing.assert_array_equal(again.predict_proba(fresh), few.predict_proba(fresh))


def test_a_kernel_without_numbers_still_ends() -> None:
    K = np.full((6, 6), np.nan, dtype=np.float32)
    _, bias = one_against_one(K, np.array([0, 3, 6]), 1.0)
    assert bias.shape == (1,)


def test_temperature_is_the_best_multiplier_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3)) * 2
    proba = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    codes = (proba.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    assert temperature(scores * 7, codes) == pytest.approx(1 / 7, rel=0.05)
    perfect = np.eye(3)[codes]
    assert 1 < temperature(perfect, codes) < 50  # no error is not certainty
    assert temperature(np.full((5, 3), np.nan), codes[:5]) == 1.0


def test_platt_finds_the_sigmoid() -> None:
    rng = np.random.default_rng(0)
    f = rng.normal(size=20000) * 2
    t = rng.random(20000) < 1 / (1 + np.exp(-(1.5 * f - 0.7)))
    one = np.zeros(1, dtype=int)
    assert platt(f, t, one)[0] == pytest.approx((1.5, -0.7), abs=0.08)
    assert platt(f, np.ones(20000, dtype=bool), one).tolist() == [[1.0, 0.0]]
    assert platt(f[:0], t[:0], one).tolist() == [[1.0, 0.0]]
    assert platt(f[:0], t[:0], one[:0]).shape == (0, 2)


def test_platt_of_many_is_that_of_each_and_its_slope_is_zero() -> None:
    rng = np.random.default_rng(1)
    f, t, lengths = [], [], [400, 0, 30, 2, 50, 3000, 60]
    for n in lengths:
        f.append(rng.normal(size=n) * rng.choice([0.01, 3, 50]))
        t.append(f[-1] + rng.normal(size=n) * rng.choice([0, 2]) > 0)
    t[3][:] = [True, False]
    t[4][:] = True
    f[2][::3] = np.nan
    f[6][:] = np.nan
    starts = np.cumsum([0, *lengths[:-1]])
    found = platt(np.concatenate(f), np.concatenate(t), starts)
    for n, (a, b) in enumerate(found):
        alone = platt(f[n], t[n], np.zeros(1, dtype=int))[0]
        np.testing.assert_allclose((a, b), alone, rtol=1e-6, atol=1e-9)
        if n in (1, 4, 6):
            assert (a, b) == (1.0, 0.0)
            continue
        good, up, down = np.isfinite(f[n]), t[n].sum(), (~t[n]).sum()
        target = np.where(t[n], (up + 1) / (up + 2), 1 / (down + 2))[good]
        left = 1 / (1 + np.exp(-(a * f[n][good] + b))) - target
        assert abs(left.sum()) < 1e-4
        assert abs((left * f[n][good]).sum()) < 1e-4


def test_coupling_gives_back_consistent_probabilities() -> None:
    p = np.random.default_rng(0).dirichlet([1, 1, 1, 1], 50)
    i, j = np.triu_indices(4, 1)
    np.testing.assert_allclose(couple(p[:, i] / (p[:, i] + p[:, j]), 4), p, atol=1e-4)


def test_another_process_compiles_nothing_again(tmp_path: Path) -> None:
    program = """
import numpy as np
from headstock.heads.solvers.loops import loops
from headstock.heads.solvers.smo import machine
x = np.ones((3, 70), np.float32)
loops().exponential(x, 1.0, x)
K = np.eye(4, dtype=np.float32)
machine(K, 0 * K, K, np.empty_like(K), 1.0)
from headstock.heads.solvers.compiled_smo import smo
print(sum(f.stats.cache_hits[s] for f in (smo, loops().exponential) for s in f.stats.cache_hits))
"""
    said = []
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        said.append((found.stdout.strip(), len(list(tmp_path.rglob("*.nbc")))))
    assert said[0][0] == "0"
    assert said[1] == ("2", said[0][1])
