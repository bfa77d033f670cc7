"""The leaderboard as text: one table, whatever the width."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import some_run

from headstock.heads import evaluate
from headstock.heads.report.fit_command import fit_words
from headstock.heads.report.text import DROPPED, cells_of, leaderboard_text, text_table
from headstock.heads.run.folder import body_of, read_run, write_run
from headstock.heads.run.run import Run
from headstock.store.errors import HeadError, OptionError, VersionError


@pytest.fixture
def run(tmp_path, rows, make_store):
    split = ["test" if i % 4 == 0 else "train" for i in range(len(rows))]
    with make_store(tmp_path / "s.h5", rows, split=split) as store:
        return evaluate(
            store, ("lda", "knn"), fusions=("mean", "stacked"), folds=3, test_scores="all"
        ).run


def table_of(text: str) -> list[list[str]]:
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("----"))
    end = next((i for i in range(at, len(lines)) if not lines[i]), len(lines))
    return [line.split() for line in [lines[at - 1], *lines[at + 1 : end]]]


def test_every_system_stands_once_with_its_test_score(run) -> None:
    text = leaderboard_text(run)
    _header, *rows = table_of(text)
    *rows, guess = rows
    assert len(rows) == len(run.leaderboard) == 9
    assert guess[:3] == ["guessing", "-", "-"]
    assert f"{run.baseline.test.errors}/40" in guess
    assert text.count("\n---") == 1
    for cells, row in zip(rows, run.leaderboard):
        assert cells[0] == row.head
        assert f"{row.accuracy.value:.4f}" in cells
        assert f"{row.test.accuracy.value:.4f}" in cells
        assert f"{row.test.errors}/40" in cells
    assert "test split, 40 rows: scored by the refit on all others" in text


@pytest.mark.parametrize("width", [40, 55, 70, 80, 100, 120, 200])
def test_it_fits(run, width: int) -> None:
    text = leaderboard_text(run, width)
    assert max(map(len, text.splitlines())) <= width
    header = text.split("\n----", maxsplit=1)[0].splitlines()[-1]
    assert "head" in header
    assert "accuracy" in header


def test_columns_go_in_the_stated_order(run) -> None:
    there = [name for name in DROPPED if name in cells_of(run)[0]]

    def gone(width: int) -> list[str]:
        header = leaderboard_text(run, width).split("\n----", maxsplit=1)[0].splitlines()[-1]
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


def test_systems_not_distinguishable_are_marked(run) -> None:
    text = leaderboard_text(run, None, lambda line: f"*{line}*")
    marked = [line for line in text.splitlines() if line.startswith("*")]
    same = {c.b for c in run.comparisons if c.differs is False}
    assert len(marked) == 1 + len(same) < len(run.leaderboard)


def test_the_hint_fits_what_was_scored(run) -> None:
    rows = {row.name: row for row in run.leaderboard}
    assert fit_words("f.h5", rows["lda@image"], run) == [
        *("fit", "f.h5", "--head", "lda", "--on", "image", "--folds", "3", "-o", "model.headstock")
    ]
    words = fit_words("f.h5", rows["all@image+audio:stacked"], run)
    assert words[2:6] == ["--head", "lda", "--head", "knn"]
    assert words[-6:-4] == ["--fusion", "stacked"]


def test_the_hint_takes_over_what_the_run_was_made_with() -> None:
    settings = {
        "seed": 3, "missing": "exclude", "dedupe": "keep", "on": ["image", "image+audio"],
        "options": {"knn": {"n_neighbors": "2..20", "draws": 4}, "lda": {"shrinkage": 0.1}},
    }  # fmt: skip
    folds = {"kind": "stratified by group", "group": "hand", "folds": 4}

    def made(**other: object) -> Run:
        lines = [some_run.line("knn@image"), some_run.line("knn@image+audio", fusion="early")]
        return some_run.run(lines, settings=settings, folds={**folds, **other})

    row, whole = made().leaderboard
    start = ["fit", "f.h5", "--head", "knn", "--on", "image"]
    start += ["--set", "knn.n_neighbors=2..20", "--set", "knn.draws=4"]
    start += ["--seed", "3", "--missing", "exclude", "--dedupe", "keep"]
    end = ["-o", "model.headstock"]
    apart = ["--folds", "4", "--group", "hand"]  # its rows may be more than the plan's
    assert fit_words("f.h5", row, made(), "runs/a") == [*start, *apart, *end]
    plan = ["--folds", "runs/a/folds.json"]
    assert fit_words("f.h5", whole, made(), "runs/a")[-4:] == [*plan, *end]
    assert fit_words("f.h5", whole, made())[-6:] == [*apart, *end]
    assert fit_words("f.h5", whole, made(repeats=2), "runs/a")[-6:] == [*apart, *end]
    given = made(kind="given", group="take")
    assert fit_words("f.h5", whole, given)[-4:] == ["--folds", "given:take", *end]
    assert fit_words("f.h5", whole, made(kind="group-out"))[-6:] == [
        "--folds",
        "group-out",
        "--group",
        "hand",
        *end,
    ]


def test_a_note_that_many_systems_share_is_one_line(run) -> None:
    notes = [("approximate: so it is",)] * 4 + [(), ("something else",)] + [()] * 3
    board = [replace(line, notes=n) for line, n in zip(run.leaderboard, notes, strict=True)]
    a, b, *_, other = (line.name for line in board[:6])
    text = leaderboard_text(replace(run, leaderboard=tuple(board)))
    assert [line for line in text.splitlines() if line.startswith("note:")] == [
        f"note: {a}, {b} and 2 more: approximate: so it is", f"note: {other}: something else"
    ]  # fmt: skip


def test_what_cannot_be_read_is_one_line(tmp_path) -> None:
    with pytest.raises(OptionError, match="is no run folder"):
        read_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(HeadError, match="cannot be read"):
        read_run(tmp_path)
    whole = body_of(some_run.run([some_run.line()]))
    (line,) = whole["leaderboard"]
    cases = {
        "is no run of this headstock; evaluate again": [[1], {}, {**whole, "format": "x"}],
        "leaderboard is missing": [{k: v for k, v in whole.items() if k != "leaderboard"}],
        "leaderboard has no line": [{**whole, "leaderboard": []}],
        "leaderboard is 3 and not a list": [{**whole, "leaderboard": 3}],
        r"leaderboard\[0\].n is missing": [
            {**whole, "leaderboard": [{k: v for k, v in line.items() if k != "n"}]}
        ],
        r"leaderboard\[0\].head is 3 and not text": [
            {**whole, "leaderboard": [{**line, "head": 3}]}
        ],
        r"leaderboard\[0\].accuracy.low is 'x' and not a number": [
            {**whole, "leaderboard": [{**line, "accuracy": {**line["accuracy"], "low": "x"}}]}
        ],
        r"leaderboard\[0\].score is not known": [{**whole, "leaderboard": [{**line, "score": 1}]}],
    }
    for message, bodies in cases.items():
        for body in bodies:
            (tmp_path / "metrics.json").write_text(json.dumps(body))
            with pytest.raises(HeadError, match=f"metrics.json: {message}"):
                read_run(tmp_path)
    for version in (2, "1", None, True):
        (tmp_path / "metrics.json").write_text(json.dumps({**whole, "version": version}))
        with pytest.raises(VersionError, match=r"is a run of version .*, and this .* reads 1"):
            read_run(tmp_path)


def test_a_run_is_read_as_it_was_written(run, tmp_path) -> None:
    write_run(tmp_path / "run", run, {"a.txt": "a"})
    back = read_run(tmp_path / "run")
    assert replace(back, files={}) == run
    assert list(back.files) == ["a.txt"]


def test_terminals_get_no_escapes_from_data(run) -> None:
    first, *others = run.leaderboard
    evil = replace(first, head="\x1b[31mred\x1b[0m")
    assert "\x1b" not in leaderboard_text(replace(run, leaderboard=(evil, *others)))
