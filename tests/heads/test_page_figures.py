"""What the report's charts and matrices show, against figures known otherwise."""

from pathlib import Path

import numpy as np
import pytest
import some_run
from scipy.stats import binomtest

from headstock.heads.metrics.probabilities import calibration_error
from headstock.heads.report.contest import Contest, pair
from headstock.heads.report.page.figures import (
    coverage,
    reliability,
    thinned,
)
from headstock.heads.report.saved import Saved
from headstock.heads.statistics.doubts import doubts


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """proba (300, 4) that is right about two times in three, and codes (300,)."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, 300)
    raw = np.exp(1.5 * rng.standard_normal((300, 4)) + 2 * np.eye(4)[codes])
    return raw / raw.sum(axis=1, keepdims=True), codes


def test_pair_is_the_exact_binomial_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.7
    test = pair(a, b)
    assert (test.only_a, test.only_b) == ((a & ~b).sum(), (~a & b).sum())
    wanted = binomtest(test.only_a, test.only_a + test.only_b).pvalue
    assert test.p == pytest.approx(wanted, rel=1e-6)
    assert pair(a, a).p == 1.0


def test_reliability_agrees_with_the_calibration_error(answers):
    proba, codes = answers
    bins = reliability(proba, codes, 15)
    assert sum(b.n for b in bins) == 300
    gap = sum(b.n * abs(b.confidence - b.accuracy) for b in bins) / 300
    assert gap == pytest.approx(calibration_error(proba, codes))


def test_coverage_ends_at_the_accuracy(answers):
    proba, codes = answers
    share, accuracy = coverage(proba, codes)
    right = proba.argmax(axis=1) == codes
    assert share[-1] == 1
    assert accuracy[-1] == pytest.approx(right.mean())
    assert accuracy[0] == right[proba.max(axis=1).argmax()]


@pytest.mark.parametrize("n", [1, 2, 239, 10_000])
def test_thinned_keeps_the_ends(n):
    at = thinned(n)
    assert len(at) <= 240
    assert (at[0], at[-1]) == (0, n - 1)


def test_doubts_find_a_planted_label():
    codes = np.repeat([0, 1, 2], 20)
    proba = np.full((60, 3), 0.05) + 0.85 * np.eye(3)[codes]
    codes = codes.copy()
    codes[7] = 2
    rows, instead = doubts(proba, codes)
    assert rows.tolist() == [7]
    assert instead.tolist() == [0]


def _run(name: str, ids: list[str], right: dict[str, list[bool]]) -> Saved:
    codes = np.zeros(len(ids), dtype=np.int64)
    proba = {s: np.where(np.array(r)[:, None], [0.9, 0.1], [0.2, 0.8]) for s, r in right.items()}
    lines = [some_run.line(s, len(r), r.count(False)) for s, r in right.items()]
    none, classes = np.empty(0, dtype=str), np.array(["a", "b"])
    run = some_run.run(lines, classes)
    return Saved(name, Path(name), run, np.array(ids), codes, classes, proba, None, none, none)


def test_contest_uses_the_rows_all_runs_share_and_orders_by_accuracy():
    one = _run("one", list("abcd"), {"low": [True, False, False, False], "top": [True] * 4})
    two = _run("two", list("dcbx"), {"mid": [True, False, True, True]})
    contest = Contest.of([one, two])
    assert contest.ids.tolist() == ["b", "c", "d"]
    assert [contest.title(s) for s in contest.systems] == ["one: top", "two: mid", "one: low"]
    assert contest.right.tolist() == [[True] * 3, [True, False, True], [False] * 3]
    assert contest.overlap(1, 2) == (1, 1 / 3)
    assert contest.against_best["two", "mid"].test.only_a == 1


def test_groups_overrule_a_small_p():
    ids = [f"{i}" for i in range(80)]
    run = _run("one", ids, {"a": [True] * 80, "b": [False] * 40 + [True] * 40})
    assert Contest.of([run]).between(2)[0, 1].differs
    two_groups = {i: "left" if int(i) < 40 else "right" for i in ids}
    against = Contest.of([run], two_groups).between(2)[0, 1]
    assert against.test.p < 1e-9
    assert not against.differs
