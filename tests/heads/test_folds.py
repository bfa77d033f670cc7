from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.heads import Bundle, FoldPlan, evaluate, fit, load_head, make_folds
from headstock.heads.blockwise.stream import fit_streamed
from headstock.store.errors import HeadError, OptionError, VersionError

Y = np.array(list("aaaaaaaaaabbbbbbbbbbccccccc"))


@given(seed=st.integers(0, 99), folds=st.integers(2, 7), repeats=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_stratified_holds_each_row_out_once_with_its_share_of_classes(
    seed: int, folds: int, repeats: int
) -> None:
    plan = make_folds(Y, folds, repeats=repeats, seed=seed)
    assert (plan.folds, plan.repeats, plan.n) == (folds, repeats, len(Y))
    for repeat in range(repeats):
        held_out = [test for _, test in plan.split(repeat)]
        assert sorted(np.concatenate(held_out)) == list(range(len(Y)))
        assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
        for label in "abc":
            counts = [(Y[test] == label).sum() for test in held_out]
            assert max(counts) - min(counts) <= 1


def test_the_same_seed_gives_the_same_plan_and_repeats_differ() -> None:
    one, two = make_folds(Y, 5, repeats=2, seed=3), make_folds(Y, 5, repeats=2, seed=3)
    np.testing.assert_array_equal(one.codes, two.codes)
    assert (one.codes[0] != one.codes[1]).any()
    assert (make_folds(Y, 5, seed=4).codes != one.codes[:1]).any()


@given(seed=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_no_group_is_parted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 25, 300).astype(str)
    y = rng.integers(0, 3, 300)
    plan = make_folds(y, 4, groups=groups, seed=seed)
    for group in np.unique(groups):
        assert len(np.unique(plan.codes[0][groups == group])) == 1
    assert np.bincount(plan.codes[0], minlength=4).min() > 30


def test_group_out_and_given_have_one_fold_a_value() -> None:
    groups = np.array(["x", "y", "z"] * 9)
    for kind, key in (("group-out", "groups"), ("given", "given")):
        plan = make_folds(Y, kind, **{key: groups})
        assert plan.folds == 3
        assert all(len(np.unique(groups[test])) == 1 for _, test in plan.split())


@pytest.mark.parametrize(("kind", "key"), [("group-out", "groups"), ("given", "given")])
def test_repeats_of_the_only_plan_are_refused_and_the_way_out_works(kind: str, key: str) -> None:
    column = {key: np.array(["x", "y", "z"] * 9)}
    with pytest.raises(OptionError, match=f"one plan by {kind}.*leave --repeats away"):
        make_folds(Y, kind, repeats=3, **column)
    assert make_folds(Y, kind, **column).repeats == 1


def test_a_rare_class_is_named() -> None:
    with pytest.raises(HeadError, match=r"too few rows of class c \(7\).*at most 7 folds"):
        make_folds(Y, 8)
    with pytest.raises(HeadError, match=r"too few groups of class a \(1\)"):
        make_folds(Y, 2, groups=Y)
    with pytest.raises(HeadError, match="all of class a"):
        make_folds(["a"] * 5, 2)
    with pytest.raises(OptionError, match="needs a column"):
        make_folds(Y, "group-out")
    with pytest.raises(OptionError, match="number from 2"):
        make_folds(Y, 1)


def test_saved_plans_find_their_rows_again(tmp_path) -> None:
    ids = [f"r{i}" for i in range(len(Y))]
    plan = make_folds(Y, 3, ids=ids, repeats=2)
    plan.save(tmp_path / "folds.json")
    back = FoldPlan.load(tmp_path / "folds.json")
    np.testing.assert_array_equal(back.codes, plan.codes)
    turned = back.align(ids[::-1])
    np.testing.assert_array_equal(turned.codes, plan.codes[:, ::-1])
    with pytest.raises(HeadError, match=r"1 of these 27 rows are not in it and 1 of its 27 .*new"):
        back.align([*ids[1:], "new"])
    with pytest.raises(HeadError, match=r"0 of these 26 rows.* 1 of its 27 are not here .*r0\)"):
        back.align(ids[1:])
    assert back.digest == turned.digest == plan.digest == plan.summary()["digest"]
    other = make_folds(Y, 3, ids=ids, repeats=2, seed=1)
    assert other.digest != plan.digest


def test_what_a_plan_parts_is_named() -> None:
    plan = FoldPlan(tuple("abcdef"), np.array([[0, 0, 1, 1, 2, 2], [0, 0, 1, 2, 1, 2]]))
    assert plan.parted(["x", "x", "y", "y", "", ""]) == ["y"]
    assert plan.parted(list("xyzuvw")) == []
    assert plan.take(np.array([0, 1, 2])).parted(["x", "y", "x"]) == ["x"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"held_out": [[[0, 0, 1], [2]]]},
        {"held_out": [[[0, 1], [2]]]},
        {"held_out": [[[0, 1], [2, 99]]]},
        {"held_out": [[[0, 1], [2, -1]]]},
        {"held_out": []},
        {"ids": ["a", "a", "b", "c"]},
        {"ids": 3},
    ],
)
def test_a_damaged_plan_is_one_line(tmp_path, change: dict) -> None:
    plan = make_folds(list("aabb"), 2)
    (tmp_path / "f.json").write_text(json.dumps({**plan.to_json(), **change}))
    with pytest.raises(HeadError, match="is no fold plan"):
        FoldPlan.load(tmp_path / "f.json")


