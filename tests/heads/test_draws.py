"""Random search: what is drawn, and that the choice among it is made inside the folds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, make_head
from headstock.heads.head import head_options
from headstock.heads.metrics.probabilities import log_loss
from headstock.heads.search.draws import Range, draw_points
from headstock.heads.search.tuning import points_of, with_searches
from headstock.heads.specs import HEADS
from headstock.store.errors import OptionError


def test_ranges_name_options_that_exist_and_their_points_are_accepted() -> None:
    for name, spec in HEADS.items():
        own = spec.ranges
        assert own, name
        assert set(own) <= set(head_options(name))
        if name == "xgboost":
            pytest.importorskip("xgboost")
        make_head(name, 0, {**own, "draws": 12})  # makes a head of every point


@pytest.mark.parametrize(
    ("text", "low", "high", "whole", "by_ratio"),
    [
        ("0.001..1000", 0.001, 1000, False, True),
        ("[1e-3 .. 1e3]", 0.001, 1000, False, True),
        ("0.1..0.5", 0.1, 0.5, False, False),
        ("0..1.0", 0, 1, False, False),
        ("2..9", 2, 9, True, False),
        ("1..50", 1, 50, True, True),
        ("-3..3", -3, 3, True, False),
    ],
)
def test_a_range_is_of_the_kind_that_its_ends_say(
    text: str, low: float, high: float, whole: bool, by_ratio: bool
) -> None:
    span = Range.of(text, "here")
    assert span == (low, high, whole)
    assert span.by_ratio == by_ratio
    rng = np.random.default_rng(0)
    drawn = np.array([span.draw(rng) for _ in range(4000)])
    assert drawn.min() >= low
    assert drawn.max() <= high
    assert all(isinstance(span.draw(rng), int if whole else float) for _ in range(50))
    # the middle by ratio or by difference halves what is drawn
    middle = np.sqrt(low * high) if by_ratio else (low + high) / 2
    below = (drawn < middle).mean() + (drawn == middle).mean() / 2
    assert abs(below - 0.5) < 0.05
    if whole and not by_ratio:  # the ends come as often as the others
        counts = np.bincount(drawn - int(low))
        assert counts.min() > 0.75 * counts.mean()


@pytest.mark.parametrize(
    "value", ["auto", 3, None, "1..", "a..b", "1....2", [1, 2], "./x..y", "1-2"]
)
def test_other_values_are_no_range(value: object) -> None:
    assert Range.of(value, "here") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"C": "10..1", "draws": 5}, "C: 10..1 holds nothing; the lower end first"),
        ({"C": "1..1", "draws": 5}, "holds nothing"),
        ({"C": "1..1e999", "draws": 5}, "holds nothing"),
        ({"C": "0.1..10"}, "C=0.1..10 is a range; say how many points to draw: --tune HEAD:30"),
        ({"C": 1.0, "draws": 5}, "nothing to draw from; state a range or a list"),
        ({"C": "0.1..10", "draws": 1}, "draws=1 is no search; 2 or more"),
        ({"C": "0.1..10", "draws": True}, "is no search"),
        ({"C": "0.1..10", "draws": "many"}, "is no search"),
        ({"c": "0.1..10", "draws": 5}, "unknown option c"),
        ({"C": "-1..1", "draws": 30}, "C="),
    ],
)
def test_a_search_that_cannot_be_is_one_line(options: dict, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_head("rbf-svm", 0, options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_points_are_drawn_by_the_seed_alone_and_differ() -> None:
    options = {"C": "0.01..100", "gamma": [0.3, 1.0], "degree": 3}
    one, two = (draw_points(options, 20, 4, "here") for _ in range(2))
    assert one == two
    assert one != draw_points(options, 20, 5, "here")
    assert len({json.dumps(p) for p in one}) == 20
    assert {p["gamma"] for p in one} == {0.3, 1.0}
    assert {p["degree"] for p in one} == {3}
    few = draw_points({"max_depth": "2..4"}, 30, 0, "here")
    assert sorted(p["max_depth"] for p in few) == [2, 3, 4]


def test_a_word_of_tune_asks_for_a_grid_or_for_draws() -> None:
    found = with_searches(("knn:7", "tree"), {"knn": {"n_neighbors": "3..9"}})
    assert found["knn"] == {**HEADS["knn"].ranges, "n_neighbors": "3..9", "draws": 7}
    assert "draws" not in found["tree"]
    own = "./mine.py:nearest"
    made = with_searches((f"{own}:9",), {own: {"sharpness": "0.1..10"}})
    assert made == {own: {"sharpness": "0.1..10", "draws": 9}}
    for word, options in ((own, {}), ("rbf-svm:x", {}), ("logistic", {"logistic": {"C": 1}})):
        with pytest.raises(OptionError, match=r"state a list or a range.*HEAD:30 draws"):
            with_searches((word,), options)


def test_the_choice_among_drawn_points_is_made_on_rows_held_out_inside(two_sets) -> None:
    """``losses_`` of each point are those of fitting it by hand on the other inner folds."""
    rows = two_sets(150)
    X, y, inner = rows.X["image"], rows.codes, np.arange(150) % 4
    options = {"n_neighbors": "1..40", "sharpness": "1.0..50", "draws": 6}
    head = make_head("knn", 3, options)
    head.fit(X, y, inner=inner)  # type: ignore[call-arg]
    points = points_of(options, 3)
    assert head.points == points  # type: ignore[attr-defined]
    for point, loss in zip(points, head.losses_, strict=True):  # type: ignore[attr-defined]
        proba = np.empty((150, 4))
        for fold in range(4):
            plain = make_head("knn", 3, point)
            plain.fit(X[inner != fold], y[inner != fold])
            proba[inner == fold] = plain.predict_proba(X[inner == fold])
        assert loss == pytest.approx(log_loss(np.clip(proba, 1e-7, 1), y))
    assert head.chosen_ == points[int(np.argmin(head.losses_))]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("knn", {"n_neighbors": "1..40", "draws": 5}),
        ("logistic", {"C": "1e-4..10", "draws": 5}),
        ("logistic", {"C": "1e-4..10", "tol": [1e-4, 1e-3], "draws": 4}),
    ],
    ids=["fold by fold", "all folds at once", "logistic fold by fold"],
)
def test_an_evaluation_records_what_was_tried_and_chosen_in_each_fold(
    head: str, options: dict, tmp_path, make_store, two_sets
) -> None:
    split = ["test" if i % 6 == 0 else "train" for i in range(150)]
    with make_store(tmp_path / "s.h5", two_sets(150), split=split) as store:
        result = evaluate(
            store, (head,), ("audio",), (), 3, repeats=2, options={head: options}, seed=2
        )
        again = evaluate(
            store, (head,), ("audio",), (), 3, repeats=2, options={head: options}, seed=2
        )
    (row,) = result.leaderboard
    points, losses = row.tried.points, row.tried.log_loss
    assert list(points) == points_of(options, 2)
    assert len(losses) == len(row.chosen) == 2 * 3 + 1  # repeats x folds, then the refit
    for own, chosen in zip(losses, row.chosen, strict=True):
        assert len(own) == len(points)
        assert points[int(np.argmin(own))] == chosen
    assert len({tuple(own) for own in losses}) == len(losses)
    assert f"; {len(points)} points tried" in result.text()
    assert json.loads(json.dumps(result.to_json(), allow_nan=False)) is not None
    assert again.leaderboard[0].tried == row.tried
    np.testing.assert_array_equal(again.proba[row.name], result.proba[row.name])


def test_the_fast_search_of_logistic_regression_is_the_slow_one(two_sets) -> None:
    """All folds at once against each fold by itself, on points in no order."""
    from headstock.heads.engine.shared import Shared
    from headstock.heads.outoffold.fold_by_fold import cross_fit
    from headstock.heads.outoffold.together import answer_all
    from headstock.heads.rows.folds import make_folds

    rows = two_sets(200)
    plan = make_folds(rows.codes, 4, ids=rows.ids)
    options = {"C": "1e-4..10", "draws": 6}
    fast = answer_all("logistic", ("image",), [Shared(rows, plan, 0, None)], options=options)[
        "image"
    ]
    X, spans = rows.matrix("image")
    slow = cross_fit("logistic", X, spans, rows.codes, 4, plan, options=options)
    assert fast.how != slow.how
    assert fast.chosen == slow.chosen
    assert fast.tried["points"] == slow.tried["points"]
    np.testing.assert_allclose(fast.tried["log_loss"], slow.tried["log_loss"], atol=1e-3)
    np.testing.assert_allclose(fast.proba, slow.proba, atol=2e-3)


def test_a_random_search_of_pure_chance_is_no_better_than_chance(make_store, tmp_path) -> None:
    """Labels that nothing predicts: the best of forty points, chosen on the rows that score it,
    would look better than chance; chosen inside the folds it does not."""
    from headstock.heads.rows.labelled import Rows

    rng = np.random.default_rng(1)
    n = 120
    X = {"image": rng.normal(size=(n, 6)).astype(np.float32)}
    ids = np.array([f"r{i:03d}" for i in range(n)], dtype=object)
    rows = Rows(ids, X, rng.integers(0, 2, n), np.array(["a", "b"], dtype=object))
    options = {"n_neighbors": "1..60", "sharpness": "0.1..50", "draws": 40}
    with make_store(tmp_path / "s.h5", rows) as store:
        result = evaluate(store, ("knn",), ("image",), (), options={"knn": options}, dedupe="keep")
    accuracy = result.leaderboard[0].accuracy
    assert accuracy.low < 0.5 < accuracy.high
    assert result.leaderboard[0].log_loss > np.log(2) - 0.02


def test_reuse_tells_searches_apart(store) -> None:
    wanted = {"on": ("audio",), "fusions": (), "folds": 3, "reuse": True}
    first = {"knn": {"n_neighbors": "1..40", "draws": 4}}
    changed = [
        {"knn": {"n_neighbors": "1..40", "draws": 5}},
        {"knn": {"n_neighbors": "1..30", "draws": 4}},
        {"knn": {"n_neighbors": "1..40", "sharpness": "1.0..9", "draws": 4}},
    ]
    fresh = evaluate(store, ("knn",), options=first, **wanted)
    for options in changed:
        assert not evaluate(store, ("knn",), options=options, **wanted).leaderboard[0].reused
    assert not evaluate(store, ("knn",), options=first, seed=1, **wanted).leaderboard[0].reused
    known = evaluate(store, ("knn",), options=first, **wanted)
    assert known.leaderboard[0].reused
    for key in ("tried", "chosen", "log_loss"):
        assert getattr(known.leaderboard[0], key) == getattr(fresh.leaderboard[0], key)


def test_a_model_of_a_random_search_is_saved_as_what_it_chose(store, tmp_path) -> None:
    bundle = fit(store, "knn", "audio", tune=("knn:5",), seed=4)
    assert bundle.settings["options"]["knn"]["draws"] == 5
    (tried,) = bundle.settings["tried"]
    assert tried["points"][int(np.argmin(tried["log_loss"][0]))] == bundle.settings["chosen"][0]
    bundle.save(tmp_path / "m")
    again = Bundle.load(tmp_path / "m")
    assert again.settings["tried"] == bundle.settings["tried"]
    np.testing.assert_array_equal(again.predict(store).proba, bundle.predict(store).proba)


def test_a_stacks_learner_can_be_searched_too(store) -> None:
    options = {"stacked": {"C": "0.001..10", "draws": 4}}
    result = evaluate(store, ("lda", "knn"), None, ("stacked",), 3, options=options)
    assert any(row.fusion == "stacked" for row in result.leaderboard)
    bundle = fit(store, "lda", None, "stacked", ["lda", "knn"], options=options)
    assert bundle.fusion.head_.chosen_["C"] in [p["C"] for p in bundle.fusion.head_.points]
