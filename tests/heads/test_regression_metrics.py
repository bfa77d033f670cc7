"""Scores of numbers: scikit-learn's and SciPy's definitions, and what is known of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import pearsonr, spearmanr

from headstock.heads.metrics.regression import ABOUT, ALIASES, listing, number_metric
from headstock.heads.statistics.regression import Known, difference, interval
from headstock.store.errors import HeadError, OptionError

THEIRS: dict[str, Any] = {
    "rmse": sk.root_mean_squared_error,
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "median_ae": sk.median_absolute_error,
    "r2": sk.r2_score,
    "pearson": lambda y, p: pearsonr(y, p)[0],
    "spearman": lambda y, p: spearmanr(y, p)[0],
    "pinball": partial(sk.mean_pinball_loss, alpha=0.5),
    "pinball@quantile=0.9": partial(sk.mean_pinball_loss, alpha=0.9),
    "mape": sk.mean_absolute_percentage_error,
    "rmsle": sk.root_mean_squared_log_error,
}


def rows(seed: int = 0, n: int = 80, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.gamma(3, size=n)
    said = np.abs(y + rng.normal(size=n))
    return (np.round(y), np.round(said)) if ties else (y, said)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", THEIRS)
def test_definitions_are_those_of_scikit_learn_and_scipy(name: str, ties: bool) -> None:
    y, said = rows(ties=ties)
    assert number_metric(name).score(said[:, None], y) == pytest.approx(THEIRS[name](y, said))


def test_every_name_of_the_table_and_every_other_word_is_taken() -> None:
    assert [line.split("  ")[0].strip() for line in listing()] == list(ABOUT)
    for name in (*ABOUT, *ALIASES, "RMSE", "median-ae"):
        assert number_metric(name).needs == "numbers"
    for name in ("accuracy", "rmse@quantile=0.5", "pinball@quantile=2", "pinball@alpha=0.5", "rms"):
        with pytest.raises(OptionError, match=f"metric {name}"):
            number_metric(name)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", [n for n in THEIRS if n not in ("median_ae",)])
def test_a_pseudo_value_is_what_a_row_moves(name: str, ties: bool) -> None:
    """Pseudo-values have the score for their mean, and each tells to first order how the score
    changes when its row counts a little more: here, when it is there 1.01 times."""
    y, said = rows(ties=ties, n=60)
    metric = number_metric(name)
    assert metric.pseudo is not None
    value, pseudo = metric.pseudo(said, y)
    assert pseudo.mean() == pytest.approx(value)
    for row in range(0, 60, 7):  # 100 copies of all rows, and one more of this
        which = np.append(np.tile(np.arange(60), 100), [row] * 10)
        moved = metric.score(said[which], y[which]) - value
        share = 10 / (6000 + 10)
        assert moved / share == pytest.approx(pseudo[row] - value, rel=0.05, abs=0.02)


def test_a_score_that_is_not_defined_is_no_number() -> None:
    y, same = rows()[0], np.full(80, 3.0)
    for name in ("pearson", "spearman"):
        assert np.isnan(number_metric(name).score(same[:, None], y))
    assert np.isnan(number_metric("r2").score(y[:, None], same))
    found = Known(number_metric("spearman"), same[None, :, None], y)
    assert np.isnan(interval(found)).all()


@pytest.mark.parametrize("name", ["rmse", "mae", "r2", "spearman", "pearson", "median_ae"])
def test_intervals_hold_the_score_widen_by_groups_and_stay_where_scores_are(name: str) -> None:
    y, said = rows(n=120)
    found = Known(number_metric(name), said[None, :, None], y)
    low, high = interval(found)
    assert low < found.value < high
    assert found.metric.low <= low
    assert high <= found.metric.high
    # each row four times, as one group: as much is known as of the rows once
    four = Known(found.metric, np.tile(said, 4)[None, :, None], np.tile(y, 4))
    grouped = interval(four, np.tile(np.arange(120), 4))
    assert grouped == pytest.approx((low, high), rel=0.03)
    assert interval(four)[1] - interval(four)[0] < 0.7 * (high - low)
    assert interval(four, np.zeros(480)) == (found.metric.low, found.metric.high)


def test_two_systems_on_the_same_rows() -> None:
    y, said = rows(n=200)
    worse = said + np.random.default_rng(3).normal(size=200)
    a, b = (Known(number_metric("rmse"), s[None, :, None], y) for s in (said, worse))
    value, low, high = difference(a, b)
    assert value == pytest.approx(a.value - b.value)
    assert low < value < high < 0
    assert difference(a, a) == pytest.approx((0, 0, 0))
    apart = [np.sum(np.square(ends)) for ends in (interval(a), interval(b))]
    assert min(apart) > 0


def test_a_metric_of_ones_own_is_resampled(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def close(y_true, y_pred):\n    return np.mean(np.abs(y_true - y_pred) < 1)\n"
        "def worst(y_true, y_pred):\n    return np.max(np.abs(y_true - y_pred))\n"
        "worst.greater_is_better = False\n"
        "def broken(y_true, y_pred):\n    raise KeyError('x')\n"
        "def odd(y_true, weight):\n    return 1\n"
    )
    y, said = rows(n=100)
    metric = number_metric(f"{file}:close")
    found = Known(metric, said[None, :, None], y)
    right = np.abs(said - y) < 1
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 100)
    assert found.value == right.mean()
    assert interval(found) == pytest.approx((found.value - half, found.value + half), abs=0.03)
    grouped = interval(found, np.arange(100) // 10)
    assert grouped != interval(found)
    assert number_metric(f"{file}:worst").greater_is_better is False
    with pytest.raises(HeadError, match="KeyError"):
        number_metric(f"{file}:broken").score(said, y)
    with pytest.raises(OptionError, match="weight is unknown"):
        number_metric(f"{file}:odd")
