"""The shared way gives the numbers of the slow honest way, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest

from headstock.heads import make_folds, make_head
from headstock.heads.engine import fastkernel
from headstock.heads.engine.fastkernel import kernel_bytes, product_bytes
from headstock.heads.engine.shared import Shared
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.kinds import svm
from headstock.heads.kinds.components import OnComponents
from headstock.heads.outoffold import together as engine
from headstock.heads.outoffold.answer import Answer
from headstock.heads.outoffold.fold_by_fold import cross_fit
from headstock.heads.outoffold.together import answer_all
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.labelled import Rows
from headstock.heads.search.tuning import Tuned
from headstock.store.errors import HeadError, OptionError

ON = ("image", "audio", "image+audio")
HEADS: dict[str, dict[str, Any]] = {
    "logistic": {"tol": 1e-7},
    "linear-svm": {"tol": 1e-7},
    "ridge": {},
    "lda": {},
    "knn": {},
    "rbf-svm": {},
    "poly-svm": {"degree": 2},
}
MACHINES = ("rbf-svm", "poly-svm")


def wide_rows(n: int, k: int = 4, wide: int = 520, narrow: int = 9, seed: int = 0) -> Rows:
    """A wide set with an embedding's uneven scales and a narrow one; unbalanced classes."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.integers(0, 2 * k, n) % (k + 2) % k)[rng.permutation(n)]
    scale = rng.gamma(2, size=wide)
    image = np.maximum(rng.normal(size=(n, wide)) + 0.15 * rng.normal(size=(k, wide))[codes], 0)
    audio = rng.normal(size=(n, narrow)) + rng.normal(size=(k, narrow))[codes]
    X = {
        "image": (image * scale + 0.3).astype(np.float32),
        "audio": (audio * 10.0 ** np.arange(narrow) / 1e4 - 50).astype(np.float32),
    }
    ids = np.array([f"r{i}" for i in range(n)], dtype=object)
    return Rows(ids, X, codes, np.array(["ant", "bee", "cat", "dog", "eel"][:k], dtype=object))


def both_ways(
    name: str, rows: Rows, plan: FoldPlan, test: Rows | None, on: Sequence[str] = ON
) -> list[tuple[Answer, Answer]]:
    shared = [Shared(rows, plan, r, test if r == 0 else None) for r in range(plan.repeats)]
    fast = answer_all(name, on, shared, options=HEADS[name])
    out = []
    for o in on:
        X, spans = rows.matrix(o)
        fresh = None if test is None else test.matrix(o)[0]
        slow = cross_fit(
            name, X, spans, rows.codes, len(rows.classes), plan, options=HEADS[name], fresh=fresh
        )
        once = "fold by fold, components found once" if name == "knn" else "all folds at once"
        assert fast[o].how == once
        assert slow.how == "fold by fold"
        out.append((fast[o], slow))
    return out


@pytest.fixture(autouse=True)
def also_for_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstock.heads.kinds.svm.COMPILED_FROM", 0)


@pytest.mark.parametrize("name", list(HEADS))
def test_the_same_numbers(name: str) -> None:
    rows, test = wide_rows(260), wide_rows(60, seed=0)
    plan = make_folds(rows.codes, 4, repeats=2, seed=1)
    tolerance = 3e-3 if name in MACHINES else 2e-4  # the machine itself ends at 1e-3
    for fast, slow in both_ways(name, rows, plan, test):
        np.testing.assert_allclose(fast.proba, slow.proba, atol=tolerance)
        assert len(fast.importances) == len(slow.importances)
        for mine, theirs in zip(fast.importances, slow.importances):
            np.testing.assert_allclose(mine, theirs, rtol=2e-2, atol=1e-3 * theirs.max())
        assert fast.test is not None
        assert slow.test is not None
        np.testing.assert_allclose(fast.test, slow.test, atol=tolerance)