def test_a_newer_plan_is_refused(tmp_path) -> None:
    (tmp_path / "f.json").write_text(json.dumps({**make_folds(Y, 2).to_json(), "version": 9}))
    with pytest.raises(VersionError, match="newer headstock"):
        FoldPlan.load(tmp_path / "f.json")


WATCHFUL = """
import numpy as np
from headstock.heads import make_head

CALLS = []


class Watchful:
    wants = frozenset({"inner"})

    def __init__(self, sharpness):
        self.head = make_head("knn", 0, {"sharpness": sharpness})

    def fit(self, X, y, inner):
        (column,) = np.flatnonzero((X > 999).all(axis=0))
        for group in np.unique(X[:, column]):
            assert len(np.unique(inner[X[:, column] == group])) == 1, "a group is parted"
        self.head.fit(X, y)
        self.classes_ = self.head.classes_
        CALLS.append(len(X))

    def predict_proba(self, X):
        return self.head.predict_proba(X)


def watchful(seed, sharpness=10.0):
    return Watchful(sharpness)
"""


@pytest.mark.parametrize("folds", [4, "group-out"])
def test_whatever_is_held_out_inside_is_held_out_by_the_same_groups(
    folds: int | str, tmp_path, two_sets, make_store
) -> None:
    """A head that sees which group each of its rows is of: in a search, in a stack's members, as
    the stack's own learner with the features before it, in members fitted again without a fold and
    in the final fit, the folds it is handed never part a group."""
    rows = two_sets(120)
    speaker = np.random.default_rng(5).permutation(np.arange(120) % 6)
    rows.X["image"][:, 0] = 1000 + speaker
    file = tmp_path / "watchful.py"
    file.write_text(WATCHFUL)
    name = f"{file}:watchful"
    options = {
        name: {"sharpness": [1.0, 10.0]},
        "stacked": {"meta": name, "features": True},
    }
    wanted = {"group": "speaker", "options": options, "dedupe": "keep", "folds": folds}
    column = {"speaker": [f"s{s}" for s in speaker]}
    with make_store(tmp_path / "s.h5", rows, group=column) as store:
        evaluate(store, (name, "knn"), ("image",), ("stacked",), **wanted)
        fit(store, name, "image", "stacked", [name, "knn"], **wanted)
    calls = load_head(name).__globals__["CALLS"]
    assert len(calls) >= 100
    assert min(calls) <= 60
    assert max(calls) == 120


def inner_codes(monkeypatch) -> list[np.ndarray]:
    """The folds handed to each head that is fitted while a model is."""
    from headstock.heads.bundle import fitting
    from headstock.heads.outoffold import fold_by_fold as engine

    seen: list[np.ndarray] = []

    def spy(head, name, X, codes, inner, spans):
        seen.append(np.array(inner))
        return engine.fit_head(head, name, X, codes, inner, spans)

    monkeypatch.setattr(fitting, "fit_head", spy)
    return seen


@pytest.mark.parametrize("fusion", [None, "stacked", "gated"])
def test_a_model_holds_out_by_the_plan_it_is_given(
    fusion: str | None, store, tmp_path, monkeypatch
) -> None:
    seen = inner_codes(monkeypatch)
    run = evaluate(store, ("lda", "knn"), fusions=(), folds=4, seed=7)
    run.save(tmp_path / "run")
    plan = FoldPlan.load(tmp_path / "run" / "folds.json")
    heads = None if fusion is None else ["lda", "knn"]
    bundle = fit(store, "lda", None, fusion, heads, folds=plan, save_plan=tmp_path / "again.json")
    assert seen
    for codes in seen:
        np.testing.assert_array_equal(codes, run.folds.codes[0])
    assert bundle.settings["folds"] == run.to_json()["folds"]
    assert FoldPlan.load(tmp_path / "again.json").digest == run.folds.digest
    bundle.save(tmp_path / "m.headstock")
    kept = Bundle.load(tmp_path / "m.headstock").settings["folds"]
    assert kept["digest"] == run.folds.digest
    assert kept["folds"] == 4


