from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn import metrics as reference

from headstock.heads.metrics.labels import confusion
from headstock.heads.metrics.probabilities import calibration_error
from headstock.heads.report.page.figures import reliability
from headstock.heads.statistics.metrics import accuracy_interval, score


@pytest.fixture
def said() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 300)
    z = rng.normal(size=(300, 4))
    z[np.arange(300), codes] += 1.5
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), codes


def test_figures_are_scikit_learns(said) -> None:
    proba, codes = said
    row, predicted = score(proba[None], codes), proba.argmax(axis=1)
    assert row["accuracy"]["value"] == pytest.approx(reference.accuracy_score(codes, predicted))
    assert row["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(codes, predicted)
    )
    assert row["macro_f1"] == pytest.approx(reference.f1_score(codes, predicted, average="macro"))
    assert row["log_loss"] == pytest.approx(reference.log_loss(codes, proba))
    np.testing.assert_array_equal(
        confusion(predicted, codes, 4), reference.confusion_matrix(codes, predicted)
    )
    assert row["errors"] == (predicted != codes).sum()
    recalls = reference.recall_score(codes, predicted, average=None)
    assert [c["recall"] for c in row["per_class"]] == pytest.approx(list(recalls))


@pytest.mark.parametrize(("errors", "n"), [(0, 20), (3, 50), (20, 20), (1, 3450)])
def test_the_interval_is_exact(errors: int, n: int) -> None:
    low, high = accuracy_interval(errors, n)
    if errors < n:  # at the bounds, what was seen has probability 2.5 %
        assert binom.cdf(errors, n, 1 - low) == pytest.approx(0.025)
    else:
        assert low == 0
    if errors:
        assert binom.sf(errors - 1, n, 1 - high) == pytest.approx(0.025)
    else:
        assert high == 1


def test_no_error_is_not_certainty() -> None:
    codes = np.arange(300) % 3
    row = score(np.eye(3)[codes][None], codes)
    assert row["errors"] == 0
    assert row["error_rate_below"] == pytest.approx(3 / 300, rel=0.01)
    assert row["log_loss"] == 0


def test_calibration_error_is_near_zero_for_honest_probabilities() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1, 1, 1], 20000)
    codes = (proba.cumsum(axis=1) < rng.random((20000, 1))).sum(axis=1)
    assert calibration_error(proba, codes) < 0.02
    sure = np.eye(3)[proba.argmax(axis=1)]
    assert calibration_error(sure, codes) > 0.2


def test_a_class_without_rows_is_left_out_of_the_means() -> None:
    codes = np.array([0, 0, 1, 1])
    proba = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    row = score(proba[None], codes)
    assert row["balanced_accuracy"] == pytest.approx(0.75)
    assert row["per_class"][2] == {"n": 0, "errors": 0, "recall": None, "precision": None}


def test_the_order_of_rows_decides_nothing_under_ties() -> None:
    """Two answers alone, each right half the time: honest in any order of the rows."""
    proba = np.tile([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]], (30, 1))
    codes = np.where(np.arange(60) // 2 % 2 == 0, 0, 1)
    found = []
    for order in (np.arange(60), np.argsort(codes, kind="stable"), np.argsort(-codes)):
        found.append(
            (calibration_error(proba[order], codes[order]), reliability(proba[order], codes[order]))
        )
    assert found[0] == found[1] == found[2]
    assert found[0][0] == pytest.approx(0.5 * abs(0.5 - 0.5) + 0.5 * abs(0.8 - 0.5))
