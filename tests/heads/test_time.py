"""Folds in time: nothing of a block or of what comes after it is learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstock.heads import evaluate, make_head
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.rows.folds import FoldPlan
from headstock.heads.rows.times import past_of, time_plan
from headstock.store.errors import HeadError, OptionError


def days(n: int, seed: int = 0) -> list[str]:
    order = np.random.default_rng(seed).permutation(n)
    return [str(np.datetime64("2026-01-01") + day) for day in order.tolist()]


def plan_of(rows, values, how: str = "expanding") -> FoldPlan:
    return time_plan(rows.ids, values, "taken", how)


def test_blocks_follow_time_and_never_part_a_moment(two_sets) -> None:
    rows = two_sets(120)
    values = np.array(days(120))
    codes = plan_of(rows, values).codes[0]
    order = np.argsort(values)
    assert (np.diff(codes[order]) >= 0).all()
    assert np.bincount(codes).tolist() == [20] * 6
    coarse = np.array([value[:8] + "01" for value in values])  # months
    codes = plan_of(rows, coarse).codes[0]
    assert all(len(np.unique(codes[coarse == month])) == 1 for month in np.unique(coarse))


def test_the_past_is_what_came_before(two_sets) -> None:
    rows, values = two_sets(60), days(60)
    codes = plan_of(rows, values).codes[0]
    assert (past_of(plan_of(rows, values), 3) == (codes < 3)).all()
    slid = plan_of(rows, values, "sliding=2")
    assert (past_of(slid, 3) == np.isin(codes, [1, 2])).all()
    groups = np.array([f"g{i % 20}" for i in range(60)], dtype=object)
    left = past_of(plan_of(rows, values), 3, groups)
    assert left.any()
    assert not set(groups[left]) & set(groups[codes == 3])


@pytest.mark.parametrize("how", ["expanding", "sliding=2"])
def test_each_block_is_answered_by_a_head_fitted_on_its_past(two_sets, how) -> None:
    rows = two_sets(180)
    plan = plan_of(rows, days(180), how)
    result = evaluate_rows(rows, ["knn"], ["image"], [], plan)
    scored = np.flatnonzero(plan.codes[0] > 0)
    assert list(result.ids) == list(rows.ids[scored])
    for fold in range(1, 6):
        past = np.flatnonzero(past_of(plan, fold))
        mine = plan.codes[0][scored] == fold
        head = make_head("knn", 0).fit(rows.X["image"][past], rows.codes[past])
        said = head.predict_proba(rows.X["image"][scored[mine]])
        np.testing.assert_allclose(result.proba["knn@image"][mine], said, atol=1e-6)
        share = np.bincount(rows.codes[past], minlength=4) / len(past)
        assert result.run.baseline.n == 150
        assert share.max() < 0.5


def test_what_comes_later_changes_nothing_of_before(two_sets) -> None:
    """All fusions: labels and vectors of the last two blocks are made another, and only the scores
    of those blocks may follow."""
    rows = two_sets(180)
    plan = plan_of(rows, days(180))
    later = plan.codes[0] >= 4
    codes = np.where(later, (rows.codes + 1) % 4, rows.codes)
    X = {name: np.where(later[:, None], -x, x) for name, x in rows.X.items()}
    fusions = ["mean", "weighted", "stacked", "gated"]
    runs = [
        evaluate_rows(one, ["lda", "knn"], ["image", "audio"], fusions, plan)
        for one in (rows, replace(rows, codes=codes, X=X))
    ]
    before = plan.codes[0][plan.codes[0] > 0] < 4
    for name, proba in runs[0].proba.items():
        np.testing.assert_array_equal(proba[before], runs[1].proba[name][before])
        assert (proba[~before] != runs[1].proba[name][~before]).any()
    assert len(runs[0].proba) == 4 + 2 * 3 + 2


def test_a_class_that_the_past_does_not_know_has_no_probability(two_sets) -> None:
    rows = two_sets(180)
    values = np.array(sorted(days(180)))
    codes = np.where(np.arange(180) < 90, rows.codes % 3, rows.codes)
    plan = plan_of(rows, values)
    result = evaluate_rows(replace(rows, codes=codes), ["lda"], ["image"], [], plan)
    early = plan.codes[0][plan.codes[0] > 0] <= 3
    assert (result.proba["lda@image"][early, 3] == 0).all()
    assert (result.proba["lda@image"][~early, 3] > 0).any()
    (note,) = result.run.settings.notes
    assert "rows are of classes that no earlier row has (dog)" in note


def test_drift_shows_in_time_and_not_in_random_folds(tmp_path, make_store, two_sets) -> None:
    """The classes' places wander: a row is easy beside its own days and hard from the past."""
    rows = two_sets(240, k=2, strength=0.0)
    rng = np.random.default_rng(0)
    when = np.arange(240)
    side = np.where((when // 40) % 2, 1, -1) * np.where(rows.codes, 1, -1)
    X = rng.normal(size=(240, 6)).astype(np.float32)
    X[:, 0] += 3 * side
    X[:, 1] += 3 * np.sin(2 * np.pi * when / 80)
    X[:, 2] += 0.05 * when
    made = replace(rows, X={"image": X})
    taken = [str(np.datetime64("2026-01-01") + int(day)) for day in when]
    split = ["test" if i % 12 == 0 else "" for i in range(240)]
    with make_store(tmp_path / "s.h5", made, split=split, group={"taken": taken}) as store:
        usual = evaluate(store, ["knn"], ["image"], ())
        timed = evaluate(store, ["knn"], ["image"], (), folds="time:taken")
        slid = evaluate(store, ["knn"], ["image"], (), folds="time:taken:sliding=1")
        for wrong, error in (("time:nosuch", OptionError), ("time:taken:often", OptionError),
                             ("time:label", HeadError)):  # fmt: skip
            with pytest.raises(error):
                evaluate(store, ["knn"], ["image"], (), folds=wrong)
        with pytest.raises(OptionError, match="one plan by time; leave --repeats away"):
            evaluate(store, ["knn"], ["image"], (), folds="time:taken", repeats=2)
    scores = [r.leaderboard[0].accuracy.value for r in (usual, timed, slid)]
    assert scores[0] > 0.7 > 0.5 > scores[1] > scores[2]
    assert "HS21" in {one["code"] for one in usual.to_json()["checks"]}
    assert "HS21" not in {one["code"] for one in timed.to_json()["checks"]}
    assert "time, expanding (taken)" in timed.text()
    assert timed.leaderboard[0].test.n == usual.leaderboard[0].test.n == 20
    timed.save(tmp_path / "run")
    assert FoldPlan.load(tmp_path / "run" / "folds.json").kind == "time, expanding"
