from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import some_run
from scipy.stats import binomtest

from headstock.heads import evaluate
from headstock.heads.report.text import leaderboard_text
from headstock.heads.statistics.compare import against_best, compare, mcnemar
from headstock.heads.statistics.intervals import share_interval


def system(codes: np.ndarray, wrong: np.ndarray, k: int = 3) -> np.ndarray:
    """Probabilities that are right except on ``wrong``."""
    said = codes.copy()
    said[wrong] = (said[wrong] + 1) % k
    return 0.1 + 0.7 * np.eye(k)[said]


CODES = np.arange(300) % 3


@pytest.mark.parametrize(("a", "b"), [(0, 0), (5, 0), (3, 9), (40, 60)])
def test_mcnemar_is_the_binomial_test(a: int, b: int) -> None:
    expected = binomtest(a, a + b, 0.5).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(expected)


def test_the_pairs_are_counted() -> None:
    a, b = system(CODES, np.arange(10)), system(CODES, np.arange(5, 45))
    result = compare(a, b, CODES)
    assert (result.only_a_right, result.only_b_right) == (35, 5)
    assert (result.shared_errors, result.same_answer) == (5, 5)
    gain = result.accuracy_difference
    assert gain.value == pytest.approx(30 / 300)
    sd = np.sqrt((40 / 300 - 0.1**2) / 300)
    assert gain.low == pytest.approx(0.1 - 1.96 * sd, abs=0.01)
    assert gain.high == pytest.approx(0.1 + 1.96 * sd, abs=0.01)
    assert result.log_loss_difference.high < 0


def test_groups_count_as_wholes() -> None:
    groups = np.repeat(np.arange(10), 30).astype(str)
    wrong = np.arange(60)  # two whole groups
    right = ~np.isin(np.arange(300), wrong)[:, None]
    by_row, by_group = share_interval(right, None), share_interval(right, groups)
    assert by_group[1] - by_group[0] > 3 * (by_row[1] - by_row[0])
    a, b = system(CODES, np.array([], dtype=int)), system(CODES, wrong)
    gain = compare(a, b, CODES, groups).accuracy_difference
    assert gain.low < 0.05 < compare(a, b, CODES).accuracy_difference.low


def test_verdicts_are_in_words_and_count_the_comparisons() -> None:
    proba = {
        "best": system(CODES, np.arange(5)),
        "same": system(CODES, np.arange(3, 12)),
        "worse": system(CODES, np.arange(100)),
    }
    board = list(proba)
    same, worse = against_best(board, proba, CODES)
    assert same.verdict == "not distinguishable"
    assert worse.verdict == "better"
    assert worse.mcnemar_p < worse.adjusted_p < 0.001
    assert same.adjusted_p >= max(worse.adjusted_p, same.mcnemar_p)
    assert against_best(board[:1], proba, CODES) == ()
    alone = compare(proba["best"], proba["worse"], CODES)
    assert worse.accuracy_difference == alone.accuracy_difference


@pytest.mark.parametrize("groups", [None, np.array([f"g{i}" for i in range(300)])])
def test_a_leader_that_is_beaten_where_both_answer_is_not_called_better(groups) -> None:
    """It leads because it answers all rows: the other leaves the hard half out."""
    leader = system(CODES, np.concatenate([np.arange(150), np.arange(150, 200)]))
    other = system(CODES, np.array([], dtype=int))
    other[:150] = np.nan
    proba = {"leader": leader, "other": other}
    (line,) = against_best(list(proba), proba, CODES, groups)
    assert line.n == 150
    assert line.adjusted_p < 0.001
    assert line.verdict == "worse"
    made = some_run.run([some_run.line("leader@x", 300), some_run.line("other@x", 150)])
    told = leaderboard_text(replace(made, comparisons=(line,)))
    assert "better than 0 of the other 1" in told
    assert "worse than these on the rows that both answer: other" in told


def test_the_leaderboard_says_it(store) -> None:
    result = evaluate(store, ("logistic", "knn"), fusions=("mean",))
    assert len(result.run.comparisons) == len(result.leaderboard) - 1
    assert result.run.comparisons[0].a == result.leaderboard[0].name
    assert "not distinguishable from it on these rows" in result.text()


def test_the_table_has_intervals_of_groups_where_folds_keep_them(
    tmp_path, make_store, two_sets
) -> None:
    rows = two_sets(160, strength=0.5)
    speaker = {"speaker": [f"s{i % 8}" for i in range(160)]}
    with make_store(tmp_path / "s.h5", rows, group=speaker) as store:
        asked = evaluate(store, ("knn",), on=("image",), fusions=(), group="speaker", folds=4)
        plain = evaluate(store, ("knn",), on=("image",), fusions=())
    line, other = asked.leaderboard[0], plain.leaderboard[0]
    group = line.accuracy.by_group
    assert f"{group.low:.4f}-{group.high:.4f}" in asked.text()
    assert "95 %: intervals with the spread of whole groups, 8 groups" in asked.text()
    assert f"{other.accuracy.low:.4f}-{other.accuracy.high:.4f}" in plain.text()
    assert "whole groups" not in plain.text().split("\n\n")[0]


def test_repeats_all_take_part() -> None:
    """Alike in the first repeat, far apart in the others: the verdict is not of the first alone."""
    good, bad = system(CODES, np.arange(5)), system(CODES, np.arange(100))
    proba = {"a": np.stack([good, good, good]), "b": np.stack([good, bad, bad])}
    (line,) = against_best(list(proba), proba, CODES)
    assert line.mcnemar_p == 1.0
    assert line.accuracy_difference.value == pytest.approx(2 / 3 * 95 / 300)
    assert (line.verdict, line.repeats) == ("better", 3)