@pytest.mark.parametrize("name", [*HEADS, "lightgbm", "tree", "tuned"])
@pytest.mark.parametrize("folds", [3, 4])
def test_nested_answers_are_those_of_heads_that_never_saw_the_fold(name: str, folds: int) -> None:
    """One fit a pair of folds says what two said, each on the rows without one of them."""
    rows = wide_rows(150, k=3)
    plan = make_folds(rows.codes, folds, repeats=2, seed=2)
    options = {"C": [0.01, 1.0], "tol": 1e-7} if name == "tuned" else HEADS.get(name, {})
    if name == "lightgbm":
        options = {"n_estimators": 5}
    head = "logistic" if name == "tuned" else name
    shared = [Shared(rows, plan, r, None, nested=True) for r in range(2)]
    nested = answer_all(head, ON, shared, options=options)
    for entry in range(2 * folds):
        repeat, fold = divmod(entry, folds)
        train = np.flatnonzero(plan.codes[repeat] != fold)
        cut = FoldPlan(plan.ids, plan.codes[[repeat]]).take(train)
        alone = answer_all(head, ON, [Shared(rows.take(train), cut, 0, None)], options=options)
        for on in ON:
            said = nested[on].proba[entry]
            tolerance = 3e-3 if name in MACHINES else 2e-4
            np.testing.assert_allclose(said[train], alone[on].proba[0], atol=tolerance)
            assert np.isnan(np.delete(said, train, axis=0)).all()


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("folds", [5, 6])
def test_the_same_numbers_with_few_folds_held_out(
    name: str, folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstock.heads.solvers.calibration.ENOUGH", 60)
    monkeypatch.setattr("headstock.heads.solvers.calibration.LEAST", 5)
    solved: list[int] = []
    real = fastkernel._machines

    def counted(*given: Any) -> Any:
        solved.append(len(given[3]))
        return real(*given)

    monkeypatch.setattr(fastkernel, "_machines", counted)
    rows, test = wide_rows(300), wide_rows(40, seed=4)
    plan = make_folds(rows.codes, folds)
    for fast, slow in both_ways(name, rows, plan, test):
        np.testing.assert_allclose(fast.proba, slow.proba, atol=3e-3)
        assert fast.test is not None
        assert slow.test is not None
        np.testing.assert_allclose(fast.test, slow.test, atol=3e-3)
    assert len(solved) == folds + folds + 1  # a ring of pairs, the folds, the refit


@pytest.mark.parametrize("name", ["lda", "ridge", "linear-svm"])
def test_the_same_numbers_of_linear_heads_with_few_folds_held_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstock.heads.solvers.calibration.ENOUGH", 60)
    monkeypatch.setattr("headstock.heads.solvers.calibration.LEAST", 5)
    rows, test = wide_rows(300), wide_rows(40, seed=4)
    plan = make_folds(rows.codes, 5)
    assert len(Shared(rows, plan, 0, test).calibrated_parts()) == 5 + 5 + 1
    for fast, slow in both_ways(name, rows, plan, test):
        np.testing.assert_allclose(fast.proba, slow.proba, atol=2e-4)
        assert fast.test is not None
        assert slow.test is not None
        np.testing.assert_allclose(fast.test, slow.test, atol=2e-4)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_class_that_a_training_part_lacks(name: str) -> None:
    """Folds by group in which a class lives in one group or in two: parts without it arise."""
    rows = wide_rows(240, k=5, wide=514)
    fold = np.random.default_rng(0).integers(0, 4, 240)
    fold[rows.codes == 4] = 1
    fold[rows.codes == 3] = np.where(fold[rows.codes == 3] < 2, 0, 2)
    plan = make_folds(rows.codes, "given", given=fold)
    for fast, slow in both_ways(name, rows, plan, None, ("image", "image+audio")):
        assert (fast.proba[0, rows.codes == 4, 4] == 0).all()
        np.testing.assert_allclose(fast.proba, slow.proba, atol=5e-3 if name in MACHINES else 3e-4)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_row_never_meets_its_own_label(name: str) -> None:
    """With other labels on a fold's rows, what is said of them stays the same, at the tolerances
    heads really end at: a start from a model that had seen them would show here."""
    rows, test = wide_rows(300), wide_rows(20, seed=3)
    plan = make_folds(rows.codes, 4)
    mine = plan.codes[0] == 2
    other = np.where(mine, (rows.codes + 1) % 4, rows.codes)
    said = []
    for codes in (rows.codes, other):
        changed = replace(rows, codes=codes)
        shared = [Shared(changed, plan, 0, test)]
        said.append(answer_all(name, ON, shared))
    for o in ON:
        before, after = said[0][o].proba[0], said[1][o].proba[0]
        np.testing.assert_allclose(after[mine], before[mine], atol=1e-5)
        assert np.abs(after[~mine] - before[~mine]).max() > 1e-3


def test_tuned_logistic_chooses_the_same_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, test = wide_rows(240), wide_rows(40, seed=5)
    plan = make_folds(rows.codes, 4)
    options = {"C": [1e-4, 0.3, 1e-3, 0.05], "tol": 1e-6}
    shared = [Shared(rows, plan, 0, test)]
    for on in ("image", "audio"):
        fast = answer_all("logistic", (on,), shared, options=options)[on]
        X, spans = rows.matrix(on)
        own = make_head("logistic", 0, options)
        own.fit(X, rows.codes, inner=plan.codes[0])  # type: ignore[call-arg]
        assert own.chosen_ == fast.chosen[-1]  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(Tuned, "strategy", None)
            slow = cross_fit(
                "logistic", X, spans, rows.codes, 4, plan, options=options, fresh=test.X[on]
            )
        assert fast.how == "all folds at once"
        assert fast.chosen == slow.chosen
        assert len(fast.chosen) == 5
        # they start from elsewhere, and float32 ends both before the tolerance does
        np.testing.assert_allclose(fast.proba, slow.proba, atol=2e-3)
        assert fast.test is not None
        assert slow.test is not None
        np.testing.assert_allclose(fast.test, slow.test, atol=2e-3)


def test_less_memory_gives_the_same_numbers() -> None:
    """One kernel in memory at a time."""
    rows, test = wide_rows(240), wide_rows(50, seed=2)
    plan = make_folds(rows.codes, 3)
    first = answer_all("rbf-svm", ON, [Shared(rows, plan, 0, test)])
    shared = [Shared(rows, plan, 0, test)]
    shared[0].memory = product_bytes(shared[0], ON) + kernel_bytes(shared[0])
    second = answer_all("rbf-svm", ON, shared)
    for o in ON:
        assert second[o].how == "all folds at once"
        np.testing.assert_allclose(second[o].proba, first[o].proba, atol=1e-5)
        np.testing.assert_allclose(second[o].test, first[o].test, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "wrong"),
    [
        ("lightgbm", {"n_estimators": 6}, {"num_leaves": -3}),
        ("xgboost", {"n_estimators": 6}, {"max_depth": -3}),
        ("knn", {"n_neighbors": 4}, None),
    ],
)  # fmt: skip
def test_components_found_once_give_the_very_numbers(name: str, options: dict, wrong: dict) -> None:
    if name == "xgboost":
        pytest.importorskip("xgboost")
    rows, test = wide_rows(200), wide_rows(30, seed=8)
    plan = make_folds(rows.codes, 3, repeats=2)
    shared = [Shared(rows, plan, r, test if r == 0 else None) for r in range(2)]
    on = ("image+audio", "audio", "image", "audio+image")
    fast = answer_all(name, on, shared, options=options)
    for o in on:
        X, spans = rows.matrix(o)
        slow = cross_fit(
            name, X, spans, rows.codes, 4, plan, options=options, fresh=test.matrix(o)[0]
        )
        assert fast[o].how == "fold by fold, components found once"
        np.testing.assert_array_equal(fast[o].proba, slow.proba)
        assert fast[o].test is not None
        assert slow.test is not None
        np.testing.assert_array_equal(fast[o].test, slow.test)
        np.testing.assert_array_equal(fast[o].importances, slow.importances)
        assert len(fast[o].importances) == (0 if name == "knn" else 6)
    if wrong:
        with pytest.raises(HeadError, match=f"head {name}: (LightGBM|XGBoost)Error"):
            answer_all(name, on, shared, options=wrong)


