"""Shared work gives the answers of a fresh head a fold, on data as it comes: flags that one fold
alone has, sentinels, columns of one value, offsets, scales without end, a class of two rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstock.heads import HEADS, make_folds, make_head
from headstock.heads.engine import fastreduced
from headstock.heads.engine.held import hold
from headstock.heads.engine.products import Products
from headstock.heads.engine.shared import Shared
from headstock.heads.outoffold import fold_by_fold as fold_by_fold_way
from headstock.heads.outoffold.answer import fit_head, full_proba
from headstock.heads.outoffold.together import answer_all
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.solvers.scaling import Blocks, Standard

Case = tuple[Rows, FoldPlan]

OPTIONS: dict[str, dict[str, Any]] = {
    "logistic": {"tol": 1e-6},
    "linear-svm": {"tol": 1e-6},
    "poly-svm": {"degree": 2},
    "lightgbm": {"n_estimators": 4},
    "xgboost": {"n_estimators": 3},
    "bagging": {"n_estimators": 3},
    "forest": {"n_estimators": 3},
    "extra-trees": {"n_estimators": 3},
    "mlp": {"max_iter": 3, "hidden_layer_sizes": 8},
    "tuned": {"C": [0.01, 0.1, 1.0], "tol": 1e-6},
}
SHARED = (
    "logistic", "ridge", "lda", "linear-svm", "rbf-svm", "poly-svm", "knn", "lightgbm", "xgboost",
    "tuned",
)  # fmt: skip
"""One head and more of each way to share work; ``tuned`` is logistic regression over C."""
TOLERANCE = {"rbf-svm": 5e-3, "poly-svm": 5e-3, "tuned": 2e-3, "lightgbm": 0.0, "xgboost": 0.0}
"""Of probabilities: machines end at a tolerance of 1e-3, and the descent of ``tuned`` starts
elsewhere; others of ``SHARED`` differ by float32's rounding, trees in nothing."""


def made(n: int, d: int, k: int = 3, strength: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(n) % k)
    return rng.normal(size=(n, d)) + strength * rng.normal(size=(k, d))[codes], codes


def case(codes: np.ndarray, folds: int | np.ndarray = 4, **X: np.ndarray) -> Case:
    ids = np.array([f"r{i}" for i in range(len(codes))], dtype=object)
    matrices = {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in X.items()}
    classes = np.array([f"c{c}" for c in np.unique(codes)], dtype=object)
    given = folds if isinstance(folds, np.ndarray) else None
    plan = make_folds(codes, "given" if given is not None else folds, given=given, seed=1)
    return Rows(ids, matrices, codes, classes), plan


