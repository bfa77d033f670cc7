"""Intervals of shares, losses and differences, by rows and by groups, against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, t, ttest_1samp

from headstock.heads import evaluate
from headstock.heads.statistics.intervals import (
    difference_interval,
    mean_interval,
    share_interval,
    spread_of,
)


def test_rows_alone_are_students_t() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(40, 3))
    low, high = mean_interval(values)
    wanted = ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose([low, high], [wanted.low, wanted.high], rtol=1e-12)


def test_groups_of_one_size_are_students_t_of_their_means() -> None:
    values = np.random.default_rng(1).normal(size=(60, 2))
    groups = np.arange(60) % 6
    low, high = mean_interval(values, groups)
    means = np.stack([values[groups == g].mean(axis=0) for g in range(6)])
    wanted = ttest_1samp(means, 0).confidence_interval()
    np.testing.assert_allclose([low, high], [wanted.low, wanted.high], rtol=1e-12)


def test_the_degrees_of_freedom_of_unequal_groups_are_those_of_the_matrices() -> None:
    groups = np.repeat(np.arange(5), [40, 5, 5, 8, 2])
    sizes = np.bincount(groups).astype(float)
    total, w = sizes.sum(), 1 / (1 - sizes / sizes.sum())
    found = []
    for covariance in (np.diag(sizes), np.diag(sizes**2)):  # rows independent; alike in a group
        centre = np.eye(5) - np.outer(sizes, np.ones(5)) / total
        C = np.sqrt(np.outer(w, w)) * (centre @ covariance @ centre.T)
        found.append(np.trace(C) ** 2 / (C**2).sum())
    assert spread_of(np.zeros((60, 1)), groups).freedom == pytest.approx(min(found))


def test_shares_by_rows_are_exact_and_by_groups_never_inside() -> None:
    rng = np.random.default_rng(2)
    right = (rng.random((200, 4)) < [0.5, 0.9, 0.99, 2]).astype(float)
    low, high = share_interval(right)
    x = right.sum(axis=0)
    np.testing.assert_allclose(low, beta.ppf(0.025, x, 201 - x), rtol=1e-9)
    np.testing.assert_allclose(high[:2], beta.ppf(0.975, x + 1, 200 - x)[:2], rtol=1e-9)
    assert high[3] == 1.0
    for groups in (np.arange(200), np.arange(200) % 7, np.repeat([0, 1], 100)):
        wide_low, wide_high = share_interval(right, groups)
        assert (wide_low <= low).all()
        assert (wide_high >= high).all()
    # every group is right equally often: groups alone would say that nothing is uncertain
    even = np.tile([1.0, 1.0, 1.0, 0.0], 50)[:, None]
    narrow = mean_interval(even, np.repeat(np.arange(50), 4))
    assert narrow[1] - narrow[0] == pytest.approx(0)
    np.testing.assert_allclose(
        share_interval(even, np.repeat(np.arange(50), 4)), share_interval(even)
    )


def test_one_group_says_nothing_of_another() -> None:
    low, high = share_interval(np.ones((50, 1)), np.zeros(50))
    assert (low[0], high[0]) == (0.0, 1.0)
    assert np.isinf(mean_interval(np.ones((50, 1)), np.zeros(50))[1]).all()


def test_differences_by_rows_are_agresti_and_min() -> None:
    gain = np.zeros((100, 1))
    gain[:12], gain[12:15] = 1, -1
    low, high = difference_interval(gain)
    middle, spread = 9 / 102, np.sqrt(16 - 81 / 102) / 102
    half = t.ppf(0.975, 99) * spread
    assert (low[0], high[0]) == (pytest.approx(middle - half), pytest.approx(middle + half))
    none = difference_interval(np.zeros((100, 1)))
    assert none[0][0] < 0 < none[1][0]  # no row tells them apart, in a hundred


def test_the_test_split_has_intervals_by_group_too(tmp_path, make_store, two_sets) -> None:
    rows = two_sets(200, strength=0.5)
    speaker = {"speaker": [f"s{i % 10}" for i in range(200)]}
    split = ["test" if i % 10 >= 6 else "" for i in range(200)]
    with make_store(tmp_path / "s.h5", rows, split=split, group=speaker) as store:
        result = evaluate(store, ("knn",), ("image",), (), folds=3, group="speaker")
    test = result.leaderboard[0].test.accuracy
    assert test.by_group.groups == 4
    assert test.by_group.low <= test.low
    assert test.by_group.high >= test.high
    assert f"{test.by_group.low:.4f}-{test.by_group.high:.4f}" in result.text()