def test_xgboost_takes_components_of_many_rows_alone() -> None:
    X = np.random.default_rng(0).normal(size=(2500, 512)).astype(np.float32)
    auto, never, always = (
        cast(OnComponents, make_head("xgboost", 0, {"n_components": c})) for c in ("auto", 0, 5)
    )
    for x, count in ((X, 96), (X[1:], 512), (X[:, 1:], 511)):
        assert auto.reduced(x)[2].shape == (len(x), count)
    assert never.reduced(X)[2].shape == X.shape
    assert always.reduced(X[:40])[2].shape == (40, 5)


@pytest.mark.parametrize("name", list(HEADS))
def test_two_folds_leave_nothing_to_calibrate_on(name: str) -> None:
    rows = wide_rows(120, k=3)
    plan = make_folds(rows.codes, 2)
    for fast, slow in both_ways(name, rows, plan, rows, ("audio",)):
        np.testing.assert_allclose(fast.proba, slow.proba, atol=5e-3)


def test_a_constant_column_and_a_zero_row() -> None:
    rows = wide_rows(120, k=3)
    rows.X["image"][:, 3] = 5
    rows.X["audio"][:, 2] = 0
    rows.X["image"][7] = 0
    plan = make_folds(rows.codes, 3)
    for name in ("logistic", "lda", "knn"):
        for fast, slow in both_ways(name, rows, plan, None):
            np.testing.assert_allclose(fast.proba, slow.proba, atol=3e-4)


