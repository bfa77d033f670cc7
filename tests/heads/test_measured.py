"""Intervals and differences of metrics; what they promise is simulated in tests/honesty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from headstock.heads.metrics.table import metric_named
from headstock.heads.statistics.compare import against_best
from headstock.heads.statistics.measured import metric_difference, metric_record
from headstock.heads.statistics.metrics import accuracy_interval
from headstock.heads.statistics.selection import selection


def binary(seed: int, n: int = 400, noise: float = 1.0, share: float = 0.2):
    rng = np.random.default_rng(seed)
    codes = (rng.random(n) < share).astype(int)
    p = norm.cdf(codes * 1.5 - 1 + noise * rng.normal(size=n))
    return np.stack([1 - p, p], axis=1), codes


def test_the_difference_of_two_aurocs_is_delongs() -> None:
    """Against the covariance written out pair by pair (DeLong et al. 1988, eq. 4 to 6)."""
    (a, codes), (b, _) = binary(0), binary(0, noise=1.6)
    up, down = codes == 1, codes == 0
    m, n = up.sum(), down.sum()
    placed = []
    for p in (a[:, 1], b[:, 1]):
        over = (p[up][:, None] > p[down]) + 0.5 * (p[up][:, None] == p[down])
        placed.append((over.mean(axis=1), over.mean(axis=0)))
    tens, ones = (np.cov([one[i] for one in placed]) for i in (0, 1))
    variance = np.array([1, -1]) @ (tens / m + ones / n) @ np.array([1, -1])
    found = metric_difference(metric_named("auroc", "ab"), a[None], b[None], codes, None)
    half = (found["high"] - found["low"]) / 2
    assert half == pytest.approx(1.96 * np.sqrt(variance), rel=0.02)
    assert found["value"] == pytest.approx(placed[0][0].mean() - placed[1][0].mean())


def test_nothing_wrong_is_not_certainty() -> None:
    """20 positive rows, all of them first: no more is known than of 20 right answers."""
    codes = np.r_[np.ones(20, int), np.zeros(300, int)]
    proba = np.stack([1 - 0.9 * codes - 0.05, 0.9 * codes + 0.05], axis=1)
    for name in ("auroc", "average_precision", "macro_f1", "f1", "mcc", "kappa"):
        found = metric_record(metric_named(name, "ab"), proba[None], codes)
        assert (found["value"], found["high"]) == (1, 1)
        least = accuracy_interval(0, 20)[0]
        assert found["low"] <= (2 * least - 1 if name in ("mcc", "kappa") else least) + 1e-9, name


def test_a_share_has_its_exact_interval() -> None:
    proba, codes = binary(1)
    said = proba.argmax(axis=1)
    for name, errors, n in (
        ("recall:b", int(((codes == 1) & (said != 1)).sum()), int((codes == 1).sum())),
        ("precision:b", int(((codes != 1) & (said == 1)).sum()), int((said == 1).sum())),
        ("specificity:b", int(((codes == 0) & (said == 1)).sum()), int((codes == 0).sum())),
        ("accuracy", int((codes != said).sum()), len(codes)),
    ):
        found = metric_record(metric_named(name, "ab"), proba[None], codes)
        assert (found["low"], found["high"]) == pytest.approx(accuracy_interval(errors, n)), name
        assert found["value"] == pytest.approx(1 - errors / n)


@pytest.mark.parametrize("name", ["auroc", "macro_f1", "recall:b@precision=0.5"])
def test_rows_of_one_group_are_not_independent(name: str) -> None:
    """Each row five times over: the interval by groups is that of the rows once."""
    proba, codes = binary(2, 200)
    metric = metric_named(name, "ab")
    once = metric_record(metric, proba[None], codes)
    five, groups = np.repeat(np.arange(200), 5), np.repeat(np.arange(200).astype(str), 5)
    grouped = metric_record(metric, proba[None, five], codes[five], groups)
    bare = metric_record(metric, proba[None, five], codes[five])
    wide = {k: r["high"] - r["low"] for k, r in (("o", once), ("g", grouped), ("b", bare))}
    assert grouped["by"] == "groups"
    assert wide["g"] == pytest.approx(wide["o"], rel=0.2)
    assert wide["b"] < 0.65 * wide["o"]


def test_what_is_undefined_is_said_so_and_a_metric_of_ones_own_has_an_interval(tmp_path) -> None:
    proba, codes = binary(3)
    lone = metric_record(metric_named("auroc", "ab"), proba[None, :5], np.zeros(5, int))
    assert (lone["value"], lone["low"], lone["high"]) == (None, None, None)
    Path(tmp_path / "m.py").write_text(
        "from sklearn.metrics import roc_auc_score\n"
        "def auc(y_true, y_score):\n    return roc_auc_score(y_true == 'b', y_score)\n"
    )
    ours = metric_named(f"{tmp_path}/m.py:auc", "ab")
    mine, table = (
        metric_record(m, proba[None], codes) for m in (ours, metric_named("auroc", "ab"))
    )
    assert mine["value"] == pytest.approx(table["value"])
    for end in ("low", "high"):  # by resamples, and by pseudo-values
        assert mine[end] == pytest.approx(table[end], abs=0.02)


@pytest.mark.parametrize("name", ["auroc", "log_loss", "macro_f1", "recall:b@precision=0.5"])
def test_the_better_of_two_is_found_and_chosen_in_resamples(name: str) -> None:
    (good, codes), (bad, _) = binary(4, noise=0.6), binary(4, noise=3)
    metric = metric_named(name, "ab")
    proba, names = {"good": good, "bad": bad, "same": good}, ["good", "same", "bad"]
    same, line = against_best(names, proba, codes, None, 0, metric)
    assert (line.verdict, same.verdict) == ("better", "not distinguishable")
    assert line.difference.metric == metric.name
    assert metric.sign * line.difference.value > 0
    told = selection(names, proba, codes, None, 0, metric)
    assert told is not None
    assert [name for name, _ in told.wins] == ["good", "same"]
    assert told.apparent == pytest.approx(metric.score(good, codes))
    assert told.nested.low < told.nested.value < told.nested.high
    assert told.nested.value == pytest.approx(told.apparent, abs=0.03)


def test_systems_that_answer_other_rows_are_compared_on_those_of_both() -> None:
    """On the rows that both answer they say the same: the rest of the rows decides nothing."""
    proba, codes = binary(5)
    part = proba.copy()
    part[200:] = np.nan
    whole = np.concatenate([proba[:200], binary(6, 200, noise=0.1)[0]])
    codes = np.r_[codes[:200], binary(6, 200, noise=0.1)[1]]
    metric = metric_named("auroc", "ab")
    (line,) = against_best(
        ["whole", "part"],
        {"whole": whole, "part": part},
        codes,
        None,
        0,
        metric,
    )
    assert (line.n, line.difference.value) == (200, 0)
    assert (line.verdict, line.adjusted_p) == ("not distinguishable", 1)
