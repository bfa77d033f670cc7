"""What stands beside a score, against what is known otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from headstock.heads.statistics import chance
from headstock.heads.statistics.chance import chance_p, priors
from headstock.heads.statistics.figures import calibration_line, figures
from headstock.heads.statistics.intervals import mean_interval, share_interval
from headstock.heads.statistics.metrics import ByRow


def figures_of(proba: np.ndarray, codes: np.ndarray, groups: np.ndarray | None = None) -> dict:
    return figures([ByRow.of(one, codes) for one in proba], codes, proba.shape[2], groups)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(n: int, k: int = 3, sharper: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and these probabilities made ``sharper``: (1, n, k)."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    codes = (softmax(z).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(sharper * z)[None], codes


@pytest.mark.parametrize("sharper", [0.5, 1.0, 2.0])
def test_the_slope_is_how_much_too_sharp(sharper: float) -> None:
    proba, codes = drawn(20_000, sharper=sharper)
    line = calibration_line(proba, codes)
    slope, intercept = line["slope"], line["intercept"]
    assert slope is not None
    assert intercept is not None
    assert slope["value"] == pytest.approx(1 / sharper, rel=0.03)
    assert slope["low"] < 1 / sharper < slope["high"]
    assert np.sign(round(intercept["value"], 1)) == np.sign(1 - sharper)


def test_of_two_classes_the_slope_is_that_of_a_logistic_regression_without_intercept() -> None:
    proba, codes = drawn(2000, k=2, sharper=1.7)
    z = np.log(proba[0, :, 1] / proba[0, :, 0])[:, None]
    known = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-9).fit(z, codes)
    slope = calibration_line(proba, codes)["slope"]
    assert slope is not None
    assert slope["value"] == pytest.approx(known.coef_[0, 0], abs=2e-3)


def test_answers_that_are_surely_wrong_have_a_negative_slope_and_overflow_nothing() -> None:
    codes = np.arange(300) % 2
    right = np.random.default_rng(0).random(300) < 0.2
    own = np.where(right, 1 - 1e-12, 1e-12)
    proba = np.stack([np.where(codes == c, own, 1 - own) for c in range(2)], axis=1)[None]
    with np.errstate(over="raise", invalid="raise"):
        slope = calibration_line(proba, codes)["slope"]
    assert slope is not None
    odds = np.log(right.mean() / (1 - right.mean()))
    assert slope["value"] == pytest.approx(odds / np.log(1e12), abs=1e-3)


def test_where_no_row_is_wrong_there_is_no_slope() -> None:
    codes = np.arange(30) % 3
    assert calibration_line((0.1 + 0.7 * np.eye(3)[codes])[None], codes) == {
        "slope": None, "intercept": None,
    }  # fmt: skip


def test_intervals_of_losses_are_students_t_and_repeats_are_averaged() -> None:
    proba, codes = drawn(200)
    two = np.concatenate([proba, drawn(200, sharper=0.5)[0]])
    told = figures_of(two, codes)["intervals"]
    losses = -np.log(two[:, np.arange(200), codes]).mean(axis=0)
    low, high = mean_interval(losses[:, None])
    assert told["log_loss"] == {"low": pytest.approx(low[0]), "high": pytest.approx(high[0])}
    squares = ((two - np.eye(3)[codes]) ** 2).sum(axis=2).mean(axis=0)
    low, high = mean_interval(squares[:, None])
    assert told["brier"] == {"low": pytest.approx(low[0]), "high": pytest.approx(high[0])}


def test_each_class_has_its_exact_interval_and_an_absent_one_has_none() -> None:
    proba, codes = drawn(120)
    codes = np.where(codes == 2, 0, codes)
    told = figures_of(proba, codes)
    right = proba[0].argmax(axis=1) == codes
    for c in (0, 1):
        low, high = share_interval(right[codes == c, None].astype(float))
        assert told["per_class"][c]["interval"] == [pytest.approx(low[0]), pytest.approx(high[0])]
    assert told["per_class"][2]["interval"] is None
    recall = np.mean([right[codes == c].mean() for c in (0, 1)])
    assert told["intervals"]["balanced_accuracy"]["low"] < recall
    assert recall < told["intervals"]["balanced_accuracy"]["high"]


def test_groups_widen_everything() -> None:
    proba, codes = drawn(240)
    groups = np.arange(240) // 40
    codes[groups == 0] = (codes[groups == 0] + 1) % 3  # one group is nothing but wrong
    by_row, by_group = figures_of(proba, codes), figures_of(proba, codes, groups)
    for name, wide in by_group["intervals"].items():
        narrow = by_row["intervals"][name]
        assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"]), name


def test_priors_are_those_of_a_dummy_that_never_sees_the_fold() -> None:
    rng = np.random.default_rng(0)
    codes, folds = rng.choice(3, 90, p=[0.6, 0.3, 0.1]), rng.integers(0, 4, (1, 90))
    found = priors(codes, folds, 3)[0]
    for fold in range(4):
        train = folds[0] != fold
        dummy = DummyClassifier(strategy="prior").fit(np.zeros((train.sum(), 1)), codes[train])
        held = np.zeros(((~train).sum(), 1))
        np.testing.assert_allclose(found[~train], dummy.predict_proba(held))


def test_chance_is_told_from_skill() -> None:
    rng = np.random.default_rng(1)
    codes, folds = rng.integers(0, 3, 150), np.arange(150) % 5
    skilled = np.where(rng.random(150) < 0.5, codes, rng.integers(0, 3, 150))
    guessed = rng.integers(0, 3, 150)
    constant = np.zeros(150, dtype=int)
    p = chance_p(np.stack([skilled, guessed, constant], axis=1), codes, folds)
    assert p[0] == 0.001
    assert p[1] > 0.05
    assert p[2] == 1.0  # what is right whatever the labels' order is no skill


def test_many_rows_use_the_known_mean_and_variance(monkeypatch) -> None:
    rng = np.random.default_rng(2)
    codes, folds = rng.choice(3, 400, p=[0.5, 0.3, 0.2]), np.arange(400) % 4
    said = np.stack([np.where(rng.random(400) < q, codes, rng.integers(0, 3, 400))
                     for q in (0.0, 0.04, 0.08)], axis=1)  # fmt: skip
    by_hand = chance_p(said, codes, folds)
    monkeypatch.setattr(chance, "MOST_ROWS", 0)
    np.testing.assert_allclose(chance_p(said, codes, folds), by_hand, atol=0.03)
    counts = [(rng.permutation(codes) == said[:, 0]).sum() for _ in range(4000)]
    none = np.zeros(400, dtype=int)
    assert chance._variance(said[:, :1], codes, none)[0] == pytest.approx(np.var(counts), rel=0.08)
    assert chance._expected(said[:, :1], codes, none).sum() == pytest.approx(np.mean(counts), 0.01)


@pytest.mark.filterwarnings("error")
def test_of_one_group_no_loss_has_an_interval() -> None:
    rng = np.random.default_rng(3)
    found = figures_of(rng.dirichlet(np.ones(3), (1, 60)), np.arange(60) % 3, np.zeros(60, int))
    assert found["intervals"] == {"balanced_accuracy": {"low": 0.0, "high": 1.0}}


def test_groups_that_share_their_luck_are_no_proof() -> None:
    """Four of six groups are answered right by a label that the group has."""
    groups = np.arange(120) // 20
    codes = groups % 2
    said = np.where(groups < 4, codes, 1 - codes)[:, None]
    assert chance_p(said, codes)[0] < 0.01
    assert chance_p(said, codes, None, groups)[0] > 0.05


@pytest.mark.parametrize("n", [1500, 2500])
def test_no_p_value_is_zero_however_many_rows(n: int) -> None:
    codes = np.arange(n) % 5
    assert chance_p(codes[:, None], codes, np.arange(n) % 3) == 0.001