def test_the_same_numbers_from_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CUDA device here: torch's processor stands in for it, transfers and all."""
    torch = pytest.importorskip("torch")
    asked = []

    def stand_in(name: str) -> Any:
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr("headstock.heads.solvers.dense._device", stand_in)
    rows, test = wide_rows(200), wide_rows(40, seed=4)
    plan = make_folds(rows.codes, 3)
    for name in ("logistic", "lda", "rbf-svm"):
        said = []
        for device in ("cpu", "cuda"):
            shared = [Shared(rows, plan, 0, test, device=device)]
            said.append(answer_all(name, ON, shared, options=HEADS[name]))
        for o in ON:
            tolerance = 3e-3 if name in MACHINES else 1e-4
            np.testing.assert_allclose(said[1][o].proba, said[0][o].proba, atol=tolerance)
    assert set(asked) == {"cuda"}


def test_a_device_that_is_not_there_is_refused() -> None:
    pytest.importorskip("torch")
    rows = wide_rows(60, k=2)
    plan = make_folds(rows.codes, 2)
    with pytest.raises(OptionError, match="device vulcan:0"):
        Shared(rows, plan, 0, None, device="vulcan:0")


def test_little_memory_means_landmarks_and_says_so() -> None:
    rows, test = wide_rows(500), wide_rows(200, seed=6)
    plan = make_folds(rows.codes, 4)
    whole = answer_all("rbf-svm", ON, [Shared(rows, plan, 0, test)])
    shared = [Shared(rows, plan, 0, test, memory=8.0 * 500 * 60)]
    some = answer_all("rbf-svm", ON, shared)
    for o in ON:
        assert some[o].how.startswith("fold by fold; landmarks: 60 of 375 rows; kernels would take")
        assert some[o].notes == ["landmarks: 60 of 375 rows"]
        right = [(a.proba[0].argmax(axis=1) == rows.codes).mean() for a in (whole[o], some[o])]
        assert right[1] > right[0] - 0.15
    shared = [Shared(rows, plan, 0, test, memory=1e3)]
    with pytest.raises(HeadError, match="GB are too little for 500 rows; allow"):
        answer_all("rbf-svm", ON, shared)