def test_another_plan_is_another_calibration(store) -> None:
    """The plan reaches what is held out inside: the temperature of ridge, the choice of a gate."""
    first, second = (fit(store, "ridge", "image", folds=f) for f in (3, 9))
    assert first.members[0].fitted.multiplier_ != second.members[0].fitted.multiplier_
    same = fit(store, "ridge", "image", folds=3)
    assert same.members[0].fitted.multiplier_ == first.members[0].fitted.multiplier_


def test_fit_makes_the_plan_that_evaluate_makes(store) -> None:
    run = evaluate(store, ("lda",), fusions=(), folds=6, seed=3)
    bundle = fit(store, "lda", folds=6, seed=3)
    assert bundle.settings["folds"]["digest"] == run.folds.digest


@pytest.mark.parametrize("dedupe", ["group", "drop"])
def test_fit_takes_out_the_duplicates_that_evaluate_takes_out(
    dedupe: str, tmp_path, two_sets, make_store
) -> None:
    """A training row that is like a test row is dropped by both, so that the plan fits both."""
    rows = two_sets(120)
    for X in rows.X.values():
        X[5] = X[110]
        X[7] = X[8]
    split = ["test" if i >= 100 else "train" for i in range(120)]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        run = evaluate(store, ("lda",), fusions=(), dedupe=dedupe)
        bundle = fit(store, "lda", folds=run.folds, dedupe=dedupe)
    assert bundle.settings["folds"]["n"] == (98 if dedupe == "drop" else 100)


def test_a_group_a_fold_for_a_model(tmp_path, two_sets, make_store, monkeypatch) -> None:
    seen = inner_codes(monkeypatch)
    speaker = [f"s{i % 5}" for i in range(150)]
    with make_store(tmp_path / "s.h5", two_sets(150), group={"speaker": speaker}) as store:
        bundle = fit(
            store, "logistic", None, "stacked", ["logistic", "lda"],
            folds="group-out", group="speaker",
        )  # fmt: skip
        plan = make_folds(np.arange(150) % 3, 5, ids=store.items.id)
        with pytest.raises(HeadError, match=r"parts 5 values of speaker .*make one with --group"):
            fit(store, "lda", folds=plan, group="speaker")
        with pytest.raises(HeadError, match=r"parts 5 values of speaker"):
            evaluate(store, ("lda",), fusions=(), folds=plan, group="speaker")
        with pytest.raises(OptionError, match="group-out needs a column"):
            fit(store, "lda", folds="group-out")
    for codes in seen:
        np.testing.assert_array_equal(codes, np.arange(150) % 5)
    assert bundle.settings["folds"]["kind"] == "group-out"
    assert bundle.settings["folds"]["group"] == "speaker"


def test_two_folds_are_enough_for_every_fusion_of_a_model(store) -> None:
    """Of two folds a member is fitted on one, and has nothing to hold out inside."""
    for fusion in ("weighted", "stacked", "gated"):
        bundle = fit(store, "lda", None, fusion, ["lda", "rbf-svm", "ridge"], folds=2)
        proba = bundle.predict(store).proba
        assert np.isfinite(proba).all()
        assert (
            proba.argmax(axis=1) == np.unique(store.items.label, return_inverse=True)[1]
        ).mean() > 0.7


def test_a_plan_that_a_model_cannot_use_is_one_line(store) -> None:
    ids, y = store.items.id, store.items.label
    with pytest.raises(HeadError, match=r"it has 3 repeats.*folds.json of a run without --repeats"):
        fit(store, "lda", folds=make_folds(y, 4, ids=ids, repeats=3))
    with pytest.raises(HeadError, match=r"10 of these 160 rows are not in it and 0 of its 150"):
        fit(store, "lda", folds=make_folds(y[:150], 4, ids=ids[:150]))
    others = [f"x{i}" for i in range(160)]
    with pytest.raises(HeadError, match=r"160 of these 160 rows .*number of folds for a new plan"):
        fit(store, "lda", folds=make_folds(y, 4, ids=others))
    with pytest.raises(OptionError, match=r"a saved plan is no plan for rows by blocks"):
        fit_streamed(store, "lda", folds=make_folds(y, 4, ids=ids))
    with pytest.raises(OptionError, match="--save-plan: has no meaning where rows are read by"):
        fit_streamed(store, "lda", save_plan="p.json")
