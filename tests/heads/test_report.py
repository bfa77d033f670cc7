"""The leaderboard as text: one table, whatever the width."""

from __future__ import annotations

import json

import pytest

from headstock.heads import evaluate
from headstock.heads.report.fit_command import fit_words
from headstock.heads.report.text import (
    DROPPED,
    cells_of,
    leaderboard_text,
    saved_metrics,
    text_table,
)
from headstock.store.errors import HeadError, OptionError


@pytest.fixture
def metrics(tmp_path, rows, make_store):
    split = ["test" if i % 4 == 0 else "train" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        return evaluate(
            store, ("lda", "knn"), fusions=("mean", "stacked"), folds=3, test_scores="all"
        ).to_json()


def table_of(text: str) -> list[list[str]]:
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("----"))
    end = next((i for i in range(at, len(lines)) if not lines[i]), len(lines))
    return [line.split() for line in [lines[at - 1], *lines[at + 1 : end]]]


def test_every_system_stands_once_with_its_test_score(metrics) -> None:
    text = leaderboard_text(metrics)
    _header, *rows = table_of(text)
    *rows, guess = rows
    assert len(rows) == len(metrics["leaderboard"]) == 9
    assert guess[:3] == ["guessing", "-", "-"]
    assert f"{metrics['baseline']['test']['errors']}/40" in guess
    assert text.count("\n---") == 1
    for cells, row in zip(rows, metrics["leaderboard"]):
        assert cells[0] == row["head"]
        assert f"{row['accuracy']['value']:.4f}" in cells
        assert f"{row['test']['accuracy']['value']:.4f}" in cells
        assert f"{row['test']['errors']}/40" in cells
    assert "test split, 40 rows: scored by the refit on all others" in text


@pytest.mark.parametrize("width", [40, 55, 70, 80, 100, 120, 200])
def test_it_fits(metrics, width: int) -> None:
    text = leaderboard_text(metrics, width)
    assert max(map(len, text.splitlines())) <= width
    header = text.split("\n----", maxsplit=1)[0].splitlines()[-1]
    assert "head" in header
    assert "accuracy" in header


def test_columns_go_in_the_stated_order(metrics) -> None:
    there = [name for name in DROPPED if name in cells_of(metrics)[0]]

    def gone(width: int) -> list[str]:
        header = leaderboard_text(metrics, width).split("\n----", maxsplit=1)[0].splitlines()[-1]
        header = f"  {header}  "
        return [name for name in there if f"  {name}  " not in header]

    before: list[str] = []
    for width in range(130, 39, -1):
        now = gone(width)
        assert now == there[: len(now)]
        assert len(now) >= len(before)
        before = now
    assert before  # 40 columns do not hold all


def test_long_names_are_cut_last() -> None:
    rows = [["x" * 50, "0.5"], ["short", "0.25"]]
    text = text_table(["name", "value"], rows, 40)
    assert next(len(line) for line in text.splitlines()) <= 40
    assert "x" * 30 in text
    assert "…" in text
    assert "0.25" in text
    whole = text_table(["name", "value"], rows)
    assert "x" * 50 in whole


def test_systems_not_distinguishable_are_marked(metrics) -> None:
    text = leaderboard_text(metrics, None, lambda line: f"*{line}*")
    marked = [line for line in text.splitlines() if line.startswith("*")]
    same = {c["b"] for c in metrics["comparisons"] if c["verdict"] != "better"}
    assert len(marked) == 1 + len(same) < len(metrics["leaderboard"])


def test_the_hint_fits_what_was_scored(metrics) -> None:
    rows = {row["name"]: row for row in metrics["leaderboard"]}
    assert fit_words("f.h5", rows["lda@image"]) == [
        *("fit", "f.h5", "--head", "lda", "--on", "image", "-o", "model.headstock")
    ]
    words = fit_words("f.h5", rows["all@image+audio:stacked"])
    assert words[2:6] == ["--head", "lda", "--head", "knn"]
    assert words[-4:-2] == ["--fusion", "stacked"]


def test_the_hint_takes_over_what_the_run_was_made_with() -> None:
    row = {"head": "knn", "on": "image", "fusion": None}
    made = {
        "settings": {
            "seed": 3, "missing": "exclude", "dedupe": "keep", "on": ["image", "image+audio"],
            "options": {"knn": {"neighbours": "2..20", "draws": 4}, "lda": {"shrinkage": 0.1}},
        },
        "folds": {"kind": "stratified by group", "group": "hand", "folds": 4, "repeats": 1},
    }  # fmt: skip
    start = ["fit", "f.h5", "--head", "knn", "--on", "image"]
    start += ["--set", "knn.neighbours=2..20", "--set", "knn.draws=4"]
    start += ["--seed", "3", "--missing", "exclude", "--dedupe", "keep"]
    end = ["-o", "model.headstock"]
    apart = ["--folds", "4", "--group", "hand"]  # its rows may be more than the plan's
    assert fit_words("f.h5", row, made, "runs/a") == [*start, *apart, *end]
    plan = ["--folds", "runs/a/folds.json"]
    whole = {**row, "on": "image+audio"}
    assert fit_words("f.h5", whole, made, "runs/a")[-4:] == [*plan, *end]
    assert fit_words("f.h5", whole, made)[-6:] == [*apart, *end]
    made["folds"]["repeats"] = 2
    assert fit_words("f.h5", whole, made, "runs/a")[-6:] == [*apart, *end]
    made["folds"] |= {"kind": "given", "group": "take"}
    assert fit_words("f.h5", whole, made)[-4:] == ["--folds", "given:take", *end]
    made["folds"] |= {"kind": "group-out", "group": "hand"}
    assert fit_words("f.h5", whole, made)[-6:] == ["--folds", "group-out", "--group", "hand", *end]


def test_a_note_that_many_systems_share_is_one_line(metrics) -> None:
    for row in metrics["leaderboard"][:4]:
        row["notes"] = ["approximate: so it is"]
    metrics["leaderboard"][5]["notes"] = ["something else"]
    a, b, *_, other = (row["name"] for row in metrics["leaderboard"][:6])
    notes = [line for line in leaderboard_text(metrics).splitlines() if line.startswith("note:")]
    assert notes == [
        f"note: {a}, {b} and 2 more: approximate: so it is", f"note: {other}: something else"
    ]  # fmt: skip


def test_what_cannot_be_read_is_one_line(tmp_path) -> None:
    with pytest.raises(OptionError, match="is no run folder"):
        saved_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(HeadError, match="cannot be read"):
        saved_metrics(tmp_path)
    odd = {"head": 3, "on": "b", "accuracy": {"value": 0.5, "low": 0, "high": 1}}
    for body in (
        {},
        {"leaderboard": []},
        {"leaderboard": [odd]},
        {"leaderboard": [{}]},
        {"leaderboard": 3},
        [1],
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(body))
        with pytest.raises(HeadError, match="is no leaderboard"):
            saved_metrics(tmp_path)


def test_terminals_get_no_escapes_from_data(metrics) -> None:
    evil = json.loads(json.dumps(metrics))
    evil["leaderboard"][0]["head"] = "\x1b[31mred\x1b[0m"
    assert "\x1b" not in leaderboard_text(evil)