def test_many_rows_mean_landmarks_in_an_evaluation_as_in_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much memory there is: what is scored is what ``fit`` would make."""
    monkeypatch.setattr(svm, "COMPILED_UPTO", 200)
    monkeypatch.setattr(svm, "LANDMARKS", 50)
    rows = wide_rows(280)
    plan = make_folds(rows.codes, 4)
    asked = partial(answer_all, "rbf-svm", ("image",))
    many = asked([Shared(rows, plan, 0, None)])["image"]
    assert many.how == (
        "fold by fold; landmarks: 50 of 210 rows; 210 training rows are more than 200"
    )
    X, spans = rows.matrix("image")
    alone = cross_fit("rbf-svm", X, spans, rows.codes, 4, plan)
    np.testing.assert_array_equal(many.proba, alone.proba)
    whole = asked([Shared(rows, plan, 0, None)], options={"landmarks": 0})["image"]
    assert whole.how == "all folds at once"
    few = plan.take(np.arange(260))  # 195 training rows
    some = rows.take(np.arange(260))
    answer = answer_all("rbf-svm", ("image",), [Shared(some, few, 0, None)])["image"]
    assert answer.how == "all folds at once"


def test_too_many_columns_go_fold_by_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = wide_rows(80, k=2)
    plan = make_folds(rows.codes, 2)
    shared = [Shared(rows, plan, 0, None)]
    monkeypatch.setattr(engine, "WIDEST", 5)
    assert "too many" in answer_all("lda", ("audio",), shared)["audio"].how


def test_an_evaluation_is_told_where_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """``memory`` and ``device`` reach the work that heads share."""
    seen = []

    class Seen(Shared):
        def __post_init__(self) -> None:
            seen.append((self.memory, self.device))
            super().__post_init__()

    monkeypatch.setattr("headstock.heads.evaluation.answers.Shared", Seen)
    rows = wide_rows(80, k=2)
    plan = make_folds(rows.codes, 2)
    evaluate_rows(rows, ["logistic"], ["audio"], [], plan, memory=5e8)
    pytest.importorskip("torch")
    with pytest.raises(OptionError, match="device vulcan:0"):
        evaluate_rows(rows, ["logistic"], ["audio"], [], plan, device="vulcan:0")
    assert seen == [(5e8, "cpu"), (8e9, "vulcan:0")]


SAYING = """
import time
import numpy as np

class Saying:
    parallel = True

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        time.sleep(0.3 if X[:, 0].max() > 1e6 else 0)
        self.how_ = f"saw {len(X)}"

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

def saying(seed):
    return Saying()
"""


def test_how_it_was_fitted_is_what_the_last_fold_says(tmp_path, two_sets, monkeypatch):
    """And not what was done last: folds are fitted beside each other."""
    rows = two_sets(31)
    X, codes = rows.X["image"].copy(), np.arange(31) % 3
    X[codes == 2] = 1e9  # the last fold alone does without them, and is done first
    (tmp_path / "own.py").write_text(SAYING)
    monkeypatch.setattr("headstock.heads.outoffold.fold_by_fold.threads", lambda: 3)
    plan = FoldPlan(tuple(rows.ids), codes[None])
    name = f"{tmp_path / 'own.py'}:saying"
    answer = cross_fit(name, X, {"image": slice(0, X.shape[1])}, rows.codes, 4, plan)
    assert answer.how == "fold by fold; saw 21"
    assert answer.notes == ["saw 21"]
