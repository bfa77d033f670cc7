from __future__ import annotations

import numpy as np
import pytest

from headstock.heads import Bundle, evaluate, fit, make_head
from headstock.heads.head import head_options
from headstock.heads.search.tuning import points_of, with_searches
from headstock.heads.specs import HEADS
from headstock.store.errors import OptionError


def test_grids_name_options_that_exist() -> None:
    for name, spec in HEADS.items():
        grid = spec.grid
        assert grid, name
        assert set(grid) <= set(head_options(name))


def test_points_are_all_combinations() -> None:
    points = points_of({"max_depth": [2, 4], "min_samples_split": [2, 5, 9], "min_samples_leaf": 3})
    assert len(points) == 6
    assert points[0] == {"max_depth": 2, "min_samples_split": 2, "min_samples_leaf": 3}
    assert points_of({}) == [{}]
    assert with_searches(("tree",), {"tree": {"max_depth": 3}})["tree"]["max_depth"] == 3


def noisy(n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, 40)).astype(np.float32)
    X[np.arange(n), y] += 1.5
    return X, y


def test_the_best_held_out_value_is_taken() -> None:
    X, y = noisy()
    head = make_head("knn", 0, {"n_neighbors": "[1, 25]"})
    head.fit(X, y)
    assert head.chosen_ == {"n_neighbors": 25}  # type: ignore[attr-defined]
    plain = make_head("knn", 0, {"n_neighbors": 25})
    plain.fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), plain.predict_proba(X))


def test_a_wrong_value_in_a_grid_costs_no_fit() -> None:
    with pytest.raises(OptionError, match="whole number from 1"):
        make_head("knn", 0, {"n_neighbors": [5, 0]})
    with pytest.raises(OptionError, match="unknown option"):
        make_head("knn", 0, {"k": [5, 7]})


def test_the_search_of_depth_by_split_inside_the_folds(store) -> None:
    grid = {"tree": {"max_depth": [1, 6], "min_samples_split": [2, 40]}}
    result = evaluate(store, ("tree", "knn"), on=("image",), fusions=(), options=grid, folds=3)
    row = next(r for r in result.leaderboard if r.head == "tree")
    assert len(row.chosen) == 3
    assert all(set(c) == {"max_depth", "min_samples_split"} for c in row.chosen)
    tuned = evaluate(store, ("ridge",), on=("audio",), fusions=(), tune=("ridge",), folds=3)
    assert tuned.run.settings.options["ridge"] == {"alpha": HEADS["ridge"].grid["alpha"]}


def test_a_tuned_head_is_saved_as_what_it_chose(store, tmp_path) -> None:
    bundle = fit(store, "logistic", "image", options={"logistic": {"C": [0.001, 0.1]}})
    assert bundle.settings["chosen"][0]["C"] in (0.001, 0.1)
    bundle.save(tmp_path / "m")
    again = Bundle.load(tmp_path / "m").predict(store).proba
    np.testing.assert_array_equal(again, bundle.predict(store).proba)
