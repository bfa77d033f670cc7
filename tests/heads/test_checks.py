"""Each automatic check fires where it should and stays silent where it should, and has its page."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import some_run

from headstock.heads import evaluate
from headstock.heads.evaluation import rules
from headstock.heads.evaluation.checks import CHECKS, checked
from headstock.heads.report.findings import check_lines
from headstock.heads.rows.times import as_times, date_columns

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


def share(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, **more}


def scores(n: int, errors: int, **more: Any) -> dict[str, Any]:
    return some_run.scores(some_run.line(n=n, errors=errors, **more))


ALIKE = {"clusters": 3, "rows": 9, "across_folds": 0, "across_splits": 0, "other_label": 0}


def by_group(low: float, high: float, groups: int) -> dict[str, Any]:
    return share(0.9, 0.85, 0.94, by_group={"low": low, "high": high, "groups": groups})


def of_class(n: int, errors: int) -> dict[str, Any]:
    return {"n": n, "errors": errors, "recall": 1 - errors / n, "precision": 0.9}


SYSTEM = {"name": "knn@image", "head": "knn", "on": "image", "fusion": None}
HEALTHY: dict[str, Any] = {
    "leaderboard": [
        some_run.line(
            "knn@image", 200, 20, accuracy=share(0.9, 0.85, 0.94),
            per_class=[of_class(100, 10), of_class(100, 10)], chance_p=0.001,
            calibration={"slope": share(0.98, 0.8, 1.2), "intercept": share(0, -0.1, 0.1)},
            test=scores(40, 5, accuracy=share(0.88, 0.73, 0.96)),
            chosen=[{"k": 5}, {"k": 5}],
            tried={"points": [{"k": 1}, {"k": 5}, {"k": 9}], "log_loss": []},
            notes=["kernels stand on landmarks"],
        ),
        some_run.line("lda@image", 200, 80, chance_p=0.001),
    ],
    "comparisons": [
        {
            "a": "knn@image", "b": "lda@image", "n": 200, "repeats": 1, "only_a_right": 70,
            "only_b_right": 10, "shared_errors": 10, "same_answer": 5, "mcnemar_p": 0.001,
            "accuracy_difference": share(0.3, 0.2, 0.4), "log_loss_difference": share(-1, -2, 0),
            "by": "rows", "adjusted_p": 0.001, "verdict": "better",
        }
    ],
    "selection": {
        "leader": "knn@image", "systems": 2, "apparent": 0.9, "nested": share(0.899, 0.84, 0.94),
        "optimism": 0.001, "wins": [["knn@image", 1.0]], "by": "groups",
    },
    "folds": {"kind": "stratified by group", "group": "speaker", "folds": 2},
    "fold_table": [[{"n": 100, "classes": [50, 50]}, {"n": 100, "classes": [50, 50]}]],
    "settings": {
        "rows": {
            "rows": 240, "train": 200, "valid": 0, "test": 40, "unlabelled": 0,
            "excluded_incomplete": 0, "sets": ["image"],
        }
    },
    "hygiene": {
        "exact": {"image": ALIKE}, "near": {"image": ALIKE},
        "groups": {
            "column": "speaker", "asked": True, "groups": 20, "across_folds": 0, "across_splits": 0
        },
        "looks": {
            "file": "f", "id": "i", "rows": 40, "shown": 1, "looks": 1, "systems": 1, "runs": []
        },
    },
}  # fmt: skip

Change = Callable[[dict[str, Any]], object]


def first(**fields: Any) -> Change:
    return lambda m: m["leaderboard"][0].update(fields)


def cluster(kind: str, key: str) -> Change:
    return lambda m: m["hygiene"][kind]["image"].update({key: 3})


def group(**fields: Any) -> Change:
    return lambda m: m["hygiene"]["groups"].update(fields)


def neighbours(nearest: float, second: float, p: float) -> Change:
    one = {"rows": 200, "nearest": nearest, "second": second, "p": p}
    return lambda m: m["hygiene"].update(neighbours={"image": one})


ILL: dict[str, Change] = {
    "HS01": first(balanced_accuracy=0.7),
    "HS02": first(chance_p=0.03),  # of two systems
    "HS03": first(per_class=[of_class(100, 10), of_class(12, 12)]),
    "HS04": first(per_class=[of_class(100, 10), of_class(9, 1)]),
    "HS05": lambda m: m["hygiene"].update(
        leaks=[{"set": "t", "feature": "diagnosis", "accuracy": 1.0, "guessing": 0.5, "rows": 9}]
    ),
    "HS06": cluster("near", "across_folds"),
    "HS07": cluster("exact", "across_splits"),
    "HS08": cluster("exact", "other_label"),
    "HS09": group(across_folds=4),
    "HS10": group(across_splits=4),
    "HS11": first(accuracy=by_group(0.5, 0.98, 5)),
    "HS12": lambda m: m["comparisons"][0].update(verdict="not distinguishable"),
    "HS13": first(calibration={"slope": share(0.6, 0.5, 0.7)}),
    "HS14": first(calibration={"slope": share(1.6, 1.5, 1.7)}),
    "HS15": lambda m: m["hygiene"]["looks"].update(looks=3),
    "HS16": first(test=scores(40, 16, accuracy=share(0.6, 0.5, 0.7))),
    "HS17": lambda m: m["hygiene"].update(seen={"image": 12}),
    "HS18": lambda m: m["settings"]["rows"].update(excluded_incomplete=7),
    "HS19": lambda m: m["fold_table"][0][0].update(classes=[100, 0]),
    "HS20": lambda m: m["fold_table"][0][0].update(n=30),
    "HS21": lambda m: m["settings"].update(dates=["taken"]),
    "HS22": lambda m: m["selection"].update(optimism=0.04),
    "HS23": lambda m: m.update(failed=[{**SYSTEM, "reason": "no"}]),
    "HS24": first(notes=["approximate: the members it learned from had seen the fold"]),
    "HS25": first(chosen=[{"k": 9}, {"k": 9}]),
    "HS26": lambda m: m["hygiene"].update(large={"a": [120]}),
    "HS27": neighbours(0.5, 0.3, 1e-9),
    "HS28": first(per_class=[of_class(190, 10), of_class(10, 2)]),
}
BARELY: dict[str, Change] = {
    "HS01": first(balanced_accuracy=0.81),
    "HS02": first(chance_p=0.02),
    "HS03": first(per_class=[of_class(100, 10), of_class(12, 11)]),
    "HS04": first(per_class=[of_class(100, 10), of_class(10, 1)]),
    "HS11": first(accuracy=by_group(0.8, 0.95, 10)),
    "HS13": first(calibration={"slope": share(0.95, 0.92, 0.98)}),  # sure, and no matter
    "HS14": first(calibration={"slope": share(1.6, 0.9, 2.3)}),  # far, and not sure
    "HS15": lambda m: m["hygiene"]["looks"].update(looks=2, systems=10),
    "HS16": first(test=scores(40, 12, accuracy=share(0.7, 0.55, 0.85))),
    "HS17": lambda m: m["hygiene"].update(seen={"image": 0}),
    "HS18": lambda m: m["settings"]["rows"].update(excluded_incomplete=7, missing={"image": 7}),
    "HS20": lambda m: m["fold_table"][0][0].update(n=50),
    "HS21": lambda m: (m["settings"].update(dates=["taken"]), m["folds"].update(kind="time")),
    "HS22": lambda m: m["selection"].update(optimism=0.02),
    "HS25": first(chosen=[{"k": 9}, {"k": 5}]),
    "HS26": lambda m: m["hygiene"].update(large={}),
    "HS27": neighbours(0.96, 0.93, 1e-9),
    "HS28": first(per_class=[of_class(188, 10), of_class(12, 2)]),
}
"""Cases close by in which a check has nothing to say."""


def codes_of(change: Change | None = None) -> list[str]:
    parts = copy.deepcopy(HEALTHY)
    if change is not None:
        change(parts)
    return [one.code for one in checked(some_run.run(parts.pop("leaderboard"), **parts)).checks]


def test_nothing_is_said_of_a_healthy_run_or_of_what_is_absent() -> None:
    assert codes_of() == []
    assert checked(some_run.run([some_run.line()])).checks == ()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_each_check_fires_alone_and_stays_silent(check) -> None:
    assert codes_of(ILL[check.code]) == [check.code]
    if check.code in BARELY:
        assert codes_of(BARELY[check.code]) == []


def page() -> str:
    """docs/checks.md, as the table of checks has it."""
    parts = ["# Checks", "", INTRODUCTION.strip(), ""]
    for check in CHECKS:
        parts += [f"## {check.code}: {check.title}", "", check.means, ""]
        parts += [f"*What to do:* {check.do}.", ""]
    return "\n".join(parts)


INTRODUCTION = """
Each evaluation is looked over for what is easily overlooked. What a check finds stands below the
leaderboard, in the report and in `metrics.json` under `checks`, with its code and what to do. A
check is no verdict: it says where to look. Each is shown by the tests to fire and to stay silent.
"""


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text("utf-8") == page()
    assert len({check.code for check in CHECKS}) == len(CHECKS) > 13


def test_a_run_says_what_it_found(tmp_path, make_store, two_sets) -> None:
    """Nine rows in ten of one class, dates, a test split looked at for the third time."""
    rows = two_sets(200, k=2, strength=0.0)
    labels = ["rare" if i % 10 == 0 else "usual" for i in range(200)]
    split = ["test" if i % 4 == 1 else "" for i in range(200)]
    days = {"taken": [f"2026-01-{1 + i % 28:02d}" for i in range(200)]}
    with make_store(tmp_path / "s.h5", rows, label=labels, split=split, group=days) as store:
        assert date_columns(store.items) == ["taken"]
        for _ in range(3):
            result = evaluate(store, ("lda",), ("image",), (), folds=3)
    codes = {one.code for one in result.run.checks}
    assert codes >= {"HS01", "HS02", "HS15", "HS21"}
    text = result.text()
    assert "check HS01, accuracy hides a rare class: accuracy 0." in text
    assert "judge by the balanced accuracy" in text
    assert len(check_lines(result.run)) == len(codes)


def test_dates_are_told_from_numbers_and_words() -> None:
    told = as_times(["2026-03-01", "2026/03/01", "2026-03-01T00:00:00+01:00", "20260301", "1", ""])
    assert told[0] == told[1] == told[2] + 3600
    assert np.isnan(told[3:]).all()


def test_a_metric_that_sees_rare_classes_is_suggested_and_then_taken() -> None:
    """Who has named one is told of neither imbalance."""
    change = first(balanced_accuracy=0.7, per_class=[of_class(195, 10), of_class(10, 2)])
    parts = copy.deepcopy(HEALTHY)
    change(parts)
    lines = parts.pop("leaderboard")
    by = {one.code: one.found for one in checked(some_run.run(lines, **parts)).checks}
    assert list(by) == ["HS01", "HS28"]
    assert by["HS28"] == "95.1 % of the rows are a: try --metric average_precision:b"
    parts["settings"]["metric"] = ["average_precision:b"]
    assert checked(some_run.run(lines, **parts)).checks == ()


@pytest.mark.parametrize(("p", "fires"), [(0.001, False), (0.002, True)])
def test_many_systems_alone_do_not_make_the_first_a_guess(p: float, fires: bool) -> None:
    """Permutations give no p below .001, and 101 times that is above .05 however good it is."""
    run: Any = SimpleNamespace(leaderboard=[SimpleNamespace(chance_p=p)] * 101)
    assert bool(rules._guessing(run)) == fires
