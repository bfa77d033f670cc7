"""What stands below the table, in words."""

from __future__ import annotations

from functools import partial

import numpy as np
import some_run

from headstock.heads import evaluate, make_folds
from headstock.heads.evaluate_classes import evaluate_rows
from headstock.heads.report.findings import findings, pattern_words
from headstock.heads.rows.labelled import Rows


def test_figures_of_the_first_system_and_the_errors_it_shares(store) -> None:
    result = evaluate(store, ("logistic", "knn"), fusions=("mean",))
    text = "\n".join(findings(result.run))
    row, first = result.leaderboard[0], result.run.comparisons[0]
    assert f"macro F1 {row.macro_f1:.4f}, Brier score {row.brier:.4f}" in text
    assert f"calibration error {row.calibration_error:.4f}" in text
    worst = min(row.per_class, key=lambda c: c.recall)
    name = result.classes[row.per_class.index(worst)]
    assert f"its lowest recall: {name} {worst.recall:.3f} ({worst.interval[0]:.3f}-" in text
    assert f"{first.shared_errors} errors of both" in text
    assert f"right alone on {first.only_a_right} and {first.only_b_right} rows" in text


def test_no_error_is_told_with_the_exact_bound(two_sets) -> None:
    rows: Rows = two_sets(160, strength=12.0)
    result = evaluate_rows(rows, ["knn"], ["image"], [], make_folds(rows.codes, 5))
    assert result.leaderboard[0].errors == 0
    (line,) = [line for line in findings(result.run) if "no error" in line]
    # exact: 1 - 0.05 ** (1 / 160), about 3 / 160
    assert line == (
        "no error in 160 rows: its error rate is below 1.9 % (exact one-sided 95 % bound)"
    )


def test_repeats_and_choices_are_told(store) -> None:
    result = evaluate(
        store, ("knn",), on=("audio",), fusions=(), repeats=3,
        options={"knn": {"n_neighbors": [1, 15]}},
    )  # fmt: skip
    text = result.text()
    spread = result.leaderboard[0].repeats
    assert f"standard deviation {spread.sd:.4f}" in text
    assert np.std(spread.accuracy, ddof=1) == spread.sd
    assert "knn@audio chose inside the folds: n_neighbors=15 (1" in text


def test_parts_that_a_run_lacks_are_left_out() -> None:
    (line,) = findings(some_run.run([some_run.line("knn@a")]))
    assert line.startswith("knn@a: macro F1 0.9000")
    assert pattern_words("a") == "a alone"
    assert pattern_words("a+b+c") == "a, b and c"


def test_guessing_folds_and_calibration_stand_beside_the_scores(store) -> None:
    result = evaluate(store, ("knn",), on=("image",), fusions=())
    text, row = result.text(), result.leaderboard[0]
    assert "a fold holds out 32 rows, 8 of a class" in text
    assert result.run.baseline.accuracy.value == 0.25
    assert abs(result.run.baseline.log_loss - np.log(4)) < 1e-12
    assert "guessing by how frequent the classes are: 0.2500; that it guesses: p 0.001" in text
    slope = row.calibration.slope
    assert f"its calibration: slope {slope.value:.2f} ({slope.low:.2f} to" in text
    ends = row.intervals["log_loss"]
    assert ends.low < row.log_loss < ends.high
    assert f"log-loss {row.log_loss:.4f} ({ends.low:.4f}-{ends.high:.4f})" in text
    assert [part.n for part in result.run.fold_table[0]] == [32] * 5


def test_two_folds_leave_a_head_uncalibrated_and_it_is_said(two_sets) -> None:
    rows: Rows = two_sets(60)
    options = {"knn": {"n_neighbors": [1, 5]}}
    result = evaluate_rows(
        rows, ["ridge", "rbf-svm", "logistic", "knn"], ["audio"], [],
        make_folds(rows.codes, 2), options=options,
    )  # fmt: skip
    notes = {line.head: line.notes for line in result.leaderboard}
    start = "two folds leave none to hold out inside: "
    plain = f"{start}its probabilities are not calibrated; use 3 or more"
    assert notes["ridge"] == notes["rbf-svm"] == (plain,)
    assert notes["knn"] == (
        f"{start}the first of its options is taken, without a choice; use 3 or more",
    )
    assert notes["logistic"] == ()
    assert "its probabilities are not calibrated" in result.text(10_000)
    three = evaluate_rows(rows, ["ridge"], ["audio"], [], make_folds(rows.codes, 3))
    assert three.leaderboard[0].notes == ()


def test_a_class_that_no_head_could_learn_is_named(two_sets) -> None:
    rows: Rows = two_sets(80)
    fold = np.arange(80) // 4 % 4
    evaluated = partial(evaluate_rows, rows, ["lda"], ["audio"], [])
    assert evaluated(make_folds(rows.codes, "given", given=fold)).run.settings.notes == ()
    alone = np.where(rows.codes == 2, 1, fold)
    result = evaluated(make_folds(rows.codes, "given", given=alone))
    (note,) = result.run.settings.notes
    assert note == (
        "20 rows that no head can get right: class cat is in one fold alone; each row counts 36.0 "
        "in the log-loss"
    )
    assert note in result.text(10_000)
    row = result.leaderboard[0]
    assert row.per_class[2].errors == 20
    assert row.log_loss > 36.0 * 20 / 80