def flags(n: int, fold: np.ndarray, count: int = 6) -> np.ndarray:
    """(n, count): each 1 for a few rows of one fold, 0 for all others."""
    out = np.zeros((n, count))
    for j in range(count):
        out[np.flatnonzero(fold == j % 4)[: 1 + j // 2], j] = 1
    return out


def rare_flags(n: int = 120, d: int = 8) -> Case:
    X, codes = made(n, d)
    own = flags(n, make_folds(codes, 4, seed=1).codes[0])
    return case(codes, a=np.hstack([X, own, 5 + 0.1 * own, 255 * own]))


def sites(n: int = 120, d: int = 8, count: int = 12) -> Case:
    """A one-hot of the sites by which rows are parted: each column is constant in training rows."""
    X, codes = made(n, d)
    site = np.random.default_rng(1).integers(0, count, n)
    return case(codes, site % 4, a=np.hstack([X, np.eye(count)[site]]))


def sentinel(n: int = 120, d: int = 8, value: float = 1e7) -> Case:
    X, codes = made(n, d)
    X[5, 0] = value
    X[[9, 50, 100], 1] = -value
    return case(codes, a=X)


def nodata(n: int = 120) -> Case:
    return sentinel(n, value=float(np.finfo(np.float32).max))


def offset(n: int = 120, d: int = 8) -> Case:
    """A mean of a million standard deviations: values that float32 holds in steps of 1/16."""
    X, codes = made(n, d)
    X[:, :3] += 1e6
    return case(codes, a=X)


def duplicates(n: int = 120, d: int = 8) -> Case:
    X, codes = made(n, d)
    return case(codes, a=np.hstack([X, X, 1000 * X[:, :3]]))


def constants(n: int = 120, d: int = 8) -> Case:
    X, codes = made(n, d)
    still = np.tile([0, 0.1, 1 / 3, 1e7, 123456.789, -1e-20, 1e30], (n, 1))
    return case(codes, a=np.hstack([X, still]))


def two_rows(n: int = 120, d: int = 8) -> Case:
    X, codes = made(n, d)
    fold = make_folds(np.where(codes == 2, 0, codes), 4, seed=1).codes[0]
    codes = np.where(codes == 2, 0, codes)
    some = [np.flatnonzero(fold == f)[0] for f in (0, 1)]
    codes[some] = 2
    X[some, 0] += 4
    return case(codes, fold, a=X)


def scales(n: int = 120, d: int = 12) -> Case:
    X, codes = made(n, d)
    return case(codes, a=X * 10.0 ** np.linspace(-30, 30, d))


def few_rows() -> Case:
    X, codes = made(48, 120, strength=0.4)
    return case(codes, a=X)


def batches(n: int = 120, d: int = 8) -> Case:
    """Half of the folds far from the other half: no units serve both."""
    X, codes = made(n, d)
    fold = make_folds(codes, 4, seed=1).codes[0]
    X[:, 0] += np.where(fold < 2, 0, 1e6)
    return case(codes, fold, a=X, b=made(n, 5)[0])


def wide(n: int = 80, d: int = 520) -> Case:
    """A wide set and a narrow one, flags and constants in both."""
    X, codes = made(n, d, strength=0.2)
    own = flags(n, make_folds(codes, 4, seed=1).codes[0])
    still = np.tile([0, 3e4], (n, 1))
    both = np.hstack([X, own, still, 100 * own])
    return case(codes, a=both, b=np.hstack([made(n, 6)[0], own, still]))


def wide_offset(n: int = 80, d: int = 520) -> Case:
    X, codes = made(n, d, strength=0.2)
    X[:, ::2] += 1e5
    return case(codes, a=X)


CASES: dict[str, Callable[[], Case]] = {
    f.__name__: f
    for f in (
        rare_flags, sites, sentinel, nodata, offset, duplicates, constants, two_rows, scales,
        few_rows, batches, wide, wide_offset,
    )
}  # fmt: skip


@pytest.fixture(autouse=True)
def also_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstock.heads.kinds.svm.COMPILED_FROM", 0)


def asked(name: str) -> tuple[str, dict[str, Any]]:
    return "logistic" if name == "tuned" else name, OPTIONS.get(name, {})


def fold_by_fold(name: str, rows: Rows, plan: FoldPlan, on: str) -> np.ndarray:
    """(n, k): a fresh head a fold, fitted on its training rows alone."""
    head_name, options = asked(name)
    X, spans = rows.matrix(on)
    out = np.empty((len(rows), len(rows.classes)))
    for train, test in plan.split():
        head = make_head(head_name, 0, options)
        fit_head(head, name, X[train], rows.codes[train], plan.codes[0, train], spans)
        out[test] = full_proba(head, name, X[test], out.shape[1])
    return out


def shared_way(name: str, rows: Rows, plan: FoldPlan, on: str) -> tuple[np.ndarray, str]:
    head_name, options = asked(name)
    shared = [Shared(rows, plan, 0, rows)]
    answer = answer_all(head_name, [on], shared, options=options)[on]
    assert answer.test is not None
    assert np.isfinite(answer.test).all()
    return answer.proba[0], answer.how


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("which", list(CASES))
def test_all_folds_at_once_say_what_each_says_alone(which: str, name: str) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    rows, plan = CASES[which]()
    on = "+".join(rows.X)
    said, how = shared_way(name, rows, plan, on)
    np.testing.assert_allclose(
        said, fold_by_fold(name, rows, plan, on), atol=TOLERANCE.get(name, 3e-4), rtol=0
    )
    if which in ("batches", "nodata") and name not in ("knn", "lightgbm", "xgboost"):
        assert how == "fold by fold: column 0 of a is on scales too far apart to share sums"
    else:
        assert how.startswith(("all folds at once", "fold by fold, components found once"))


@pytest.mark.parametrize("name", [name for name in HEADS if name not in SHARED])
@pytest.mark.parametrize("which", ["sites", "nodata", "two_rows"])
def test_heads_that_share_nothing_say_what_they_say_alone(which: str, name: str) -> None:
    rows, plan = CASES[which]()
    said, how = shared_way(name, rows, plan, "a")
    assert how == "fold by fold"
    np.testing.assert_array_equal(said, fold_by_fold(name, rows, plan, "a"))


@pytest.mark.parametrize("name", ["rbf-svm", "poly-svm", "lda"])
def test_many_rows_of_a_narrow_set_with_sites(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1,000 rows on kernels are shared without being asked to."""
    monkeypatch.setattr("headstock.heads.kinds.svm.COMPILED_FROM", 1000)
    rows, plan = sites(1040, 12, 30)
    said, how = shared_way(name, rows, plan, "a")
    assert how == "all folds at once"
    np.testing.assert_allclose(said, fold_by_fold(name, rows, plan, "a"), atol=5e-3)
    assert (said.argmax(axis=1) == rows.codes).mean() > 0.7


@pytest.mark.parametrize("name", list(HEADS))
def test_what_is_constant_in_training_decides_nothing(name: str) -> None:
    """A value that no training row has, in a column that tells them nothing, moves no answer."""
    if name == "xgboost":
        pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    X, codes = made(90, 6)
    for d in (6, 520):
        train = np.hstack([np.resize(X, (90, d)), np.full((90, 1), 0.1)]).astype(np.float32)
        other = train.copy()
        other[:, -1] = 1e7
        head = make_head(name, 0, OPTIONS.get(name))
        head.fit(train, codes)
        np.testing.assert_allclose(head.predict_proba(other), head.predict_proba(train), atol=1e-6)


def test_a_column_is_constant_when_all_its_values_are_one() -> None:
    X = np.full((1000, 4), 0.1, dtype=np.float32)
    X[:, 1] = 1e30
    X[7, 2] = np.nextafter(np.float32(0.1), np.float32(1))  # the smallest step there is
    X[:, 3] = np.random.default_rng(0).normal(size=1000) * 1e-30
    scaler = Standard.of(X)
    assert (scaler.scale == 0).tolist() == [True, True, False, False]
    np.testing.assert_allclose(scaler(X)[:, 2:].std(axis=0), 1, rtol=1e-4)
    assert (scaler(X + 5)[:, :2] == 0).all()
    assert (Blocks.of(X).scale == 0).tolist() == [True, True, False, False]


def test_units_follow_the_part_that_varies_least() -> None:
    rng = np.random.default_rng(0)
    fold = np.arange(100) % 5
    X = rng.normal(size=(100, 3)).astype(np.float32)
    X[5, 1] = 1e8  # of fold 0
    X[:, 2] = fold == 3
    held, Z = hold(X, fold, 5, np.arange(100) % 2, 2)
    assert held.odd.tolist() == [1, 2]
    assert held.strained is None
    np.testing.assert_allclose(Z[:, 0], Standard.of(X)(X)[:, 0])
    assert 0.8 < Z[fold > 0][:, 1].std() < 1.3
    assert held.constant(np.array([0, 1, 2, 4])).tolist() == [False, False, True]
    assert held.constant(np.array([1, 2, 3])).tolist() == [False, False, False]


# A row's answer depends on the training rows and on itself: the check, and mutants it must catch.

HONEST = ("logistic", "lda", "ridge", "linear-svm", "rbf-svm", "knn", "mlp")


def moved_by_others(name: str) -> float:
    """How far the answers on a fold's first rows move when its other rows get other vectors and
    other labels."""
    X, codes = made(120, 8)
    rows, plan = case(codes, a=X)
    mine = np.flatnonzero(plan.codes[0] == 2)
    first, others = mine[:5], mine[5:]
    codes, X = rows.codes.copy(), rows.X["a"].copy()
    codes[others] = (codes[others] + 1) % 3
    X[others] = 3 - 2 * X[others]
    changed = Rows(rows.ids, {"a": X}, codes, rows.classes)
    before, after = (shared_way(name, r, plan, "a")[0][first] for r in (rows, changed))
    return float(np.abs(after - before).max())


@pytest.mark.parametrize("name", HONEST)
def test_no_answer_depends_on_other_rows_held_out(name: str) -> None:
    assert moved_by_others(name) < 1e-3


@pytest.mark.parametrize("name", HONEST)
def test_a_scaler_that_sees_held_out_rows_is_caught(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every: list[np.ndarray] = []
    begin, scaling, standard, blocks = Shared.__post_init__, Shared.scaling, Standard.of, Blocks.of

    def begun(self: Shared) -> None:
        every[:] = [self.rows.X["a"]]
        begin(self)

    def of_all(self: Shared, on: str, parts: list[Any]) -> Any:
        return scaling(self, on, [()] * len(parts))

    monkeypatch.setattr(Shared, "__post_init__", begun)
    monkeypatch.setattr(Shared, "scaling", of_all)
    monkeypatch.setattr(Standard, "of", lambda X: standard(every[0]))
    monkeypatch.setattr(Blocks, "of", lambda X, spans=None: blocks(every[0], spans))
    assert moved_by_others(name) > 5e-3


@pytest.mark.parametrize("name", HONEST)
def test_a_fold_that_sees_its_rows_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shared, "left", lambda self, part: np.arange(self.folds))
    monkeypatch.setattr(Shared, "mask", lambda self, part: np.ones(len(self.fold), dtype=bool))
    monkeypatch.setattr(Products, "train", lambda self, part: np.arange(len(self.fold)))
    for module in (fold_by_fold_way, fastreduced):
        monkeypatch.setattr(module, "kept", lambda fold, part: np.ones(len(fold), dtype=bool))
    assert moved_by_others(name) > 5e-3


def test_a_fold_without_rows_costs_nothing() -> None:
    """A saved plan may number a fold that holds out nobody."""
    fold = np.array([0, 2, 3])[np.arange(90) % 3]
    X = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    X[:, 1] = fold == 2
    held, _ = hold(X, fold, 4, np.arange(90) % 2, 2)
    assert held.odd.tolist() == [1]
    assert held.strained is None
    assert held.constant(np.array([0, 1, 3])).tolist() == [False, True]
