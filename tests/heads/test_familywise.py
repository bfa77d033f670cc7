"""Statements about many systems at once: exact where exact is known, and 5 % on null data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from headstock.heads.statistics.compare import mcnemar
from headstock.heads.statistics.familywise import _by_range, adjusted, all_pairs, between_all


@pytest.mark.parametrize(("a", "b"), [(6, 0), (7, 2), (30, 15)])
def test_one_pair_is_mcnemar(a: int, b: int) -> None:
    right = np.ones((100, 2))
    right[:a, 1] = 0
    right[a : a + b, 0] = 0
    (p,) = adjusted(right, all_pairs(2))
    assert p == pytest.approx(mcnemar(a, b), abs=0.012)


def test_few_groups_are_enumerated() -> None:
    """Six groups, all for one system: two of 64 patterns of signs are as far out."""
    right = np.ones((60, 2))
    right[::2, 1] = 0
    assert adjusted(right, all_pairs(2), np.arange(60) // 10)[0] == pytest.approx(2 / 64)
    assert adjusted(right, all_pairs(2), np.arange(60) // 12)[0] == pytest.approx(2 / 32)


def test_the_adjusted_p_are_those_of_every_flip_step_by_step() -> None:
    """Against the definition, with all patterns of signs and no matrix product."""
    rng = np.random.default_rng(5)
    right = (rng.random((9, 4)) < [0.95, 0.6, 0.5, 0.3]).astype(float)
    pairs = all_pairs(4)
    gain = right[:, pairs[:, 0]] - right[:, pairs[:, 1]]
    norm = np.sqrt((gain**2).sum(axis=0))
    T = np.abs(gain.sum(axis=0)) / norm
    order, wanted, least = np.argsort(-T, kind="stable"), np.ones(6), 0.0
    flips = [np.abs(np.array(s) @ gain) / norm for s in product([1, -1], repeat=9)]
    for place, k in enumerate(order):
        left = order[place:]
        least = max(least, np.mean([flip[left].max() >= T[k] - 1e-9 for flip in flips]))
        wanted[k] = least
    np.testing.assert_allclose(adjusted(right, pairs), wanted)


def test_pairs_are_compared_on_the_rows_both_answer() -> None:
    rng = np.random.default_rng(3)
    right = (rng.random((200, 3)) < [0.9, 0.7, 0.9]).astype(float)
    right[:100, 2] = np.nan
    table = between_all(right)
    assert table[0, 1] < 0.01
    assert (table == table.T).all()
    right[:100, :2] = 1 - right[:100, :2]  # of no concern for pairs with the third
    again = between_all(right)
    assert again[0, 1] > 0.5 > 0.05 > again[1, 2]


def test_systems_that_say_the_same_are_one() -> None:
    rng = np.random.default_rng(4)
    right = (rng.random((300, 3)) < [0.9, 0.86, 0.8]).astype(float)
    many = right[:, [0, 1, 2] + [1] * 40]
    np.testing.assert_allclose(between_all(many)[:3, :3], between_all(right))
    assert between_all(many)[1, 9] == 1.0


@pytest.mark.parametrize("groups", [None, np.arange(240) % 8])
def test_the_best_of_many_equals_is_called_better_in_five_percent(groups) -> None:
    """60 leaderboards of 20 systems that are all alike: 5 % are 3. Without the adjustment for the
    leader's having been chosen some 12 were wrong."""
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(240, 1))
        right = (shared + rng.normal(size=(240, 20)) < 1.2).astype(float)
        leader = right.sum(axis=0).argmax()
        wrong += (between_all(right, groups, seed)[leader] < 0.05).any()
    assert wrong <= 8  # more than 8 of 60 at 5 % happens in 1 of 400


def test_beyond_many_systems_the_range_is_used_and_finds_less() -> None:
    rng = np.random.default_rng(6)
    right = (rng.random((400, 6)) < [0.95, 0.94, 0.9, 0.8, 0.7, 0.5]).astype(float)
    pairs = all_pairs(6)
    by_range, stepped = _by_range(right, pairs, None, 0), adjusted(right, pairs)
    assert by_range[4] < 0.001
    assert (by_range >= stepped - 0.01).all()


def test_nothing_differs() -> None:
    assert (between_all(np.ones((20, 3))) == 1.0).all()
    assert between_all(np.ones((20, 1))).tolist() == [[1.0]]
    assert adjusted(np.ones((20, 2)), all_pairs(2)).tolist() == [1.0]
