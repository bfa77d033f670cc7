"""Learning curves inside the folds, and importances of a fold's heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from headstock.heads import evaluate, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.evaluation.curve import learning_curve, prefix_order
from headstock.heads.rows.labelled import Rows
from headstock.heads.statistics.importances import weigh


def test_each_beginning_has_each_class_in_its_share() -> None:
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    order = prefix_order(codes, None, 0)
    assert sorted(order) == list(range(100))
    for size in (20, 50, 80):
        counts = np.bincount(codes[order[:size]], minlength=3)
        np.testing.assert_allclose(counts, size * np.array([0.6, 0.3, 0.1]), atol=1)


def test_each_beginning_holds_whole_groups_and_one_part() -> None:
    groups = np.repeat(np.arange(10), 8).astype(str)
    order = prefix_order(np.arange(80) % 2, groups, 3)
    for size in (16, 40, 64):
        assert len(set(groups[order[:size]])) == size // 8


def test_the_curve_of_the_best_head_on_each_set(store) -> None:
    seen = []
    result = evaluate(
        store, ("logistic", "knn"), fusions=("mean",), learning_curve=True,
        progress=lambda done, total, name: seen.append(name),
    )  # fmt: skip
    points = result.run.learning_curve
    best = {}
    for row in result.leaderboard:
        if row.fusion in (None, "early"):
            best.setdefault(row.on, row)
    assert {p.system for p in points} == {row.name for row in best.values()}
    for row in best.values():
        own = [p for p in points if p.system == row.name]
        assert [p.n for p in own] == [32, 64, 128]  # an eighth is too few
        assert own[-1].accuracy.value == row.accuracy.value
        assert own[0].accuracy.value < own[-1].accuracy.value + 0.02
        assert own[0].log_loss > own[-1].log_loss
    assert any("learning curve, " in name for name in seen)
    assert "the last doubling gave" in result.text()


def test_a_point_never_sees_the_rows_it_answers(rows: Rows) -> None:
    plan = make_folds(rows.codes, 4, ids=rows.ids)
    mine = plan.codes[0] == 2
    other = replace(rows, codes=np.where(mine, (rows.codes + 1) % 4, rows.codes))
    said = []
    for one in (rows, other):
        result = evaluate_rows(one, ["knn"], ["image"], [], plan)
        told: list = []

        def keep(proba: np.ndarray, *more: object, told: list = told) -> np.ndarray:
            told.append(proba)
            return proba

        said.append(_points(one, result, plan, keep, told))
    for before, after in zip(*said):
        np.testing.assert_array_equal(before[mine], after[mine])
        assert (before[~mine] != after[~mine]).any()


def _points(rows: Rows, result, plan, keep, told: list) -> list[np.ndarray]:
    with pytest.MonkeyPatch.context() as patch:
        import headstock.heads.evaluation.curve as module

        real = module._point
        patch.setattr(module, "_point", lambda s, n, proba, codes: real(s, n, keep(proba), codes))
        learning_curve(result.leaderboard, result.proba, rows, plan)
    return told[:-1]  # the last is the leaderboard's own


def test_shares_of_each_set_and_their_spread() -> None:
    weights = [np.array([3.0, 1.0, 0.0, 4.0]), np.array([20.0, 0.0, 10.0, 10.0])]
    told = weigh(weights, {"a": slice(0, 2), "b": slice(2, 4)}, {"b": ["x", "y"]})
    assert told["a"]["share"] == pytest.approx((0.5 + 0.5) / 2)
    assert told["a"]["sd"] == pytest.approx(0)
    assert told["a"]["columns"][0] == {
        "name": 0, "share": pytest.approx(0.4375), "sd": pytest.approx(0.0883883)
    }  # fmt: skip
    assert [c["name"] for c in told["b"]["columns"]] == ["y", "x"]
    (one,) = weigh(weights[:1], {"all": slice(0, 4)}, top=1).values()
    assert one["columns"] == [{"name": 3, "share": 0.5}]
    assert "sd" not in one


def test_the_leaderboard_holds_them_for_each_set(store) -> None:
    options = {"lightgbm": {"n_estimators": 4}, "forest": {"n_estimators": 5}}
    result = evaluate(store, ("lightgbm", "forest", "knn"), fusions=(), options=options, folds=3)
    for row in result.leaderboard:
        if row.head == "knn":
            assert not row.importances
            continue
        told = row.importances
        assert set(told) == set(row.on.split("+"))
        assert sum(own.share for own in told.values()) == pytest.approx(1)
        assert all(own.columns[0].sd is not None for own in told.values())
        assert told[row.on.split("+")[0]].width == 20 or row.on == "audio"
    assert "weighs" in result.text()
