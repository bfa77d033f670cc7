"""What being chosen by the rows that score it is worth."""

from __future__ import annotations

import numpy as np
import pytest

from headstock.heads import evaluate
from headstock.heads.statistics.intervals import resamples
from headstock.heads.statistics.selection import selection


def guesses(n: int, systems: int, seed: int, right: float = 0.7) -> tuple[dict, np.ndarray]:
    """Systems that are all right on a share ``right`` of rows, independently."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, n)
    proba = {}
    for number in range(systems):
        said = np.where(rng.random(n) < right, codes, 1 - codes)
        proba[f"s{number}"] = 0.1 + 0.8 * np.eye(2)[said]
    return proba, codes


def names_of(proba: dict, codes: np.ndarray) -> list[str]:
    return sorted(proba, key=lambda name: -(proba[name].argmax(axis=1) == codes).sum())


def test_of_many_equals_the_leader_is_flattered_and_the_estimate_knows() -> None:
    """Thirty systems that are all 0.7 right: the best of them is 0.7 right on new rows."""
    apparent, nested = [], []
    for seed in range(20):
        proba, codes = guesses(200, 30, seed)
        told = selection(names_of(proba, codes), proba, codes, seed=seed)
        assert told is not None
        apparent.append(told.apparent)
        nested.append(told.nested.value)
        assert told.optimism == pytest.approx(apparent[-1] - nested[-1])
        assert told.nested.low < nested[-1] < told.nested.high
    assert np.mean(apparent) > 0.74
    assert np.mean(nested) == pytest.approx(0.7, abs=0.015)


def test_a_clear_winner_costs_nothing() -> None:
    proba, codes = guesses(300, 10, 0, right=0.6)
    proba["good"] = 0.1 + 0.8 * np.eye(2)[codes]
    told = selection(names_of(proba, codes), proba, codes)
    assert told is not None
    assert told.wins == (("good", 1.0),)
    assert told.optimism == pytest.approx(0.0)
    assert (told.leader, told.systems) == ("good", 11)


def test_groups_are_drawn_whole() -> None:
    """A system that is right in some groups and wrong in others wins or loses by groups."""
    n, codes = 200, np.zeros(200, dtype=int)
    groups = np.repeat(np.arange(10), 20).astype(str)
    first = np.where(np.arange(n) < 110, 0, 1)
    second = np.where(np.arange(n) % 2, 0, 1)
    proba = {"a": 0.1 + 0.8 * np.eye(2)[first], "b": 0.1 + 0.8 * np.eye(2)[second]}
    by_row = selection(names_of(proba, codes), proba, codes)
    by_group = selection(names_of(proba, codes), proba, codes, groups)
    assert by_row is not None
    assert by_group is not None
    assert by_group.by == "groups"
    width = [t.nested.high - t.nested.low for t in (by_row, by_group)]
    assert width[1] > 2 * width[0]


def test_ties_are_not_broken_by_the_rows_left_out() -> None:
    """A hundred systems that are .95 right on a hundred rows: ties are many, and breaking them by
    the order of the leaderboard told .98."""
    told = []
    for seed in range(12):
        proba, codes = guesses(100, 100, seed, right=0.95)
        told.append(selection(names_of(proba, codes), proba, codes, seed=seed).nested.value)
    assert np.mean(told) == pytest.approx(0.95, abs=0.008)


def test_systems_that_always_tie_are_chosen_alike() -> None:
    proba, codes = guesses(200, 1, 0)
    proba["twin"] = proba["s0"]
    told = selection(names_of(proba, codes), proba, codes)
    assert told is not None
    assert dict(told.wins) == {"s0": 0.5, "twin": 0.5}
    assert told.nested.value == pytest.approx(told.apparent, abs=0.002)


def test_all_repeats_choose() -> None:
    first, codes = guesses(200, 1, 0)
    good, bad = 0.1 + 0.8 * np.eye(2)[codes], 0.1 + 0.8 * np.eye(2)[1 - codes]
    proba = {"a": np.stack([first["s0"], good, good]), "b": np.stack([first["s0"], bad, bad])}
    told = selection(["a", "b"], proba, codes)
    assert told is not None
    assert told.wins == (("a", 1.0),)
    assert told.apparent == pytest.approx((2 + (first["s0"].argmax(1) == codes).mean()) / 3)


def test_a_system_that_leaves_rows_out_takes_no_part() -> None:
    proba, codes = guesses(100, 3, 0)
    proba["s0"][:10] = np.nan
    told = selection(["s1", "s2", "s0"], proba, codes)
    assert told is not None
    assert told.systems == 2
    assert selection(["s1"], proba, codes) is None


def test_resamples_draw_with_replacement() -> None:
    drawn = np.concatenate(list(resamples(50, 0, 400)))
    assert drawn.shape == (400, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert (drawn == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_the_leaderboard_says_it(store) -> None:
    result = evaluate(store, ("logistic", "knn"), fusions=("mean",))
    told = result.run.selection
    assert told.leader == result.leaderboard[0].name
    assert told.apparent == pytest.approx(result.leaderboard[0].accuracy.value)
    assert "the best of 8 systems, chosen on other rows than those that score it" in result.text()
